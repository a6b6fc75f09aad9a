//! The store in a PostgreSQL schema: any number of nodes share it and act as one. The rules are functions in the
//! database (`sql/`), one for each operation and one round trip each; this side encodes, decodes, and says what
//! a failure means.

mod claims;
mod codec;
mod config;
mod connect;
mod hints;
mod many;
mod migrate;
mod pool;
mod queues;
mod rows;
mod tls;
mod topics;

pub use config::{PostgresConfig, SCHEMA};

use crate::clock::{Clock, Moment};
use crate::counts::Counts;
use crate::gather::{Gather, Measure};
use crate::hub::Hub;
use config::Target;
use parking_lot::Mutex;
use pool::{Does, Pool, Values};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Row;
use turnwise_core::limits::{BATCH_ITEMS_MAX, TICK_ITEMS_MAX};
use turnwise_core::{Epoch, ItemResult, NewEvent, Position, Receipt, Result, Store, Timestamp};

/// A store in PostgreSQL.
pub struct PostgresStore {
    inner: Arc<Inner>,
    claims: Gather<claims::Claims>,
    enqueues: Gather<queues::Enqueues>,
    settles: Gather<queues::Settles>,
    appends: Gather<topics::Appends>,
    tasks: Mutex<JoinSet<()>>,
}

/// What all operations need.
struct Inner {
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    hints: hints::Sender,
    /// When counters of sessions that are over were last added up.
    folded: Mutex<Option<Moment>>,
}

/// Steps of enqueues, and of settlements, on their way at once.
const STEPS_MAX: usize = 2;
/// Steps of claims on their way at once: they never wait for others, and two would look for the same heads.
const CLAIM_STEPS_MAX: usize = 1;
/// Bytes of small calls that are gathered into one step.
const GATHERED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Counters of sessions that are over are added up no oftener than this.
const FOLD_INTERVAL: Duration = Duration::from_secs(60);

impl PostgresStore {
    /// Connects, refuses a server that does not keep what it acknowledges, makes or upgrades the tables. Time
    /// is the server's, unless a test passes a clock.
    ///
    /// # Errors
    /// `Invalid` for a URL or server that will not do; `Unavailable` when the server cannot be reached.
    pub async fn open(url: &str, config: PostgresConfig, clock: Option<Clock>) -> Result<Arc<PostgresStore>> {
        let mut target = Target::new(url, &config.schema)?;
        target.config.tcp_user_timeout(config.call_timeout);
        let pool = Arc::new(Pool::new(target, config, clock));
        pool.start().await?;
        let hub = Arc::new(Hub::default());
        let (hints, tasks) = hints::start(&pool, &hub);
        let patience = pool.config.call_timeout;
        let measure = Measure {
            server: "PostgreSQL",
            steps: STEPS_MAX,
            weight: BATCH_ITEMS_MAX,
            bytes: GATHERED_BYTES_MAX,
            patience,
        };
        let of_claims = Measure { steps: CLAIM_STEPS_MAX, ..measure };
        let inner = Arc::new(Inner { pool, hub, hints, folded: Mutex::default() });
        Ok(Arc::new(PostgresStore {
            claims: Gather::new(claims::Claims(Arc::clone(&inner)), of_claims),
            enqueues: Gather::new(queues::Enqueues(Arc::clone(&inner)), measure),
            settles: Gather::new(queues::Settles(Arc::clone(&inner)), measure),
            appends: Gather::new(topics::Appends(Arc::clone(&inner)), measure),
            inner,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Why the server promises less than the default, if it does and that was allowed.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        self.inner.pool.weak()
    }

    /// What time it is at the server.
    ///
    /// # Errors
    /// `Unavailable` when it does not say.
    pub async fn time(&self) -> Result<Timestamp> {
        let rows = self.inner.read_call("SELECT tw_now($1)", &[&self.inner.pool.now()]).await?;
        rows::single(&rows).map(Timestamp)
    }

    /// How often the server came back without writes it had acknowledged, since this node started.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.inner.pool.counts.losses()
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.inner.pool.counts)
    }

    /// Ends all connections and tasks.
    pub fn close(&self) {
        self.tasks.lock().abort_all();
        self.claims.close();
        self.enqueues.close();
        self.settles.close();
        self.appends.close();
        self.inner.pool.close();
        self.inner.hub.close();
    }
}

impl Inner {
    async fn read_call(&self, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>> {
        self.pool.call(Does::Read, sql, values).await
    }

    async fn write_call(&self, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>> {
        self.pool.call(Does::Write, sql, values).await
    }

    /// Notices what time has brought. What a tick that is not answered did, time would have done anyway.
    async fn tick(&self) -> Result<()> {
        let limit = i32::try_from(TICK_ITEMS_MAX).unwrap_or(i32::MAX);
        let rows = self.pool.call(Does::Read, "SELECT tw_tick($1, $2)", &[&self.pool.now(), &limit]).await?;
        self.hints.all(rows::single(&rows)?);
        Ok(())
    }

    /// Whether it is time to add counters up; then it is done.
    fn fold_is_due(&self) -> bool {
        let mut folded = self.folded.lock();
        let due = folded.is_none_or(|at| at.elapsed() >= FOLD_INTERVAL);
        if due {
            *folded = Some(Moment::now());
        }
        due
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        self.append_for(Some(holder.clone()), batch).await
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.inner.pool.epoch())
    }
}

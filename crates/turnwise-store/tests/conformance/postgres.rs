//! PostgreSQL as the suite opens and crashes it: a private server for each test, a schema for each store.

use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turnwise_core::Store;
use turnwise_store::postgres::{PostgresConfig, PostgresStore};
use turnwise_testkit::harness::HangSwitch;
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::{Harness, ManualClock};

/// A store on a server that may hang gives up after this long.
const IMPATIENCE: Duration = Duration::from_millis(400);

/// `postgres`: a crash kills all of the server's processes, and the server starts again on what they left.
pub(crate) struct PrivatePostgres {
    clock: ManualClock,
    server: Arc<Postgres>,
    stores: AtomicU64,
    opened: Mutex<Vec<Arc<PostgresStore>>>,
}

impl PrivatePostgres {
    /// On a server of its own; `None` where PostgreSQL is not installed.
    pub(crate) fn start() -> Option<PrivatePostgres> {
        let server = Arc::new(Postgres::start()?);
        Some(PrivatePostgres {
            clock: ManualClock::new(),
            server,
            stores: AtomicU64::new(0),
            opened: Mutex::default(),
        })
    }

    async fn join(&self, config: PostgresConfig) -> Arc<dyn Store> {
        let url = self.server.url(&format!("store_{}", self.stores.load(Ordering::SeqCst)));
        let clock = Some(self.clock.reader());
        let store = PostgresStore::open(&url, config, clock).await.expect("the server takes a store");
        self.opened.lock().unwrap().push(Arc::clone(&store));
        store
    }

    async fn connect(&self, config: PostgresConfig) -> Arc<dyn Store> {
        self.opened.lock().unwrap().drain(..).for_each(|old| old.close());
        self.join(config).await
    }

    async fn fresh(&self, config: PostgresConfig) -> Arc<dyn Store> {
        self.stores.fetch_add(1, Ordering::SeqCst);
        self.connect(config).await
    }
}

#[async_trait]
impl Harness for PrivatePostgres {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.fresh(PostgresConfig::default()).await
    }

    async fn crash_and_reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.server.server().restart();
        drop(store);
        self.connect(PostgresConfig::default()).await
    }

    async fn open_another(&self) -> Option<Arc<dyn Store>> {
        Some(self.join(PostgresConfig::default()).await)
    }

    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str> {
        let config = PostgresConfig {
            call_timeout: IMPATIENCE,
            connect_timeout: IMPATIENCE,
            ..PostgresConfig::default()
        };
        let store = self.fresh(config).await;
        let server = Arc::clone(&self.server);
        Ok((store, Box::new(move |hangs| server.server().freeze(hangs))))
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }

    fn keeps_lazy_leases(&self) -> bool {
        true
    }
}

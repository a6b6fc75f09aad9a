//! The store on a Redis server, which several nodes share: one script for each operation, in one step on the
//! server. What the scripts do is what `turnwise_core::machine` says.

mod codec;
mod config;
mod hints;
mod link;
mod original;
mod pack;
mod pool;
mod queues;
mod scripts;
mod start;
mod topics;

pub use config::RedisConfig;
pub use original::{Original, Waiting};
pub use start::Found;

use crate::clock::{Clock, Moment};
use crate::counts::Counts;
use crate::gather::{Gather, Measure, Step};
use crate::hub::Hub;
use async_trait::async_trait;
use bytes::Bytes;
use codec::corrupt;
use hints::Alarm;
use parking_lot::Mutex;
use pool::{Pool, Reply};
use redis::Value;
use scripts::Script;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use turnwise_core::{Epoch, ItemResult, NewEvent, Position, Receipt, Result, Store, StoreError, Timestamp};

/// A store on Redis.
pub struct RedisStore {
    core: Arc<Core>,
    enqueues: Gather<Scripted>,
    claims: Gather<Scripted>,
    settlements: Gather<Scripted>,
    appends: Gather<Scripted>,
    tasks: Mutex<JoinSet<()>>,
}

/// What operations need.
struct Core {
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    alarm: Arc<Alarm>,
    /// An answer got lost: whom it would have woken is looked for.
    missed: Arc<Notify>,
    call_timeout: Duration,
}

impl RedisStore {
    /// Opens `redis://[user:password@]host[:port][,host…][/database]`, or `rediss://` for encrypted connections, with
    /// `?sslrootcert=<file>` to trust other certificates than this machine does. With a clock that clock is the time,
    /// else the server's own is: only tests bring one.
    ///
    /// # Errors
    /// `Invalid` for a wrong URL or namespace, or a server that keeps less than the configuration asks for;
    /// `Unavailable` when it cannot be reached.
    pub async fn open(url: &str, config: RedisConfig, clock: Option<Clock>) -> Result<Arc<RedisStore>> {
        let call_timeout = config.call_timeout;
        let pool = Arc::new(Pool::new(url, &config, clock)?);
        start::check(&pool).await?;
        let (hub, alarm) = (Arc::new(Hub::default()), Arc::new(Alarm::default()));
        let mut tasks = JoinSet::new();
        let missed = Arc::new(Notify::new());
        tasks.spawn(hints::listen(Arc::clone(&pool), Arc::clone(&hub), Arc::clone(&missed)));
        tasks.spawn(hints::watch_time(Arc::clone(&pool), Arc::clone(&hub), Arc::clone(&alarm)));
        let core = Arc::new(Core { pool, hub, alarm, missed, call_timeout });
        let measure = Measure {
            server: "Redis",
            steps: config::STEPS_MAX,
            weight: config::SCRIPT_ITEMS_MAX,
            bytes: config::GATHERED_BYTES_MAX,
            patience: call_timeout,
        };
        let gather = |script, before: Vec<Vec<u8>>| {
            Gather::new(Scripted { core: Arc::clone(&core), script, before }, measure)
        };
        let enqueues = gather(scripts::ENQUEUE, Vec::new());
        let claims = gather(scripts::CLAIM, vec![queues::claim_bytes()]);
        let settlements = gather(scripts::SETTLE, Vec::new());
        let appends = gather(scripts::APPEND, vec![holder_argument(None)]);
        let tasks = Mutex::new(tasks);
        Ok(Arc::new(RedisStore { enqueues, claims, settlements, appends, tasks, core }))
    }

    /// What the server said of how it keeps what it acknowledges, when it was last connected to.
    #[must_use]
    pub fn found(&self) -> Found {
        self.core.pool.found()
    }

    /// What time it is at the server.
    ///
    /// # Errors
    /// `Unavailable` when it does not say.
    pub async fn time(&self) -> Result<Timestamp> {
        start::time(&self.core.pool).await
    }

    /// How often the server came back without writes it had acknowledged, since this node started.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.core.pool.counts.losses()
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.core.pool.counts)
    }

    /// Ends every connection and stream; nothing is buffered.
    pub fn close(&self) {
        self.tasks.lock().abort_all();
        for gather in [&self.enqueues, &self.claims, &self.settlements, &self.appends] {
            gather.close();
        }
        self.core.hub.close();
        self.core.pool.close();
    }

    async fn run(&self, script: Script, arguments: &[impl AsRef<[u8]> + Sync]) -> Result<Reply> {
        self.core.run(script, arguments).await
    }

    /// Runs a batch, together with others if it is small; `answer` reads one answer of each item.
    async fn run_together<T>(
        &self,
        gather: &Gather<Scripted>,
        items: Vec<Vec<u8>>,
        answer: impl Fn(u64, &Value) -> Result<ItemResult<T>>,
    ) -> Result<Vec<ItemResult<T>>> {
        let (weight, bytes) = (items.len(), items.iter().map(Vec::len).sum());
        read_all(gather.call(items, weight, bytes).await?, answer)
    }

    /// Runs a batch by itself.
    async fn run_batch<T>(
        &self,
        script: Script,
        before: Vec<u8>,
        items: &[Vec<u8>],
        answer: impl Fn(u64, &Value) -> Result<ItemResult<T>>,
    ) -> Result<Vec<ItemResult<T>>> {
        let scripted = Scripted { core: Arc::clone(&self.core), script, before: vec![before] };
        read_all(scripted.run(items, self.core.call_timeout).await?, answer)
    }
}

/// The epoch, and what a script answered for an item.
type Answer = ItemResult<(u64, Value)>;

fn read_all<T>(
    answers: Vec<Answer>,
    read: impl Fn(u64, &Value) -> Result<ItemResult<T>>,
) -> Result<Vec<ItemResult<T>>> {
    let read = |answer: Answer| match answer {
        Ok((epoch, value)) => read(epoch, &value),
        Err(error) => Ok(Err(error)),
    };
    answers.into_iter().map(read).collect()
}

/// A script that takes any number of items.
struct Scripted {
    core: Arc<Core>,
    script: Script,
    /// Arguments before the items.
    before: Vec<Vec<u8>>,
}

#[async_trait]
impl Step for Scripted {
    type Item = Vec<u8>;
    type Answer = Answer;

    /// In as many steps on the server as the size of the items needs.
    async fn run(&self, items: &[Vec<u8>], limit: Duration) -> Result<Vec<Answer>> {
        sizes_fit(items)?;
        let deadline = Deadline { began: Moment::now(), limit };
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (step, behind) = rest.split_at(step_length(rest));
            rest = behind;
            let arguments: Vec<&[u8]> = self.before.iter().chain(step).map(Vec::as_slice).collect();
            let reply = match self.core.run_before(deadline, self.script, &arguments).await {
                Ok(reply) => reply,
                // Steps before this one are done, and their answers count.
                Err(error) if !answers.is_empty() => {
                    answers.extend(step.iter().map(|_| Err(error.clone())));
                    let not_sent = StoreError::Unavailable("an earlier part of the batch failed".into());
                    answers.extend(rest.iter().map(|_| Err(not_sent.clone())));
                    return Ok(answers);
                }
                Err(error) => return Err(error),
            };
            let values = array(reply.answer)?;
            if values.len() != step.len() {
                return Err(corrupt("answers"));
            }
            answers.extend(values.into_iter().map(|value| Ok((reply.epoch, value))));
        }
        Ok(answers)
    }
}

impl Core {
    /// Runs an operation, and passes on whom it gave something new.
    async fn run(&self, script: Script, arguments: &[impl AsRef<[u8]> + Sync]) -> Result<Reply> {
        self.run_within(self.call_timeout, script, arguments).await
    }

    /// When an operation that begins now is over, whatever it takes to do it.
    fn deadline(&self) -> Deadline {
        Deadline { began: Moment::now(), limit: self.call_timeout }
    }

    /// One step of an operation that has several.
    async fn run_before(
        &self,
        deadline: Deadline,
        script: Script,
        arguments: &[impl AsRef<[u8]> + Sync],
    ) -> Result<Reply> {
        let left = deadline.limit.saturating_sub(deadline.began.elapsed());
        if left.is_zero() {
            let what = format!("Redis needs more than {:?} for all of it", deadline.limit);
            return Err(StoreError::Unavailable(what));
        }
        self.run_within(left, script, arguments).await
    }

    /// The same in less time than a call may take.
    async fn run_within(
        &self,
        limit: Duration,
        script: Script,
        arguments: &[impl AsRef<[u8]> + Sync],
    ) -> Result<Reply> {
        // Whoever waits for nothing any more leaves no answer that says what was new.
        let mut unheard = Unheard { missed: &self.missed, is_heard: !script.changes };
        let told = self.pool.run(limit, script, arguments).await;
        unheard.is_heard |= !matches!(told, Err(StoreError::Unknown(_)));
        drop(unheard);
        let reply = told?;
        if !reply.hints.is_empty()
            && let Ok(hints) = codec::Hints::read(&reply.hints)
        {
            self.hub.publish_queues(&hints.queues);
            self.hub.publish_topics(&hints.topics);
        }
        if let Some(at) = reply.soonest {
            self.alarm.falls_due(at);
        }
        Ok(reply)
    }
}

/// When all steps of one operation are over.
#[derive(Clone, Copy)]
struct Deadline {
    began: Moment,
    limit: Duration,
}

/// A script whose answer may get lost, and with it who has something new.
struct Unheard<'a> {
    missed: &'a Notify,
    is_heard: bool,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if !self.is_heard {
            self.missed.notify_one();
        }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        self.append_for(holder, batch).await
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.core.pool.epoch())
    }
}

/// Nothing was stored of a step that failed, but perhaps of those before it.
fn once_begun(has_begun: bool, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(what) if has_begun => StoreError::Unknown(what),
        error => error,
    }
}

fn sizes_fit(items: &[Vec<u8>]) -> Result<()> {
    match items.iter().map(Vec::len).find(|bytes| *bytes > config::ITEM_BYTES_MAX) {
        Some(bytes) => Err(StoreError::Invalid(format!(
            "an item with its effects has {bytes} bytes, on Redis the limit is {}",
            config::ITEM_BYTES_MAX
        ))),
        None => Ok(()),
    }
}

/// How many items of a batch go into the next step: at least one.
fn step_length(items: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(config::SCRIPT_ITEMS_MAX).take_while(|item| {
        bytes += item.len();
        bytes <= config::SCRIPT_BYTES_MAX
    });
    fits.count().max(1)
}

/// A receipt as the first argument of an append; nothing for none.
fn holder_argument(holder: Option<&Receipt>) -> Vec<u8> {
    holder.map(codec::receipt_item).unwrap_or_default()
}

fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(corrupt("no list")),
    }
}

fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        _ => Err(corrupt("no bytes")),
    }
}

fn integer(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(corrupt("no number")),
    }
}

fn count<T: TryFrom<i64>>(value: &Value) -> Result<T> {
    T::try_from(integer(value)?).map_err(|_| corrupt("a number out of range"))
}

//! The store in a folder: one thread owns the machine and its file, callers
//! send it operations. One process at a time.

mod backend;
mod config;
mod disk;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod load;
mod log;
mod owner;
mod pages;
pub mod raw;
mod record;
mod rows;
mod scan;
mod space;
mod stats;
mod work;

pub use config::{Durability, EmbeddedConfig, FatalHook};

use crate::clock::{Clock, Moment};
use crate::front::{self, Class, Cost, Engine, Front};
use crate::hub::Hub;
use config::{OPERATION_UNITS, OPERATIONS_WAITING_MAX, UNIT_BYTES, WAITING_UNITS_MAX};
use log::{CommitFailed, DurableLog, Place, RedbLog, RedbSettings, Sync};
use owner::{Owner, PanicGuard};
use pages::Pages;
use parking_lot::Mutex;
use rows::Rows;
use space::Space;
use stats::Stats;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use turnwise_core::machine::{Bodies, Loader, Machine};
use turnwise_core::{Epoch, Result, StoreError, Timestamp};
use work::{Call, Command, Order};

/// A store in a folder.
pub type EmbeddedStore = Front<Embedded>;

/// The engine of [`EmbeddedStore`].
pub struct Embedded {
    orders: SyncSender<Order>,
    waiting: Arc<Semaphore>,
    hub: Arc<Hub>,
    stats: Arc<Stats>,
    epoch: Epoch,
    call_timeout: Duration,
    /// Closed by the owner thread when it ends.
    ended: Mutex<Option<Receiver<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be used or another process uses
    /// it, `Corrupt` when what is in it does not check out.
    pub fn open(folder: &Path, config: EmbeddedConfig, clock: Clock) -> Result<Arc<EmbeddedStore>> {
        let file = files::prepare(folder)?;
        let space = Space::new(folder.to_owned(), file.clone(), config.disk_reserve_bytes);
        start(Place::File(file), Some(space), config, clock)
    }

    /// Opens the store on a backend of redb's kind, for tests that break it.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_with_backend(
        backend: impl redb::StorageBackend,
        config: EmbeddedConfig,
        clock: Clock,
    ) -> Result<Arc<EmbeddedStore>> {
        start(Place::Backend(Box::new(backend)), None, config, clock)
    }

    /// Writes what is buffered and ends the owner thread; later calls are
    /// `Unavailable`. Blocks, for at most the call timeout.
    pub fn close(&self) {
        self.engine.close();
    }

    /// What the engine counts, for a scraper.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn turnwise_metrics::Source> {
        Arc::clone(&self.engine.stats) as Arc<dyn turnwise_metrics::Source>
    }

    /// Half of the latest commits took no longer than this.
    #[must_use]
    pub fn commit_p50(&self) -> Option<Duration> {
        self.engine.stats.commit_p50()
    }

    /// Bytes of all records, as of the last commit.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.engine.stats.live_bytes()
    }

    /// How many of each thing are in memory, for tests of what is left behind.
    ///
    /// # Errors
    /// When the store does not answer.
    #[doc(hidden)]
    pub async fn sizes(&self) -> Result<Vec<(&'static str, usize)>> {
        front::sizes(&self.engine).await
    }
}

fn start(
    place: Place,
    space: Option<Space>,
    config: EmbeddedConfig,
    clock: Clock,
) -> Result<Arc<EmbeddedStore>> {
    let settings = RedbSettings {
        cache_bytes: config.page_cache_bytes,
        quick_repair: config.quick_repair,
        check_on_open: config.check_on_open,
    };
    let (log, mut machine) = open_and_load(place, settings, &clock)?;
    let mut rows = Rows::new(Box::new(log), config.body_cache_bytes);
    machine.take_changes().into_iter().for_each(|change| rows.absorb(change));
    if rows.is_urgent() {
        rows.commit(Sync::Now).map_err(|failed| match failed {
            CommitFailed::NoSpace => StoreError::Unavailable("the disk is full".into()),
            CommitFailed::Fatal(what) => {
                StoreError::Unavailable(format!("the store's file cannot be written: {what}"))
            }
        })?;
    }
    let (epoch, hub, stats) = (machine.epoch(), Arc::new(Hub::default()), Arc::new(Stats::default()));
    let (orders, inbox) = sync_channel(OPERATIONS_WAITING_MAX + 1);
    let (alive, ended) = sync_channel::<()>(0);
    let (call_timeout, on_fatal) = (config.call_timeout, Arc::clone(&config.on_fatal));
    let owner = Owner::new(machine, rows, Arc::clone(&hub), clock, config, space, Arc::clone(&stats), inbox);
    std::thread::Builder::new()
        .name("turnwise-store".into())
        .spawn(move || {
            let _alive = alive;
            let _guard = PanicGuard(on_fatal);
            owner.run();
        })
        .map_err(|error| StoreError::Unavailable(format!("the store's thread cannot start: {error}")))?;
    let waiting = Arc::new(Semaphore::new(WAITING_UNITS_MAX as usize));
    let ended = Mutex::new(Some(ended));
    Ok(Arc::new(Front { engine: Embedded { orders, waiting, hub, stats, epoch, call_timeout, ended } }))
}

/// Opens the log and builds the machine. What was closed in order is known page
/// by page; anything else is checked as a whole first.
fn open_and_load(place: Place, settings: RedbSettings, clock: &Clock) -> Result<(RedbLog, Machine)> {
    if let Place::File(file) = &place
        && let Some(known) = files::break_seal(file)
    {
        match open_once(Place::File(file.clone()), settings, Some(known), clock) {
            Err(StoreError::Corrupt(why)) => {
                tracing::warn!(why, "the store is not as it was closed: the whole file is checked");
            }
            other => return other,
        }
    }
    open_once(place, settings, None, clock)
}

fn open_once(
    place: Place,
    settings: RedbSettings,
    known: Option<Pages>,
    clock: &Clock,
) -> Result<(RedbLog, Machine)> {
    let (started, closed_in_order) = (Moment::now(), known.is_some());
    let log = RedbLog::open(place, settings, known)?;
    let opened = started.elapsed();
    let machine = load(&log, clock)?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        live_bytes = log.live_bytes(),
        closed_in_order,
        check_ms = millis(opened),
        load_ms = millis(started.elapsed().saturating_sub(opened)),
        "the store is open"
    );
    Ok((log, machine))
}

/// The machine from what the log holds; a new one, with an epoch that no
/// earlier store had, if it holds nothing.
fn load(log: &RedbLog, clock: &Clock) -> Result<Machine> {
    let (mut loader, mut is_empty) = (Loader::default(), true);
    log.scan(&load::read, &mut |found| {
        is_empty = false;
        load::take(&mut loader, found)
    })?;
    if is_empty {
        return Ok(Machine::new(Epoch(u64::try_from(clock().0).unwrap_or(0))));
    }
    loader.finish()
}

const STOPPED: &str = "the store has stopped";

fn stopped() -> StoreError {
    StoreError::Unavailable(STOPPED.into())
}

impl Engine for Embedded {
    async fn call<T, F>(&self, cost: Cost, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Machine, Timestamp, &dyn Bodies) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let bytes = u32::try_from(cost.bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let units = bytes.saturating_add(OPERATION_UNITS).min(WAITING_UNITS_MAX);
        let mut sent = false;
        let answered = tokio::time::timeout(self.call_timeout, async {
            let room = Arc::clone(&self.waiting).acquire_many_owned(units);
            let permit = room.await.map_err(|_| stopped())?;
            let command = Command { cost, work: Box::new(Call::new(operation, reply)), permit };
            self.orders.try_send(Order::Run(command)).map_err(|_| stopped())?;
            sent = true;
            Ok(answer.await)
        });
        let why = match answered.await {
            Ok(Ok(Ok(result))) => return result,
            Ok(Err(not_sent)) => return Err(not_sent),
            Ok(Ok(Err(_))) => STOPPED,
            Err(_) if sent => "no answer in time",
            Err(_) => return Err(StoreError::Unavailable("too much waits for the disk".into())),
        };
        match cost.class {
            Class::Read => Err(StoreError::Unavailable(why.into())),
            Class::LazyClaim | Class::Change | Class::Grow => Err(StoreError::Unknown(why.into())),
        }
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Embedded {
    fn close(&self) {
        self.waiting.close();
        let Some(ended) = self.ended.lock().take() else { return };
        // The owner may have ended already; then there is nobody to tell.
        let _ = self.orders.try_send(Order::Stop);
        if ended.recv_timeout(self.call_timeout) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the store's thread did not end in time");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

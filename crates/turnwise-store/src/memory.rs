//! The store that lives as long as its process: the machine behind a lock,
//! bodies in a map. Same rules as `embedded`, nothing on disk.

use crate::clock::Clock;
use crate::front::{self, Cost, Engine, Front};
use crate::hub::Hub;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Duration;
use turnwise_core::limits::LIST_LIMIT_MAX;
use turnwise_core::machine::{Bodies, Change, Machine, Row, StoredChunk, StoredDedup, StoredMessage, Table};
use turnwise_core::{Epoch, Result, StoreError, Timestamp};

/// Longest sleep of the thread that hints at what time brings.
const NAP_MAX: Duration = Duration::from_secs(1);
/// Shortest one.
const NAP_MIN: Duration = Duration::from_millis(5);

/// A store in memory.
pub type MemoryStore = Front<Memory>;

/// The engine of [`MemoryStore`].
pub struct Memory {
    state: Arc<Mutex<State>>,
    hub: Arc<Hub>,
    clock: Clock,
    epoch: Epoch,
    alarm: Thread,
}

struct State {
    machine: Machine,
    bodies: MemoryBodies,
}

impl MemoryStore {
    /// An empty store on this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<MemoryStore> {
        let epoch = Epoch(u64::try_from(clock().0).unwrap_or(0));
        let state =
            Arc::new(Mutex::new(State { machine: Machine::new(epoch), bodies: MemoryBodies::default() }));
        let hub = Arc::new(Hub::default());
        let alarm = start_alarm(Arc::downgrade(&state), Arc::clone(&hub), Arc::clone(&clock));
        Arc::new(Front { engine: Memory { state, hub, clock, epoch, alarm } })
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

impl Engine for Memory {
    async fn call<T, F>(&self, _cost: Cost, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Machine, Timestamp, &dyn Bodies) -> Result<T> + Send + 'static,
    {
        let now = (self.clock)();
        let mut state = self.state.lock();
        let State { machine, bodies } = &mut *state;
        let due = machine.next_due();
        let answer = operation(machine, now, bodies);
        machine.take_changes().into_iter().for_each(|change| bodies.keep(change));
        let hints = machine.take_hints();
        let due_earlier = machine.next_due().is_some_and(|next| due.is_none_or(|due| next < due));
        drop(state);
        self.hub.publish_queues(&hints.queues);
        self.hub.publish_topics(&hints.topics);
        if due_earlier {
            self.alarm.unpark();
        }
        answer
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.hub.close();
        self.alarm.unpark();
    }
}

/// A thread that hints when something comes due; it ends with the store.
fn start_alarm(state: Weak<Mutex<State>>, hub: Arc<Hub>, clock: Clock) -> Thread {
    let watch = move || {
        let mut hinted = None;
        while let Some(state) = state.upgrade() {
            let state_now = state.lock();
            let due = state_now.machine.next_due();
            let now = clock();
            let is_due = due.is_some_and(|due| due <= now);
            let names = if is_due && due != hinted {
                state_now.machine.queues(None, LIST_LIMIT_MAX)
            } else {
                Vec::new()
            };
            drop(state_now);
            drop(state);
            hub.publish_queues(&names);
            hinted = due.filter(|_| is_due && !names.is_empty());
            let nap = due.filter(|_| !is_due).map_or(NAP_MAX, |due| due.since(now));
            std::thread::park_timeout(nap.clamp(NAP_MIN, NAP_MAX));
        }
    };
    match std::thread::Builder::new().name("turnwise-alarm".into()).spawn(watch) {
        Ok(thread) => thread.thread().clone(),
        Err(error) => {
            tracing::warn!(%error, "no thread for hints at what time brings; pollers notice it later");
            std::thread::current()
        }
    }
}

#[derive(Default)]
struct MemoryBodies {
    messages: HashMap<u64, Arc<StoredMessage>>,
    events: HashMap<u64, Arc<StoredChunk>>,
    dedups: HashMap<u64, Arc<StoredDedup>>,
}

impl MemoryBodies {
    fn keep(&mut self, change: Change) {
        match change {
            Change::Put { key, row: Row::Message(message), .. } => {
                self.messages.insert(key, message);
            }
            Change::Put { key, row: Row::Events(chunk), .. } => {
                self.events.insert(key, chunk);
            }
            Change::Put { key, row: Row::Dedup(known), .. } => {
                self.dedups.insert(key, known);
            }
            Change::Delete { table: Table::Dedup, key } => {
                self.dedups.remove(&key);
            }
            Change::Delete { table: Table::Message, key } => {
                self.messages.remove(&key);
            }
            Change::Delete { table: Table::Events, key } => {
                self.events.remove(&key);
            }
            Change::Put { .. } | Change::Delete { .. } => {}
        }
    }
}

impl Bodies for MemoryBodies {
    fn message(&self, seq: u64) -> Result<Arc<StoredMessage>> {
        let missing = || StoreError::Corrupt(format!("message {seq} is missing"));
        self.messages.get(&seq).cloned().ok_or_else(missing)
    }

    fn events(&self, seq: u64) -> Result<Arc<StoredChunk>> {
        let missing = || StoreError::Corrupt(format!("event record {seq} is missing"));
        self.events.get(&seq).cloned().ok_or_else(missing)
    }

    fn dedup(&self, row: u64) -> Result<Arc<StoredDedup>> {
        let missing = || StoreError::Corrupt(format!("dedup record {row} is missing"));
        self.dedups.get(&row).cloned().ok_or_else(missing)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let MemoryBodies { messages, events, dedups } = self;
        vec![
            ("bodies of messages", messages.len()),
            ("bodies of chunks", events.len()),
            ("bodies of keys", dedups.len()),
        ]
    }
}

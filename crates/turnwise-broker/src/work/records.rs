//! What was set for a queue: its policy, and whether it is paused. Kept as
//! events of one topic that every node folds: of each kind and queue the one
//! with the highest revision is in force. All of it is on disk: names are never
//! reused, fields never change meaning.

use super::WorkQueue;
use super::levels::WorkFull;
use super::policy::WorkPolicy;
use crate::error::BrokerError;
use crate::limits::{SET_EVENTS_PAGE, SET_EVENTS_STALE_MAX, SET_QUEUES_MAX};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;
use turnwise_core::{
    Kind, Name, NewEvent, Offset, QueueName, Read, ReadFrom, Store, StoreError, Timestamp, TopicName,
};

const POLICY: &str = "queue.policy";
const PAUSE: &str = "queue.pause";

#[derive(Serialize, Deserialize)]
struct PolicyRecord {
    org: String,
    queue: String,
    revision: i64,
    /// None: it has none of its own any more.
    policy: Option<WorkPolicy>,
}

#[derive(Serialize, Deserialize)]
struct PauseRecord {
    org: String,
    queue: String,
    revision: i64,
    /// Since when, in microseconds; none: it is not paused.
    since: Option<i64>,
}

/// What is set for one queue.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set {
    policy: Revised<WorkPolicy>,
    paused: Revised<i64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Revised<T> {
    revision: i64,
    value: Option<T>,
}

impl<T> Default for Revised<T> {
    fn default() -> Revised<T> {
        Revised { revision: i64::MIN, value: None }
    }
}

impl<T> Revised<T> {
    fn take(&mut self, revision: i64, value: Option<T>) {
        if revision >= self.revision {
            *self = Revised { revision, value };
        }
    }

    fn next_revision(&self, now: Timestamp) -> i64 {
        self.revision.saturating_add(1).max(now.0)
    }

    fn is_written(&self) -> bool {
        self.revision != i64::MIN
    }
}

#[derive(Default)]
struct Known {
    by_queue: BTreeMap<QueueName, Set>,
    read_to: Option<ReadFrom>,
    /// Events of the topic, as far as they were read.
    events: usize,
}

/// What is set for every queue, as this node knows it.
pub(crate) struct Records {
    topic: TopicName,
    known: Mutex<Known>,
    /// Held by whoever writes, so that two changes of this node have two revisions.
    writing: tokio::sync::Mutex<()>,
}

impl Records {
    pub(super) async fn load(store: &dyn Store) -> Result<Records, StoreError> {
        let topic = Name::new("", Kind::Sys, "queues")?;
        let records = Records { topic, known: Mutex::default(), writing: tokio::sync::Mutex::new(()) };
        records.catch_up(store).await?;
        Ok(records)
    }

    /// Reads what was set since, by this node or another.
    pub(crate) async fn catch_up(&self, store: &dyn Store) -> Result<(), StoreError> {
        loop {
            let from = self.known.lock().read_to.unwrap_or(ReadFrom::Earliest);
            match store.read(&self.topic, from, SET_EVENTS_PAGE).await? {
                Read::Events { events, next } => {
                    let mut known = self.known.lock();
                    // Two may read at once: what one has taken in, the other does not count again.
                    if known.read_to.unwrap_or(ReadFrom::Earliest) != from {
                        continue;
                    }
                    known.read_to = Some(ReadFrom::After(next));
                    known.events += events.len();
                    for event in &events {
                        known.take(&event.event_type, &event.data);
                    }
                    if events.is_empty() {
                        return Ok(());
                    }
                }
                // Written anew by another node, or a store that lost something: what is in force is behind it.
                Read::Gap { resume } => {
                    let mut known = self.known.lock();
                    known.read_to = Some(ReadFrom::After(resume));
                    known.events = 0;
                }
            }
        }
    }

    /// The policy in force.
    pub(crate) fn policy(&self, queue: &WorkQueue) -> WorkPolicy {
        let known = self.known.lock();
        known.by_queue.get(&queue.0).and_then(|set| set.policy.value.clone()).unwrap_or_default()
    }

    /// The same for a queue of the store.
    pub(crate) fn policy_of(&self, queue: &QueueName) -> WorkPolicy {
        self.policy(&WorkQueue(queue.clone()))
    }

    /// Since when a queue is paused.
    pub(super) fn paused_since(&self, queue: &WorkQueue) -> Option<Timestamp> {
        let known = self.known.lock();
        known.by_queue.get(&queue.0).and_then(|set| set.paused.value).map(Timestamp)
    }

    /// Queues of an organisation for which something is in force, by name, behind this one.
    pub(super) fn set_queues(&self, org: &str, after: &QueueName, limit: usize) -> Vec<QueueName> {
        let known = self.known.lock();
        let behind = known.by_queue.range::<QueueName, _>((Bound::Excluded(after), Bound::Unbounded));
        let own = behind.take_while(|(queue, _)| queue.org() == org);
        let in_force = own.filter(|(_, set)| set.policy.value.is_some() || set.paused.value.is_some());
        in_force.map(|(queue, _)| queue.clone()).take(limit).collect()
    }

    /// Sets a queue's policy, or takes its own one away.
    pub(super) async fn set_policy(
        &self,
        store: &dyn Store,
        now: Timestamp,
        queue: &WorkQueue,
        policy: Option<WorkPolicy>,
    ) -> Result<(), BrokerError> {
        let _writing = self.writing.lock().await;
        let set = self.before_change(store, queue).await?;
        if set.policy.value == policy {
            return Ok(());
        }
        let record = PolicyRecord {
            org: queue.org().to_owned(),
            queue: queue.name().to_owned(),
            revision: set.policy.next_revision(now),
            policy,
        };
        Ok(self.write(store, self.event(POLICY, &record)).await?)
    }

    /// Pauses a queue, or lets it go on; true if that changed anything.
    pub(super) async fn set_paused(
        &self,
        store: &dyn Store,
        now: Timestamp,
        queue: &WorkQueue,
        paused: bool,
    ) -> Result<bool, BrokerError> {
        let _writing = self.writing.lock().await;
        let set = self.before_change(store, queue).await?;
        if set.paused.value.is_some() == paused {
            return Ok(false);
        }
        let record = PauseRecord {
            org: queue.org().to_owned(),
            queue: queue.name().to_owned(),
            revision: set.paused.next_revision(now),
            since: paused.then_some(now.0),
        };
        self.write(store, self.event(PAUSE, &record)).await?;
        Ok(true)
    }

    /// What is set for a queue just now, if there is room for more.
    async fn before_change(&self, store: &dyn Store, queue: &WorkQueue) -> Result<Set, BrokerError> {
        self.catch_up(store).await?;
        let known = self.known.lock();
        if let Some(set) = known.by_queue.get(&queue.0) {
            return Ok(set.clone());
        }
        let own = known.by_queue.keys().filter(|other| other.org() == queue.org()).count();
        if own >= SET_QUEUES_MAX {
            return Err(BrokerError::WorkFull(WorkFull::SetQueues(SET_QUEUES_MAX as u64)));
        }
        Ok(Set::default())
    }

    fn event(&self, event_type: &str, record: &impl Serialize) -> NewEvent {
        let data = serde_json::to_vec(record).expect("plain structs with string keys always serialise");
        NewEvent {
            topic: self.topic.clone(),
            event_type: event_type.to_owned(),
            data: Bytes::from(data),
            dedup: None,
            keep_until: None,
        }
    }

    async fn write(&self, store: &dyn Store, event: NewEvent) -> Result<(), StoreError> {
        for answer in store.append(vec![event]).await? {
            answer?;
        }
        self.catch_up(store).await
    }

    /// Writes the topic anew when most of it is not in force any more. What others write meanwhile has a higher
    /// revision and wins.
    pub(crate) async fn tidy(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        self.catch_up(store).await?;
        let (anew, read_to) = {
            let known = self.known.lock();
            let anew: Vec<NewEvent> =
                known.by_queue.iter().flat_map(|(queue, set)| self.in_force(queue, set)).collect();
            if known.events.saturating_sub(anew.len()) <= SET_EVENTS_STALE_MAX {
                return Ok(());
            }
            (anew, known.read_to)
        };
        let Some(ReadFrom::After(last)) = read_to else { return Ok(()) };
        for page in anew.chunks(turnwise_core::limits::BATCH_ITEMS_MAX) {
            for answer in store.append(page.to_vec()).await? {
                answer?;
            }
        }
        store.trim(&self.topic, Offset(last.offset.0 + 1)).await?;
        self.known.lock().events = 0;
        self.catch_up(store).await
    }

    fn in_force(&self, queue: &QueueName, set: &Set) -> Vec<NewEvent> {
        let (org, queue) = (queue.org().to_owned(), queue.name().to_owned());
        let mut events = Vec::new();
        if set.policy.is_written() {
            let Revised { revision, value: policy } = set.policy.clone();
            let record = PolicyRecord { org: org.clone(), queue: queue.clone(), revision, policy };
            events.push(self.event(POLICY, &record));
        }
        if set.paused.is_written() {
            let Revised { revision, value: since } = set.paused.clone();
            events.push(self.event(PAUSE, &PauseRecord { org, queue, revision, since }));
        }
        events
    }
}

impl Known {
    /// Takes an event in; what a newer version wrote is passed over.
    fn take(&mut self, event_type: &str, data: &[u8]) {
        match event_type {
            POLICY => {
                if let Ok(record) = serde_json::from_slice::<PolicyRecord>(data)
                    && let Some(queue) = WorkQueue::new(&record.org, &record.queue)
                {
                    let set = self.by_queue.entry(queue.0).or_default();
                    set.policy.take(record.revision, record.policy);
                }
            }
            PAUSE => {
                if let Ok(record) = serde_json::from_slice::<PauseRecord>(data)
                    && let Some(queue) = WorkQueue::new(&record.org, &record.queue)
                {
                    let set = self.by_queue.entry(queue.0).or_default();
                    set.paused.take(record.revision, record.since);
                }
            }
            _ => {}
        }
    }
}

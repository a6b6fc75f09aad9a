//! The indexes in memory: one entry a message, lanes of keys, heads that may
//! be leased. Payloads are not here.

use crate::message::{MessageId, OrderingKey, Priority, Stage};
use crate::name::QueueName;
use crate::store::Depth;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::mutants::{Mutant, is_on};
use super::rows::{StoredMessage, StoredState};

/// What is kept in memory of one message.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    pub(super) queue: QueueName,
    pub(super) key: Option<OrderingKey>,
    pub(super) priority: Priority,
    pub(super) max_attempts: u32,
    pub(super) enqueued_at: Timestamp,
    pub(super) deliver_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) state: StoredState,
    /// The running lease dies with this process.
    pub(super) lease_lazy: bool,
}

impl Entry {
    pub(super) fn of(message: &StoredMessage) -> Entry {
        let stage = if message.deliver_at.is_some() { Stage::Scheduled } else { Stage::Ready };
        Entry {
            id: message.id,
            queue: message.queue.clone(),
            key: message.key.clone(),
            priority: message.priority,
            max_attempts: message.max_attempts,
            enqueued_at: message.enqueued_at,
            deliver_at: message.deliver_at,
            expires_at: message.expires_at,
            state: StoredState {
                attempt: 0,
                stage,
                place: message.id.seq(),
                not_before: None,
                token: None,
                lease_expires_at: None,
                reason: None,
                stop_requested: false,
            },
            lease_lazy: false,
        }
    }

    /// When a scheduled message joins its lane.
    pub(super) fn due_at(&self) -> Timestamp {
        self.deliver_at.unwrap_or(Timestamp::MIN)
    }

    fn rank(&self) -> Rank {
        let priority = if is_on(Mutant::PriorityIgnored) { 0 } else { self.priority.0 };
        (u8::MAX - priority, self.state.place, self.id.seq())
    }
}

/// Higher priority first, then earlier place.
type Rank = (u8, u64, u64);

/// One queue's counters, lanes and claimable heads.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) depth: Depth,
    /// Ready and leased messages of each key, by place.
    pub(super) lanes: HashMap<OrderingKey, BTreeMap<u64, u64>>,
    /// Messages of each key that wait for their time, by that time.
    scheduled: HashMap<OrderingKey, BTreeSet<(Timestamp, u64)>>,
    /// Heads that may be leased now.
    pub(super) claimable: BTreeSet<Rank>,
    /// Sequence numbers of each stage.
    pub(super) members: [BTreeSet<u64>; 4],
}

impl Queue {
    /// The counter of one stage.
    fn stage_count(&mut self, stage: Stage) -> &mut u64 {
        match stage {
            Stage::Scheduled => &mut self.depth.scheduled,
            Stage::Ready => &mut self.depth.ready,
            Stage::Leased => &mut self.depth.leased,
            Stage::Dead => &mut self.depth.dead,
        }
    }

    pub(super) fn members(&mut self, stage: Stage) -> &mut BTreeSet<u64> {
        let [scheduled, ready, leased, dead] = &mut self.members;
        match stage {
            Stage::Scheduled => scheduled,
            Stage::Ready => ready,
            Stage::Leased => leased,
            Stage::Dead => dead,
        }
    }

    /// Counts a message in.
    pub(super) fn count_in(&mut self, stage: Stage, seq: u64) {
        *self.stage_count(stage) += 1;
        self.members(stage).insert(seq);
    }

    /// Counts a message out.
    pub(super) fn count_out(&mut self, stage: Stage, seq: u64) {
        *self.stage_count(stage) -= 1;
        self.members(stage).remove(&seq);
    }

    /// Takes a place in its lane.
    pub(super) fn join(&mut self, entry: &Entry) {
        if let Some(key) = &entry.key {
            self.lanes.entry(key.clone()).or_default().insert(entry.state.place, entry.id.seq());
        }
    }

    /// Waits for its time.
    pub(super) fn schedule(&mut self, entry: &Entry) {
        if let Some(key) = &entry.key {
            self.scheduled.entry(key.clone()).or_default().insert((entry.due_at(), entry.id.seq()));
        }
    }

    /// Waits for its time no longer.
    pub(super) fn unschedule(&mut self, entry: &Entry) {
        if let Some(key) = &entry.key
            && let Some(waiting) = self.scheduled.get_mut(key)
        {
            waiting.remove(&(entry.due_at(), entry.id.seq()));
            if waiting.is_empty() {
                self.scheduled.remove(key);
            }
        }
    }

    /// When the first of a key falls due, and which it is.
    pub(super) fn first_scheduled(&self, key: &OrderingKey) -> Option<(Timestamp, u64)> {
        self.scheduled.get(key)?.first().copied()
    }

    /// Leaves its lane and the claimable heads.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.claimable.remove(&entry.rank());
        if let Some(key) = &entry.key
            && let Some(lane) = self.lanes.get_mut(key)
        {
            lane.remove(&entry.state.place);
            if lane.is_empty() {
                self.lanes.remove(key);
            }
        }
    }

    pub(super) fn offer(&mut self, entry: &Entry) {
        self.claimable.insert(entry.rank());
    }

    pub(super) fn withdraw(&mut self, entry: &Entry) {
        self.claimable.remove(&entry.rank());
    }

    /// The first message of a key.
    pub(super) fn head(&self, key: &OrderingKey) -> Option<u64> {
        self.lanes.get(key)?.first_key_value().map(|(_, seq)| *seq)
    }
}

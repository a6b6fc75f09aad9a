//! The indexes in memory: one entry a message, lanes of keys, heads that may
//! be leased. Payloads are not here.

use super::load::MessageHead;
use super::mutants::{Mutant, is_on};
use super::rows::StoredState;
use crate::lease::LeaseToken;
use crate::message::{MessageId, OrderingKey, Priority, Stage};
use crate::name::QueueName;
use crate::store::Depth;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The key of a lane, shared by its messages.
pub(super) type LaneKey = Arc<[u8]>;

/// What is kept in memory of one message. There may be millions: keep it small.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    pub(super) queue: QueueName,
    pub(super) key: Option<LaneKey>,
    pub(super) enqueued_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// Its place in its lane.
    pub(super) place: u64,
    pub(super) max_attempts: u32,
    /// Leases so far that counted.
    pub(super) attempt: u32,
    pub(super) priority: Priority,
    pub(super) stage: Stage,
    /// The running lease dies with this process.
    pub(super) lease_lazy: bool,
    /// What most messages that wait do not have.
    rest: Option<Box<Rest>>,
}

/// What a message has that was scheduled, leased or given up.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    deliver_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    pub(super) token: Option<LeaseToken>,
    lease_expires_at: Option<Timestamp>,
    pub(super) reason: Option<String>,
    stop_requested: bool,
}

impl Entry {
    pub(super) fn of(key: u64, head: MessageHead, lane: Option<LaneKey>) -> Entry {
        let stage = if head.deliver_at.is_some() { Stage::Scheduled } else { Stage::Ready };
        let rest = head.deliver_at.map(|at| Box::new(Rest { deliver_at: Some(at), ..Rest::default() }));
        Entry {
            id: MessageId::new(key, head.nonce),
            queue: head.queue,
            key: lane,
            enqueued_at: head.enqueued_at,
            expires_at: head.expires_at,
            place: key,
            max_attempts: head.max_attempts,
            attempt: 0,
            priority: head.priority,
            stage,
            lease_lazy: false,
            rest,
        }
    }

    /// Takes over what was stored of its state.
    pub(super) fn restore(&mut self, state: StoredState) {
        (self.stage, self.place, self.attempt) = (state.stage, state.place, state.attempt);
        let rest = Rest {
            deliver_at: self.deliver_at(),
            not_before: state.not_before,
            token: state.token,
            lease_expires_at: state.lease_expires_at,
            reason: state.reason,
            stop_requested: state.stop_requested,
        };
        self.rest = Some(Box::new(rest));
    }

    /// The row of its state.
    pub(super) fn state(&self) -> StoredState {
        let rest = self.rest.as_deref();
        StoredState {
            attempt: self.attempt,
            stage: self.stage,
            place: self.place,
            not_before: self.not_before(),
            token: self.token(),
            lease_expires_at: self.lease_expires_at(),
            reason: rest.and_then(|rest| rest.reason.clone()),
            stop_requested: self.stop_requested(),
        }
    }

    pub(super) fn ordering_key(&self) -> Option<OrderingKey> {
        self.key.as_ref().map(|key| OrderingKey(Bytes::copy_from_slice(key)))
    }

    pub(super) fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    pub(super) fn deliver_at(&self) -> Option<Timestamp> {
        self.rest.as_ref()?.deliver_at
    }

    pub(super) fn not_before(&self) -> Option<Timestamp> {
        self.rest.as_ref()?.not_before
    }

    pub(super) fn token(&self) -> Option<LeaseToken> {
        self.rest.as_ref()?.token
    }

    pub(super) fn lease_expires_at(&self) -> Option<Timestamp> {
        self.rest.as_ref()?.lease_expires_at
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.rest.as_ref()?.reason.as_deref()
    }

    pub(super) fn stop_requested(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.stop_requested)
    }

    pub(super) fn set_not_before(&mut self, at: Option<Timestamp>) {
        if at != self.not_before() {
            self.rest_mut().not_before = at;
        }
    }

    /// Answers the former one.
    pub(super) fn set_lease_end(&mut self, at: Option<Timestamp>) -> Option<Timestamp> {
        let before = self.lease_expires_at();
        if at != before {
            self.rest_mut().lease_expires_at = at;
        }
        before
    }

    pub(super) fn set_stop(&mut self, stop: bool) {
        if stop != self.stop_requested() {
            self.rest_mut().stop_requested = stop;
        }
    }

    /// When a scheduled message joins its lane.
    pub(super) fn due_at(&self) -> Timestamp {
        self.deliver_at().unwrap_or(Timestamp::MIN)
    }

    fn rank(&self) -> Rank {
        let priority = if is_on(Mutant::PriorityIgnored) { 0 } else { self.priority.0 };
        (u8::MAX - priority, self.place, self.id.seq())
    }
}

/// Higher priority first, then earlier place.
type Rank = (u8, u64, u64);

/// One queue's counters, lanes and claimable heads.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What was ever done. What is held is as many as there are members.
    pub(super) depth: Depth,
    /// Ready and leased messages of each key, by place.
    pub(super) lanes: HashMap<LaneKey, BTreeMap<u64, u64>>,
    /// Messages of each key that wait for their time, by that time.
    scheduled: HashMap<LaneKey, BTreeSet<(Timestamp, u64)>>,
    /// Heads that may be leased now.
    pub(super) claimable: BTreeSet<Rank>,
    /// Sequence numbers of each stage.
    pub(super) members: [BTreeSet<u64>; 4],
}

/// What belongs to one stage.
fn of_stage<T>([scheduled, ready, leased, dead]: [T; 4], stage: Stage) -> T {
    match stage {
        Stage::Scheduled => scheduled,
        Stage::Ready => ready,
        Stage::Leased => leased,
        Stage::Dead => dead,
    }
}

impl Queue {
    /// The key as the lane's other messages have it, or a new one.
    pub(super) fn lane_key(&self, key: &[u8]) -> LaneKey {
        let known = self.lanes.get_key_value(key).map(|(key, _)| key);
        known
            .or_else(|| self.scheduled.get_key_value(key).map(|(key, _)| key))
            .cloned()
            .unwrap_or_else(|| key.into())
    }

    pub(super) fn members(&self, stage: Stage) -> &BTreeSet<u64> {
        of_stage(self.members.each_ref(), stage)
    }

    /// The lowest number of a stage.
    pub(super) fn first(&self, stage: Stage) -> Option<u64> {
        self.members(stage).first().copied()
    }

    /// What was ever done, and what is held now.
    pub(super) fn depth(&self) -> Depth {
        let [scheduled, ready, leased, dead] = self.members.each_ref().map(|stage| stage.len() as u64);
        Depth { scheduled, ready, leased, dead, ..self.depth }
    }

    /// Counts a message in.
    pub(super) fn count_in(&mut self, stage: Stage, seq: u64) {
        of_stage(self.members.each_mut(), stage).insert(seq);
    }

    /// Counts a message out.
    pub(super) fn count_out(&mut self, stage: Stage, seq: u64) {
        of_stage(self.members.each_mut(), stage).remove(&seq);
    }

    /// Takes a place in its lane; whether it is the first there.
    pub(super) fn join(&mut self, entry: &Entry) -> bool {
        let Some(key) = &entry.key else { return false };
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.insert(entry.place, entry.id.seq());
            return lane.len() == 1;
        }
        self.lanes.insert(key.clone(), BTreeMap::from([(entry.place, entry.id.seq())]));
        true
    }

    /// The key of a lane that loading has met, or meets for the first time.
    pub(super) fn lane_key_for_load(&mut self, key: &[u8]) -> LaneKey {
        if let Some((known, _)) = self.lanes.get_key_value(key) {
            return known.clone();
        }
        let key: LaneKey = key.into();
        self.lanes.insert(key.clone(), BTreeMap::new());
        key
    }

    /// Lanes that loading has met in messages that are in none.
    pub(super) fn drop_empty_lanes(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_empty());
    }

    /// Counts all messages of each stage in, at once.
    pub(super) fn load_members(&mut self, stages: [Vec<u64>; 4]) {
        self.depth.enqueued = stages.iter().map(|stage| stage.len() as u64).sum();
        self.members = stages.map(|stage| stage.into_iter().collect());
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
    pub(super) fn first_scheduled(&self, key: &[u8]) -> Option<(Timestamp, u64)> {
        self.scheduled.get(key)?.first().copied()
    }

    /// Keys with messages that wait for their time.
    pub(super) fn scheduled_lanes(&self) -> usize {
        self.scheduled.len()
    }

    /// Leaves its lane and the claimable heads.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.claimable.remove(&entry.rank());
        if let Some(key) = &entry.key
            && let Some(lane) = self.lanes.get_mut(key)
        {
            lane.remove(&entry.place);
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
    pub(super) fn head(&self, key: &[u8]) -> Option<u64> {
        self.lanes.get(key)?.first_key_value().map(|(_, seq)| *seq)
    }
}

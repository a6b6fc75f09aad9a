//! Looking without changing: messages, counters, lanes, lists.

use super::index::Entry;
use super::rows::Bodies;
use super::{Machine, check};
use crate::error::Result;
use crate::limits::LIST_LIMIT_MAX;
use crate::message::{MessageId, MessageInfo, OrderingKey, Stage};
use crate::name::QueueName;
use crate::store::{Depth, LaneStatus};
use crate::time::Timestamp;
use std::ops::Bound;

impl Machine {
    /// See [`crate::QueueStore::get`].
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn get(
        &self,
        now: Timestamp,
        queue: &QueueName,
        ids: &[MessageId],
        bodies: &dyn Bodies,
    ) -> Result<Vec<Option<MessageInfo>>> {
        check::batch(ids.len())?;
        let found = |id: &MessageId| {
            let entry = self.entries.get(&id.seq())?;
            (entry.id == *id && entry.queue == *queue).then_some(entry)
        };
        ids.iter().map(|id| found(id).map(|entry| self.info(now, entry, bodies)).transpose()).collect()
    }

    fn info(&self, now: Timestamp, entry: &Entry, bodies: &dyn Bodies) -> Result<MessageInfo> {
        let message = self.body(bodies, entry.id.seq())?;
        let lease_end = entry.lease_expires_at();
        let lapsed = lease_end.is_some_and(|until| until <= now);
        let stage = if entry.stage == Stage::Leased && lapsed { Stage::Ready } else { entry.stage };
        Ok(MessageInfo {
            id: entry.id,
            queue: entry.queue.clone(),
            key: entry.ordering_key(),
            priority: entry.priority,
            stage,
            attempt: entry.attempt,
            max_attempts: entry.max_attempts,
            enqueued_at: entry.enqueued_at,
            not_before: if stage == Stage::Scheduled { entry.deliver_at() } else { entry.not_before() },
            lease_expires_at: lease_end.filter(|_| stage == Stage::Leased),
            expires_at: entry.expires_at,
            reason: entry.reason().map(str::to_owned),
            stop_requested: entry.stop_requested(),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
        })
    }

    /// See [`crate::QueueStore::depth`].
    #[must_use]
    pub fn depth(&self, queue: &QueueName) -> Depth {
        let Some(queue) = self.queues.get(queue) else { return Depth::default() };
        // Numbers grow with time, steps of the clock aside: the first of the stage is the oldest.
        let oldest = queue.first(Stage::Ready).and_then(|seq| self.entries.get(&seq));
        Depth { oldest_waiting: oldest.map(|entry| entry.enqueued_at), ..queue.depth() }
    }

    /// See [`crate::QueueStore::lane`].
    #[must_use]
    pub fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> LaneStatus {
        let Some(lane) = self.queues.get(queue).and_then(|queue| queue.lanes.get(&key.0[..])) else {
            return LaneStatus::default();
        };
        let head = lane.values().next().and_then(|seq| self.entries.get(seq));
        let in_flight = head.filter(|head| head.stage == Stage::Leased).map(|head| head.id);
        let waiting = lane.values().nth(usize::from(in_flight.is_some()));
        let asked = of.and_then(|id| self.entries.get(&id.seq()).filter(|entry| entry.id == id));
        let asked = asked.filter(|entry| lane.get(&entry.place) == Some(&entry.id.seq()));
        LaneStatus {
            length: lane.len() as u64,
            in_flight,
            place: asked.map(|entry| lane.range(..=entry.place).count() as u64),
            oldest_waiting: waiting.and_then(|seq| self.entries.get(seq)).map(|entry| entry.enqueued_at),
        }
    }

    /// See [`crate::QueueStore::list`].
    ///
    /// # Errors
    /// `Corrupt` when a body cannot be read.
    pub fn list(
        &self,
        now: Timestamp,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
        bodies: &dyn Bodies,
    ) -> Result<Vec<MessageInfo>> {
        let Some(queue) = self.queues.get(queue) else {
            return Ok(Vec::new());
        };
        let members = queue.members(stage);
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.seq()));
        let page = members.range((start, Bound::Unbounded)).take(limit.min(LIST_LIMIT_MAX) as usize);
        page.filter_map(|seq| self.entries.get(seq)).map(|entry| self.info(now, entry, bodies)).collect()
    }

    /// See [`crate::QueueStore::queues`].
    #[must_use]
    pub fn queues(&self, after: Option<&QueueName>, limit: u32) -> Vec<QueueName> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let live = |queue: &super::index::Queue| queue.members.iter().any(|members| !members.is_empty());
        let page = self.queues.range::<QueueName, _>((start, Bound::Unbounded));
        page.filter(|(_, queue)| live(queue))
            .map(|(name, _)| name.clone())
            .take(limit.min(LIST_LIMIT_MAX) as usize)
            .collect()
    }
}

//! How much of a queue its policy lets through: messages in hand at once, over all nodes, and messages a second on
//! each.

use super::policy::WorkPolicy;
use super::{WorkDelivery, WorkQueue};
use crate::broker::Broker;
use crate::error::BrokerError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use turnwise_core::QueueName;

/// What this node may still hand out of the queues that have a rate. One that was left alone until all its room was
/// back is forgotten.
#[derive(Default)]
pub(crate) struct Paces(Mutex<HashMap<QueueName, Pace>>);

struct Pace {
    /// Messages that may go now.
    room: f64,
    rate: f64,
    at: Instant,
}

impl Pace {
    /// With all that there is room for at once: what comes in one second, and at least one message.
    fn whole(rate: f64, now: Instant) -> Pace {
        Pace { room: rate.max(1.0), rate, at: now }
    }

    fn room_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.room + since * self.rate).min(self.rate.max(1.0))
    }

    fn is_whole(&self, now: Instant) -> bool {
        self.room_at(now) >= self.rate.max(1.0)
    }
}

impl Paces {
    /// Takes room for up to `wanted` messages.
    fn take(&self, queue: &QueueName, rate: f64, wanted: u32) -> u32 {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|_, pace| !pace.is_whole(now));
        let pace = all.entry(queue.clone()).or_insert_with(|| Pace::whole(rate, now));
        let room = pace.room_at(now).min(rate.max(1.0));
        let taken = room.min(f64::from(wanted)).floor();
        *pace = Pace { room: room - taken, rate, at: now };
        // Not negative, and at most `wanted`.
        taken as u32
    }

    /// There were not so many messages.
    fn give_back(&self, queue: &QueueName, left: u32) {
        if let Some(pace) = self.0.lock().get_mut(queue) {
            pace.room += f64::from(left);
        }
    }

    /// Until there is room for one.
    fn next(&self, queue: &QueueName, rate: f64) -> Duration {
        let missing = self.0.lock().get(queue).map_or(0.0, |pace| (1.0 - pace.room).max(0.0));
        Duration::try_from_secs_f64(missing / rate).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// How many messages a claim may ask for just now.
pub(super) enum Room {
    /// At least one.
    Some(u32),
    /// None, before this time has passed.
    In(Duration),
    /// None, before a message that is in hand is over.
    Full,
}

impl Broker {
    /// What the policy lets through of `wanted` messages.
    pub(super) async fn room(
        &self,
        queue: &WorkQueue,
        policy: &WorkPolicy,
        wanted: u32,
    ) -> Result<Room, BrokerError> {
        let mut room = wanted;
        if let Some(most) = policy.concurrency {
            let in_hand = self.0.store.depth(&queue.0).await?.leased;
            room = room.min(u32::try_from(u64::from(most).saturating_sub(in_hand)).unwrap_or(u32::MAX));
            if room == 0 {
                return Ok(Room::Full);
            }
        }
        if let Some(rate) = policy.rate_per_second {
            room = self.0.work.paces.take(&queue.0, rate, room);
            if room == 0 {
                return Ok(Room::In(self.0.work.paces.next(&queue.0, rate)));
            }
        }
        Ok(Room::Some(room))
    }

    /// What may be handed out of what was leased: other nodes may have leased at the same time, and each then gives
    /// back what is too much, so that there are never more in hand than the policy says.
    pub(super) async fn within(
        &self,
        queue: &WorkQueue,
        policy: &WorkPolicy,
        asked: u32,
        mut found: Vec<WorkDelivery>,
    ) -> Result<Vec<WorkDelivery>, BrokerError> {
        if let Some(most) = policy.concurrency
            && !found.is_empty()
        {
            let in_hand = self.0.store.depth(&queue.0).await?.leased;
            let surplus = usize::try_from(in_hand.saturating_sub(u64::from(most))).unwrap_or(usize::MAX);
            let kept = found.len().saturating_sub(surplus);
            let back: Vec<_> = found.split_off(kept).into_iter().map(|it| it.receipt).collect();
            if !back.is_empty() {
                self.return_work(queue, &back).await;
            }
        }
        if policy.rate_per_second.is_some() {
            let left = usize::try_from(asked).unwrap_or(usize::MAX).saturating_sub(found.len());
            self.0.work.paces.give_back(&queue.0, u32::try_from(left).unwrap_or(0));
        }
        Ok(found)
    }
}

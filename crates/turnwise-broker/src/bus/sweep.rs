//! What the sweeper does for the bus: it rings for inboxes that hold anything,
//! and drops what is not kept any longer.

use super::record::live_topic;
use crate::broker::Broker;
use crate::limits::{BUS_PAGE, DEAD_PAGE, INBOX_DEAD_KEPT, LIVE_KEPT, ROOM_AT_REST};
use crate::orgs::OrgScope;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use turnwise_core::{Effect, MessageId, Offset, QueueName, Read, ReadFrom, Stage, StoreError, Timestamp};

/// Orgs looked at in one round.
const ORGS_A_ROUND: usize = 10_000;

impl Broker {
    /// There may be something for those who wait at these inboxes.
    pub(crate) fn ring_inboxes<'q>(&self, inboxes: impl Iterator<Item = &'q QueueName>) {
        inboxes.for_each(|inbox| self.0.work.bells.ring(inbox));
    }

    /// Forgets orgs that are at rest.
    pub(crate) fn tidy_bus(&self) {
        let mut rooms = self.0.bus.rooms.lock();
        rooms.retain(|_, room| Arc::strong_count(room) > 1 || !room.is_at_rest(ROOM_AT_REST));
    }

    /// Drops what was told live long ago, of orgs that nobody listens to.
    pub(crate) async fn forget_told(&self, now: Timestamp) -> Result<(), StoreError> {
        let orgs = self.0.orgs.all(&OrgScope::All);
        let bus = &self.0.bus;
        let first = bus.next_org.load(Ordering::Relaxed) % orgs.len().max(1);
        bus.next_org.store(first + ORGS_A_ROUND, Ordering::Relaxed);
        for org in orgs.iter().cycle().skip(first).take(ORGS_A_ROUND.min(orgs.len())) {
            let topic = live_topic(org)?;
            let is_old = |at: Timestamp| now.since(at) > LIVE_KEPT * 2;
            loop {
                let Read::Events { events, .. } =
                    self.0.store.read(&topic, ReadFrom::Earliest, BUS_PAGE).await?
                else {
                    break;
                };
                let old = events.iter().take_while(|event| is_old(event.appended_at)).last();
                let Some(Offset(last)) = old.map(|event| event.offset) else { break };
                self.0.store.trim(&topic, Offset(last + 1)).await?;
            }
        }
        Ok(())
    }

    /// Drops dead letters of inboxes.
    pub(crate) async fn forget_dead_bus(&self, now: Timestamp) -> Result<(), StoreError> {
        let inboxes = self.0.bus.inboxes.lock().clone();
        for inbox in &inboxes {
            if self.0.store.depth(inbox).await?.dead == 0 {
                continue;
            }
            loop {
                let page = self.0.store.list(inbox, Stage::Dead, None, DEAD_PAGE).await?;
                let old = page.iter().take_while(|info| now.since(info.enqueued_at) > INBOX_DEAD_KEPT);
                let old: Vec<(MessageId, Vec<Effect>)> = old.map(|info| (info.id, Vec::new())).collect();
                // They come by age: behind a young one there are only younger ones.
                let is_last = old.len() < page.len() || page.is_empty();
                if !old.is_empty() {
                    self.0.store.remove(inbox, old).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }
}

//! Storing messages: places, dedup keys, lane limits (clauses Q2, Q10, Q11, Q15).

use super::dedup::Seen;
use super::index::Entry;
use super::rows::{Bodies, DedupScope, Row, StoredMessage};
use super::{Machine, check};
use crate::error::{ItemResult, Result};
use crate::message::{Effect, Enqueued, MessageId, NewMessage, Stage};
use crate::time::Timestamp;
use std::sync::Arc;

impl Machine {
    /// See [`crate::QueueStore::enqueue`].
    ///
    /// # Errors
    /// `Invalid` when an item breaks a limit; then nothing changed.
    pub fn enqueue(
        &mut self,
        now: Timestamp,
        batch: Vec<NewMessage>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Enqueued>>> {
        check::batch(batch.len())?;
        if batch.is_empty() {
            // Only asks whether there is room.
            return Ok(Vec::new());
        }
        batch.iter().try_for_each(check::message)?;
        self.tick(now, bodies)?;
        batch.into_iter().map(|message| Ok(Ok(self.enqueue_one(now, message, bodies)?))).collect()
    }

    fn enqueue_one(&mut self, now: Timestamp, new: NewMessage, bodies: &dyn Bodies) -> Result<Enqueued> {
        let scope = new.dedup.as_ref().map(|dedup| (DedupScope::Queue(new.queue.clone()), dedup.clone()));
        if let Some((scope, dedup)) = &scope {
            match self.seen(now, scope, dedup, bodies)? {
                Seen::New => {}
                Seen::Same(seq, nonce) => return Ok(Enqueued::Duplicate(MessageId::new(seq, nonce))),
                Seen::Other(seq, nonce) => {
                    return Ok(Enqueued::DedupConflict(MessageId::new(seq, nonce)));
                }
            }
        }
        self.line_up_key(now, &new.queue, new.key.as_ref());
        if let (Some(max), Some(key)) = (new.lane_max, &new.key) {
            let lanes = self.queues.get(&new.queue).map(|queue| &queue.lanes);
            let length =
                lanes.and_then(|lanes| lanes.get(&key.0[..])).map_or(0, std::collections::BTreeMap::len);
            if length >= max as usize {
                return Ok(Enqueued::LaneFull);
            }
        }
        let id = MessageId::new(self.next_seq(), new.nonce);
        if let Some((scope, dedup)) = scope {
            self.remember(now, scope, dedup, id.seq(), id.nonce());
        }
        Ok(self.store_message(now, id, new))
    }

    fn store_message(&mut self, now: Timestamp, id: MessageId, new: NewMessage) -> Enqueued {
        let message = Arc::new(StoredMessage {
            id,
            queue: new.queue,
            key: new.key,
            priority: new.priority,
            max_attempts: new.max_attempts,
            enqueued_at: now,
            deliver_at: new.deliver_at.filter(|at| *at > now),
            expires_at: new.expires_at,
            headers: new.headers,
            payload: new.payload,
            at_end: new.at_end,
        });
        let head = message.head();
        let queue = self.queues.entry(message.queue.clone()).or_default();
        let lane = head.key.as_ref().map(|key| queue.lane_key(key));
        let entry = Box::new(Entry::of(id.seq(), head, lane));
        self.put(id.seq(), Row::Message(message), false);
        self.index(entry);
        let Some(entry) = self.entries.get(&id.seq()) else {
            return Enqueued::New { id, position: 0, in_flight: false };
        };
        let lane = match (&entry.key, self.queues.get(&entry.queue)) {
            (Some(key), Some(queue)) if entry.stage != Stage::Scheduled => {
                queue.lanes.get(key).map(|lane| (lane.len() as u64, lane.first_key_value()))
            }
            _ => None,
        };
        let (position, head) = lane.unwrap_or((1, None));
        let in_flight =
            head.and_then(|(_, seq)| self.entries.get(seq)).is_some_and(|head| head.stage == Stage::Leased);
        Enqueued::New { id, position, in_flight }
    }

    /// Puts a new entry into every index it belongs to: it waits for its time or for its turn.
    fn index(&mut self, entry: Box<Entry>) {
        let seq = entry.id.seq();
        let queue = self.queues.entry(entry.queue.clone()).or_default();
        queue.depth.enqueued += 1;
        queue.count_in(entry.stage, seq);
        self.expiring.extend(entry.expires_at.map(|at| (at, seq)));
        if entry.stage == Stage::Scheduled {
            self.due.insert((entry.due_at(), seq));
            queue.schedule(&entry);
        } else {
            queue.join(&entry);
        }
        self.entries.insert(seq, entry);
        self.refresh(seq);
    }

    /// Applies effects in order; events of one topic become one chunk.
    pub(super) fn apply(&mut self, now: Timestamp, effects: Vec<Effect>, bodies: &dyn Bodies) -> Result<()> {
        let mut events = Vec::new();
        for effect in effects {
            match effect {
                Effect::Enqueue(mut message) => {
                    message.lane_max = None;
                    self.enqueue_one(now, message, bodies)?;
                }
                Effect::Publish(event) => events.push(event),
            }
        }
        self.append_all(now, events, bodies)?;
        Ok(())
    }
}

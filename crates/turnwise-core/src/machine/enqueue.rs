//! Storing messages: places, dedup keys, lane limits (clauses Q2, Q10, Q11, Q15).

use super::index::Entry;
use super::mutants::{Mutant, is_on};
use super::rows::{Bodies, DedupScope, Row, StoredDedup, StoredMessage, Table};
use super::{Machine, check};
use crate::error::{ItemResult, Result};
use crate::message::{Dedup, Effect, Enqueued, MessageId, NewMessage, Stage};
use crate::time::Timestamp;
use std::sync::Arc;

/// What a dedup key tells.
pub(super) enum Seen {
    /// Not in use.
    New,
    /// Used with the same content: the answer then, and its nonce.
    Same(u64, u64),
    /// Used with other content.
    Other(u64, u64),
}

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
        Ok(batch.into_iter().map(|message| Ok(self.enqueue_one(now, message))).collect())
    }

    pub(super) fn enqueue_one(&mut self, now: Timestamp, new: NewMessage) -> Enqueued {
        let scope = new.dedup.as_ref().map(|dedup| (DedupScope::Queue(new.queue.clone()), dedup.clone()));
        if let Some((scope, dedup)) = &scope {
            match self.seen(now, scope, dedup) {
                Seen::New => {}
                Seen::Same(seq, nonce) => return Enqueued::Duplicate(MessageId::new(seq, nonce)),
                Seen::Other(seq, nonce) => {
                    return Enqueued::DedupConflict(MessageId::new(seq, nonce));
                }
            }
        }
        self.line_up_key(now, &new.queue, new.key.as_ref());
        if let (Some(max), Some(key)) = (new.lane_max, &new.key) {
            let lanes = self.queues.get(&new.queue).map(|queue| &queue.lanes);
            let length = lanes.and_then(|lanes| lanes.get(key)).map_or(0, std::collections::BTreeMap::len);
            if length >= max as usize {
                return Enqueued::LaneFull;
            }
        }
        let id = MessageId::new(self.next_seq(), new.nonce);
        if let Some((scope, dedup)) = scope {
            self.remember(now, scope, dedup, id.seq(), id.nonce());
        }
        self.store_message(now, id, new)
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
        let entry = Entry::of(&message);
        self.put(id.seq(), Row::Message(message), false);
        self.index(entry);
        let Some(entry) = self.entries.get(&id.seq()) else {
            return Enqueued::New { id, position: 0, in_flight: false };
        };
        let lane = match (&entry.key, self.queues.get(&entry.queue)) {
            (Some(key), Some(queue)) if entry.state.stage != Stage::Scheduled => {
                queue.lanes.get(key).map(|lane| (lane.len() as u64, lane.first_key_value()))
            }
            _ => None,
        };
        let (position, head) = lane.unwrap_or((1, None));
        let in_flight = head
            .and_then(|(_, seq)| self.entries.get(seq))
            .is_some_and(|head| head.state.stage == Stage::Leased);
        Enqueued::New { id, position, in_flight }
    }

    /// Puts an entry into every index it belongs to.
    pub(super) fn index(&mut self, entry: Entry) {
        let seq = entry.id.seq();
        let queue = self.queues.entry(entry.queue.clone()).or_default();
        queue.depth.enqueued += 1;
        queue.count_in(entry.state.stage, seq);
        if let Some(at) = entry.expires_at
            && entry.state.stage != Stage::Dead
        {
            self.expiring.insert((at, seq));
        }
        match entry.state.stage {
            Stage::Scheduled => {
                self.due.insert((entry.due_at(), seq));
                queue.schedule(&entry);
            }
            Stage::Ready | Stage::Leased => queue.join(&entry),
            Stage::Dead => {}
        }
        if let (Stage::Leased, Some(until)) = (entry.state.stage, entry.state.lease_expires_at) {
            self.leases.insert((until, seq));
        }
        if let (Stage::Ready, Some(at)) = (entry.state.stage, entry.state.not_before) {
            self.due.insert((at, seq));
        }
        self.entries.insert(seq, entry);
        self.refresh(seq);
    }

    /// Looks a dedup key up; a key past its window is forgotten.
    pub(super) fn seen(&mut self, now: Timestamp, scope: &DedupScope, dedup: &Dedup) -> Seen {
        let name = (scope.clone(), dedup.key.clone());
        let Some((row, known)) = self.dedup.get(&name) else {
            return Seen::New;
        };
        if known.until <= now {
            let (row, until) = (*row, known.until);
            self.forget_dedup(row, until);
            return Seen::New;
        }
        if known.content_hash == dedup.content_hash {
            Seen::Same(known.answer, known.nonce)
        } else {
            Seen::Other(known.answer, known.nonce)
        }
    }

    pub(super) fn remember(
        &mut self,
        now: Timestamp,
        scope: DedupScope,
        dedup: Dedup,
        answer: u64,
        nonce: u64,
    ) {
        let until = now.after(dedup.window);
        if until <= now {
            return;
        }
        let stored =
            StoredDedup { scope, key: dedup.key, content_hash: dedup.content_hash, until, answer, nonce };
        let row = self.next_seq();
        if !is_on(Mutant::DedupNotPersisted) {
            self.put(row, Row::Dedup(stored.clone()), false);
        }
        self.index_dedup(row, stored);
    }

    pub(super) fn index_dedup(&mut self, row: u64, stored: StoredDedup) {
        let name = (stored.scope.clone(), stored.key.clone());
        self.dedup_until.insert((stored.until, row), name.clone());
        self.dedup.insert(name, (row, stored));
    }

    pub(super) fn forget_dedup(&mut self, row: u64, until: Timestamp) {
        if let Some(name) = self.dedup_until.remove(&(until, row)) {
            self.dedup.remove(&name);
            self.delete(Table::Dedup, row);
        }
    }

    /// Applies effects in order; events of one topic become one chunk.
    pub(super) fn apply(&mut self, now: Timestamp, effects: Vec<Effect>) {
        let mut events = Vec::new();
        for effect in effects {
            match effect {
                Effect::Enqueue(mut message) => {
                    message.lane_max = None;
                    self.enqueue_one(now, message);
                }
                Effect::Publish(event) => events.push(event),
            }
        }
        self.append_all(now, events);
    }
}

//! Building the machine from the rows of a store, and refusing rows that
//! cannot belong together (clause X1). Sorted once and built in one go: that
//! is faster than row by row, and the indexes are half as large.

use super::Machine;
use super::dedup::{Dedups, dedup_hash};
use super::index::{Entry, LaneKey, Queue};
use super::mutants::{Mutant, is_on};
use super::rows::{Row, StoredMeta, StoredState, StoredTopic};
use crate::error::{Result, StoreError};
use crate::message::{Priority, Stage};
use crate::name::{QueueName, TopicName};
use crate::time::Timestamp;
use crate::topic::{Epoch, Offset};
use std::collections::HashMap;

/// What the indexes need to know of a message row.
#[derive(Clone, Debug)]
pub struct MessageHead {
    /// Unguessable part of its id.
    pub nonce: u64,
    /// Its queue.
    pub queue: QueueName,
    /// Its lane.
    pub key: Option<Box<[u8]>>,
    /// Among heads of lanes.
    pub priority: Priority,
    /// Leases it may take.
    pub max_attempts: u32,
    /// When it was stored.
    pub enqueued_at: Timestamp,
    /// Not before this time.
    pub deliver_at: Option<Timestamp>,
    /// Never leased from this time on.
    pub expires_at: Option<Timestamp>,
}

/// What the indexes need to know of a chunk of events.
#[derive(Clone, Debug)]
pub struct ChunkHead {
    /// Its topic.
    pub topic: TopicName,
    /// The place of the first event.
    pub first: Offset,
    /// How many there are.
    pub count: u64,
    /// What they count together.
    pub bytes: u64,
    /// The newest `keep_until` among them.
    pub keep_until: Option<Timestamp>,
}

/// Takes the rows of a store one by one, in any order; payloads are not kept.
#[derive(Debug)]
pub struct Loader {
    machine: Machine,
    meta: Option<StoredMeta>,
    highest: u64,
    queues: Queues,
    entries: Vec<(u64, Box<Entry>)>,
    states: Vec<(u64, StoredState)>,
    topics: Vec<(u64, StoredTopic)>,
    dedups: Vec<(Timestamp, u64, u64)>,
}

/// A queue while its messages are found.
#[derive(Debug)]
struct Loading {
    name: QueueName,
    queue: Queue,
    /// By stage.
    members: [Vec<u64>; 4],
    /// Those with messages.
    lanes: Vec<LaneKey>,
    /// There is something to claim.
    hinted: bool,
}

/// Every queue a message was found of.
#[derive(Debug, Default)]
struct Queues {
    all: Vec<Loading>,
    by_name: HashMap<QueueName, usize>,
    /// The one that was asked for last: many messages in a row are of the same.
    last: usize,
}

impl Queues {
    fn of(&mut self, name: &QueueName) -> &mut Loading {
        if self.all.get(self.last).is_none_or(|last| last.name != *name) {
            self.last = *self.by_name.entry(name.clone()).or_insert(self.all.len());
            if self.last == self.all.len() {
                let (queue, members) = (Queue::default(), Default::default());
                self.all.push(Loading {
                    name: name.clone(),
                    queue,
                    members,
                    lanes: Vec::new(),
                    hinted: false,
                });
            }
        }
        self.all.get_mut(self.last).expect("it was found there, or just put there")
    }
}

fn corrupt(what: String) -> StoreError {
    StoreError::Corrupt(what)
}

impl Machine {
    /// Rebuilds all indexes from rows in any order.
    ///
    /// # Errors
    /// The iterator's own error, or `Corrupt` when rows contradict each other.
    pub fn load(rows: impl IntoIterator<Item = Result<(u64, Row)>>) -> Result<Machine> {
        let mut loader = Loader::default();
        for row in rows {
            let (key, row) = row?;
            loader.row(key, row)?;
        }
        loader.finish()
    }

    fn load_topics(&mut self, rows: Vec<(u64, StoredTopic)>) -> Result<()> {
        for (row, stored) in rows {
            if stored.topic.name().is_empty() {
                let room = (stored.topic.org().into(), stored.topic.kind());
                self.topics.dropped.insert(room, (stored.last.0, row));
                continue;
            }
            let topic = self.topics.by_name.entry(stored.topic).or_default();
            topic.row = Some(row);
            topic.first = stored.first.0;
            topic.last = topic.last.max(stored.last.0);
        }
        for (name, topic) in &self.topics.by_name {
            let mut next = None;
            for chunk in &topic.chunks {
                let first = chunk.first;
                let expected = next.unwrap_or(first);
                if first != expected || (next.is_none() && first > topic.first) {
                    return Err(corrupt(format!("events before {first} of topic {name:?} are missing")));
                }
                next = Some(chunk.end());
            }
            if next.is_some_and(|next| next != topic.last + 1) {
                return Err(corrupt(format!("the newest events of topic {name:?} are missing")));
            }
        }
        Ok(())
    }
}

impl Default for Loader {
    fn default() -> Loader {
        Loader {
            machine: Machine::empty(StoredMeta { epoch: Epoch(0), seq_ceiling: 0, token_ceiling: 0 }),
            meta: None,
            highest: 0,
            queues: Queues::default(),
            entries: Vec::new(),
            states: Vec::new(),
            topics: Vec::new(),
            dedups: Vec::new(),
        }
    }
}

impl Loader {
    /// Takes the row of a message.
    pub fn message(&mut self, key: u64, head: MessageHead) {
        self.highest = self.highest.max(key);
        let queue = &mut self.queues.of(&head.queue).queue;
        let lane = head.key.as_ref().map(|lane| queue.lane_key_for_load(lane));
        self.entries.push((key, Box::new(Entry::of(key, head, lane))));
    }

    /// Takes a row with events.
    ///
    /// # Errors
    /// `Corrupt` when it holds none.
    pub fn chunk(&mut self, key: u64, chunk: ChunkHead) -> Result<()> {
        self.highest = self.highest.max(key);
        if chunk.count == 0 || chunk.first.0 == 0 {
            return Err(corrupt(format!("event record {key} holds no events")));
        }
        self.machine.index_chunk(key, chunk);
        Ok(())
    }

    /// Takes a dedup key that is in use, by its [`super::dedup_hash`].
    pub fn dedup(&mut self, key: u64, hash: u64, until: Timestamp) {
        self.highest = self.highest.max(key);
        self.dedups.push((until, key, hash));
    }

    /// Takes any row.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be right.
    pub fn row(&mut self, key: u64, row: Row) -> Result<()> {
        self.highest = self.highest.max(key);
        match row {
            Row::Message(message) => {
                if message.id.seq() != key {
                    return Err(corrupt(format!("message record {key} holds message {}", message.id)));
                }
                self.message(key, message.head());
            }
            Row::State(state) => self.states.push((key, state)),
            Row::Dedup(stored) => self.dedup(key, dedup_hash(&stored.scope, &stored.key), stored.until),
            Row::Events(chunk) => self.chunk(key, chunk.head())?,
            Row::Topic(stored) => self.topics.push((key, stored)),
            Row::Cursor(stored) => {
                let cursors = self.machine.topics.cursors.entry(stored.topic).or_default();
                cursors.insert(stored.subscription, (key, stored.position));
            }
            Row::Meta(stored) => self.meta = Some(stored),
        }
        Ok(())
    }

    /// The machine all these rows make.
    ///
    /// # Errors
    /// `Corrupt` when rows contradict each other.
    pub fn finish(mut self) -> Result<Machine> {
        let meta =
            self.meta.ok_or_else(|| corrupt("the record with the store's counters is missing".into()))?;
        if self.highest > meta.seq_ceiling {
            let (highest, ceiling) = (self.highest, meta.seq_ceiling);
            return Err(corrupt(format!("record {highest} is beyond the reserved {ceiling}")));
        }
        self.machine.meta = meta;
        self.machine.last_seq = meta.seq_ceiling;
        self.machine.last_token = if is_on(Mutant::TokenReset) { 0 } else { meta.token_ceiling };
        self.machine.load_topics(std::mem::take(&mut self.topics))?;
        self.machine.dedup = Dedups::load(std::mem::take(&mut self.dedups));
        self.restore_states()?;
        self.index_entries();
        Ok(self.machine)
    }

    fn restore_states(&mut self) -> Result<()> {
        if !self.entries.is_sorted_by_key(|(seq, _)| *seq) {
            self.entries.sort_unstable_by_key(|(seq, _)| *seq);
        }
        for (seq, state) in std::mem::take(&mut self.states) {
            let at = self.entries.binary_search_by_key(&seq, |(seq, _)| *seq);
            let entry = at.ok().and_then(|at| self.entries.get_mut(at));
            let (_, entry) =
                entry.ok_or_else(|| corrupt(format!("state record {seq} belongs to no message")))?;
            entry.restore(state);
        }
        Ok(())
    }

    /// Puts all entries into every index they belong to.
    fn index_entries(&mut self) {
        let machine = &mut self.machine;
        let (mut expiring, mut due, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for (seq, entry) in &self.entries {
            let seq = *seq;
            let Loading { queue, members, lanes, hinted, .. } = self.queues.of(&entry.queue);
            if let Some(stage) = members.get_mut(entry.stage as usize) {
                stage.push(seq);
            }
            if let Some(at) = entry.expires_at
                && entry.stage != Stage::Dead
            {
                expiring.push((at, seq));
            }
            match entry.stage {
                Stage::Scheduled => {
                    due.push((entry.due_at(), seq));
                    queue.schedule(entry);
                }
                Stage::Ready | Stage::Leased => {
                    if let Some(key) = entry.key.as_ref().filter(|_| queue.join(entry)) {
                        lanes.push(key.clone());
                    }
                }
                Stage::Dead => {}
            }
            if let (Stage::Leased, Some(until)) = (entry.stage, entry.lease_expires_at()) {
                leases.push((until, seq));
            }
            if entry.stage == Stage::Ready {
                due.extend(entry.not_before().map(|at| (at, seq)));
                if entry.key.is_none() && entry.not_before().is_none() {
                    queue.offer(entry);
                    *hinted = true;
                }
            }
        }
        machine.expiring = expiring.into_iter().collect();
        machine.due = due.into_iter().collect();
        machine.leases = leases.into_iter().collect();
        machine.entries = std::mem::take(&mut self.entries).into_iter().collect();
        for Loading { name, mut queue, members, lanes, hinted } in std::mem::take(&mut self.queues.all) {
            queue.load_members(members);
            queue.drop_empty_lanes();
            machine.queues.insert(name.clone(), queue);
            if hinted {
                machine.hinted_queues.insert(name.clone());
            }
            for key in lanes {
                machine.refresh_head(&name, Some(&key));
            }
        }
    }
}

//! The queue and topic rules as a pure state machine: engine of `memory` and
//! `embedded`, oracle for the others. Time is an argument, bodies come through
//! [`Bodies`], what must be kept goes out as [`Change`]s.

pub mod check;
mod claim;
mod dedup;
mod enqueue;
mod index;
mod inspect;
mod load;
pub mod mutants;
mod rows;
mod settle;
mod sizes;
mod tick;
mod topics;

pub use dedup::dedup_hash;
pub use load::{ChunkHead, Loader, MessageHead};
pub use rows::{
    Bodies, Change, DedupScope, Hints, Row, StoredChunk, StoredCursor, StoredDedup, StoredMessage,
    StoredMeta, StoredState, StoredTopic, Table,
};

use crate::error::Result;
use crate::lease::LeaseToken;
use crate::name::{QueueName, TopicName};
use crate::time::Timestamp;
use crate::topic::Epoch;
use dedup::Dedups;
use index::{Entry, Queue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topics::Topics;

/// Sequence numbers reserved on disk at a time.
const SEQ_BLOCK: u64 = 1 << 20;
/// Tokens reserved on disk at a time: a minute's worth, as they follow the clock in microseconds.
const TOKEN_BLOCK: u64 = 60_000_000;

/// All queues and topics of one store.
#[derive(Debug)]
pub struct Machine {
    meta: StoredMeta,
    last_seq: u64,
    last_token: u64,
    queues: BTreeMap<QueueName, Queue>,
    entries: BTreeMap<u64, Box<Entry>>,
    /// Scheduled messages, and retried ones that wait.
    due: BTreeSet<(Timestamp, u64)>,
    leases: BTreeSet<(Timestamp, u64)>,
    expiring: BTreeSet<(Timestamp, u64)>,
    dedup: Dedups,
    topics: Topics,
    changes: Vec<Change>,
    hinted_queues: BTreeSet<QueueName>,
    hinted_topics: BTreeSet<TopicName>,
}

impl Machine {
    /// An empty store. Its first change is the row that holds the epoch.
    #[must_use]
    pub fn new(epoch: Epoch) -> Machine {
        let mut machine = Machine::empty(StoredMeta { epoch, seq_ceiling: 0, token_ceiling: 0 });
        machine.put_meta();
        machine
    }

    fn empty(meta: StoredMeta) -> Machine {
        Machine {
            meta,
            last_seq: meta.seq_ceiling,
            last_token: meta.token_ceiling,
            queues: BTreeMap::new(),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            leases: BTreeSet::new(),
            expiring: BTreeSet::new(),
            dedup: Dedups::default(),
            topics: Topics::default(),
            changes: Vec::new(),
            hinted_queues: BTreeSet::new(),
            hinted_topics: BTreeSet::new(),
        }
    }

    /// Of the store.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.meta.epoch
    }

    /// What the last operations changed, in order; empty afterwards.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Who may have something new since the last call.
    pub fn take_hints(&mut self) -> Hints {
        Hints {
            queues: std::mem::take(&mut self.hinted_queues).into_iter().collect(),
            topics: std::mem::take(&mut self.hinted_topics).into_iter().collect(),
        }
    }

    /// When time alone may next make something claimable or end a message.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        [&self.due, &self.leases, &self.expiring].into_iter().filter_map(|set| Some(set.first()?.0)).min()
    }

    fn put(&mut self, key: u64, row: Row, lazy: bool) {
        self.changes.push(Change::Put { key, row, lazy });
    }

    fn delete(&mut self, table: Table, key: u64) {
        self.changes.push(Change::Delete { table, key });
    }

    fn put_meta(&mut self) {
        self.put(0, Row::Meta(self.meta), false);
    }

    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        if self.last_seq > self.meta.seq_ceiling {
            self.meta.seq_ceiling = self.last_seq + SEQ_BLOCK;
            self.put_meta();
        }
        self.last_seq
    }

    /// Q4: one counter for the whole store that also follows the clock.
    fn next_token(&mut self, now: Timestamp) -> LeaseToken {
        let clock = u64::try_from(now.0).unwrap_or(0);
        self.last_token = (self.last_token + 1).max(clock);
        if mutants::is_on(mutants::Mutant::TokenReset) {
            self.last_token -= self.last_token.min(clock);
        }
        if self.last_token > self.meta.token_ceiling {
            self.meta.token_ceiling = self.last_token + TOKEN_BLOCK;
            self.put_meta();
        }
        LeaseToken(self.last_token)
    }

    /// Reads a body, one that this very step put included.
    fn body(&self, bodies: &dyn Bodies, seq: u64) -> Result<Arc<StoredMessage>> {
        for change in self.changes.iter().rev() {
            if let Change::Put { key, row: Row::Message(message), .. } = change
                && *key == seq
            {
                return Ok(Arc::clone(message));
            }
        }
        bodies.message(seq)
    }

    fn put_state(&mut self, seq: u64, lazy: bool) {
        if let Some(entry) = self.entries.get(&seq) {
            let row = Row::State(entry.state());
            self.put(seq, row, lazy);
        }
    }
}

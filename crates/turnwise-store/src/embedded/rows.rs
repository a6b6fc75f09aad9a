//! Rows as the machine sees them: changes not yet on disk first, then recent
//! bodies in memory, then the log.

use super::log::{CommitFailed, DurableLog, Sync, Write};
use super::record;
use crate::clock::Moment;
use crate::mutants::{Mutant, is_on};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::machine::{Bodies, Change, Row, StoredChunk, StoredDedup, StoredMessage, Table};
use turnwise_core::{Result, StoreError};

/// The log with what is about to go into it.
pub(super) struct Rows {
    log: Box<dyn DurableLog>,
    /// In key order, so that a commit writes in the order of the file's tables.
    pending: BTreeMap<(Table, u64), Option<Row>>,
    urgent: bool,
    pending_since: Option<Moment>,
    unsynced_since: Option<Moment>,
    cache: Cache,
    scratch: Vec<u8>,
    /// What the fault `LossAtKill` keeps from the disk; empty without it.
    withheld: BTreeMap<(Table, u64), Row>,
}

impl Rows {
    pub(super) fn new(log: Box<dyn DurableLog>, cache_bytes: usize) -> Rows {
        Rows {
            log,
            pending: BTreeMap::new(),
            urgent: false,
            pending_since: None,
            unsynced_since: None,
            cache: Cache { rows: BTreeMap::new(), bytes: 0, bytes_max: cache_bytes },
            scratch: Vec::new(),
            withheld: BTreeMap::new(),
        }
    }

    /// Takes a change on board; later ones of the same row replace earlier ones.
    pub(super) fn absorb(&mut self, change: Change) {
        if is_on(Mutant::LossAtKill) && self.withhold(&change) {
            return;
        }
        self.urgent |= !change.is_lazy();
        self.pending_since.get_or_insert_with(Moment::now);
        match change {
            Change::Put { key, row, .. } => {
                self.pending.insert((row.table(), key), Some(row));
            }
            Change::Delete { table, key } => {
                self.cache.remove(table, key);
                self.pending.insert((table, key), None);
            }
        }
    }

    /// A fault: messages and their states live in memory only.
    fn withhold(&mut self, change: &Change) -> bool {
        match change {
            Change::Put { key, row: row @ (Row::Message(_) | Row::State(_)), .. } => {
                self.withheld.insert((row.table(), *key), row.clone());
                true
            }
            Change::Delete { table, key } => self.withheld.remove(&(*table, *key)).is_some(),
            Change::Put { .. } => false,
        }
    }

    /// Whether something waits that must be on disk before it is answered.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// For how long something has waited to be written or synced.
    pub(super) fn waiting_for(&self) -> Option<Duration> {
        [self.pending_since, self.unsynced_since].into_iter().flatten().map(Moment::elapsed).max()
    }

    /// Writes all that waits, in one transaction.
    pub(super) fn commit(&mut self, sync: Sync) -> std::result::Result<(), CommitFailed> {
        let Rows { log, pending, scratch, .. } = self;
        log.commit(sync, &mut |write| {
            for ((table, key), row) in pending.iter() {
                match row {
                    Some(row) => {
                        record::encode(*key, row, scratch);
                        write(Write::Put(*table, *key, scratch));
                    }
                    None => write(Write::Delete(*table, *key)),
                }
            }
        })?;
        self.urgent = false;
        self.pending_since = None;
        self.unsynced_since = match sync {
            Sync::Now => None,
            Sync::Later => Some(self.unsynced_since.unwrap_or_else(Moment::now)),
        };
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        for ((table, key), row) in std::mem::take(&mut self.pending) {
            if let Some(row) = row {
                self.cache.insert(table, key, row);
            }
        }
        Ok(())
    }

    /// Closes the log in order.
    pub(super) fn close(&mut self) {
        self.log.close();
    }

    /// Bytes of all records on disk, roughly.
    pub(super) fn live_bytes(&self) -> u64 {
        self.log.live_bytes()
    }

    fn find(&self, table: Table, key: u64) -> Result<Row> {
        let missing = || StoreError::Corrupt(format!("record {key} of table {table:?} is missing"));
        if let Some(pending) = self.pending.get(&(table, key)) {
            return pending.clone().ok_or_else(missing);
        }
        if let Some(row) = self.withheld.get(&(table, key)) {
            return Ok(row.clone());
        }
        if let Some((row, _)) = self.cache.rows.get(&(key, table)) {
            return Ok(row.clone());
        }
        let record = self.log.read(table, key)?.ok_or_else(missing)?;
        record::decode(table, key, &record)
    }
}

/// The buffer for encoding is cut back to this after a commit.
const SCRATCH_BYTES_KEPT: usize = 1024 * 1024;

impl Bodies for Rows {
    fn message(&self, seq: u64) -> Result<Arc<StoredMessage>> {
        match self.find(Table::Message, seq)? {
            Row::Message(message) => Ok(message),
            row => Err(misplaced(seq, &row)),
        }
    }

    fn events(&self, seq: u64) -> Result<Arc<StoredChunk>> {
        match self.find(Table::Events, seq)? {
            Row::Events(chunk) => Ok(chunk),
            row => Err(misplaced(seq, &row)),
        }
    }

    fn dedup(&self, row: u64) -> Result<Arc<StoredDedup>> {
        match self.find(Table::Dedup, row)? {
            Row::Dedup(known) => Ok(known),
            other => Err(misplaced(row, &other)),
        }
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Cache { rows, bytes, bytes_max: _ } = &self.cache;
        // The store's own row is rewritten for ever.
        let pending = self.pending.keys().filter(|(table, _)| *table != Table::Meta).count();
        vec![("rows to be written", pending), ("cached bodies", rows.len()), ("bytes of those", *bytes)]
    }
}

fn misplaced(key: u64, row: &Row) -> StoreError {
    StoreError::Corrupt(format!("record {key} belongs to table {:?}", row.table()))
}

/// Bodies put lately: a claim soon after its enqueue reads no disk. Keys rise
/// for ever, so the smallest is the oldest.
struct Cache {
    rows: BTreeMap<(u64, Table), (Row, usize)>,
    bytes: usize,
    bytes_max: usize,
}

/// What a row in the cache costs besides its body.
const ROW_BYTES: usize = 256;

impl Cache {
    fn insert(&mut self, table: Table, key: u64, row: Row) {
        let bytes = ROW_BYTES
            + match &row {
                Row::Message(message) => message.payload.len(),
                Row::Events(chunk) => chunk.events.iter().map(|event| ROW_BYTES + event.data.len()).sum(),
                Row::State(_) | Row::Dedup(_) | Row::Topic(_) | Row::Cursor(_) | Row::Meta(_) => return,
            };
        self.remove(table, key);
        if bytes > self.bytes_max {
            return;
        }
        self.bytes += bytes;
        self.rows.insert((key, table), (row, bytes));
        while self.bytes > self.bytes_max {
            let Some((_, (_, bytes))) = self.rows.pop_first() else { break };
            self.bytes -= bytes;
        }
    }

    fn remove(&mut self, table: Table, key: u64) {
        if let Some((_, bytes)) = self.rows.remove(&(key, table)) {
            self.bytes -= bytes;
        }
    }
}

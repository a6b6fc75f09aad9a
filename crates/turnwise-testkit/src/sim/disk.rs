//! A disk that loses what was not synced, and tears the last write.

use crate::trial::Broken;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use turnwise_core::machine::{Bodies, Change, Row, StoredChunk, StoredDedup, StoredMessage, Table};
use turnwise_core::{Result, StoreError};

type Key = (Table, u64);

/// One step's changes as one record, with its checksum.
#[derive(Debug)]
struct Frame {
    step: usize,
    changes: Vec<Change>,
    sum: u64,
}

/// The rows of one simulated store.
#[derive(Debug, Default)]
pub struct Disk {
    synced: BTreeMap<Key, Row>,
    /// What a running process sees: synced and pending.
    seen: BTreeMap<Key, Row>,
    pending: Vec<Frame>,
}

/// FNV-1a over what a record would hold.
struct Sum(u64);

impl std::fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

fn checksum(changes: &[Change]) -> u64 {
    let mut sum = Sum(0xcbf2_9ce4_8422_2325);
    let _ = write!(sum, "{changes:?}");
    sum.0
}

fn apply(rows: &mut BTreeMap<Key, Row>, change: &Change) {
    match change {
        Change::Put { key, row, .. } => {
            rows.insert((row.table(), *key), row.clone());
        }
        Change::Delete { table, key } => {
            rows.remove(&(*table, *key));
        }
    }
}

impl Disk {
    /// Takes the changes of one step; durable only after [`Disk::sync`].
    pub fn write(&mut self, step: usize, changes: Vec<Change>) {
        for change in &changes {
            apply(&mut self.seen, change);
        }
        self.pending.push(Frame { step, changes, sum: 0 });
    }

    /// Makes everything written so far durable.
    pub fn sync(&mut self) {
        for frame in self.pending.drain(..) {
            for change in &frame.changes {
                apply(&mut self.synced, change);
            }
        }
    }

    /// Records not yet durable.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A crash: the first `whole` pending records reached the disk, of the next
    /// one only `torn` changes. Answers the first step that was lost.
    ///
    /// # Errors
    /// When a torn record was taken for a whole one.
    pub fn crash(&mut self, whole: usize, torn: usize) -> std::result::Result<Option<usize>, Broken> {
        let mut lost = self.pending.split_off(whole.min(self.pending.len()));
        self.sync();
        self.seen = self.synced.clone();
        let first = lost.first_mut();
        let step = first.as_ref().map(|frame| frame.step);
        if let Some(frame) = first {
            frame.sum = checksum(&frame.changes);
            let kept = torn.min(frame.changes.len().saturating_sub(1));
            frame.changes.truncate(kept);
            if checksum(&frame.changes) == frame.sum {
                return Err(Broken("a torn record passed its checksum".into()));
            }
        }
        Ok(step)
    }

    /// All rows a reopened store finds.
    pub fn rows(&self) -> impl Iterator<Item = Result<(u64, Row)>> + '_ {
        self.synced.iter().map(|((_, key), row)| Ok((*key, row.clone())))
    }
}

impl Bodies for Disk {
    fn message(&self, seq: u64) -> Result<Arc<StoredMessage>> {
        match self.seen.get(&(Table::Message, seq)) {
            Some(Row::Message(message)) => Ok(Arc::clone(message)),
            _ => Err(StoreError::Corrupt(format!("message {seq} is not on disk"))),
        }
    }

    fn events(&self, seq: u64) -> Result<Arc<StoredChunk>> {
        match self.seen.get(&(Table::Events, seq)) {
            Some(Row::Events(chunk)) => Ok(Arc::clone(chunk)),
            _ => Err(StoreError::Corrupt(format!("events {seq} are not on disk"))),
        }
    }

    fn dedup(&self, row: u64) -> Result<Arc<StoredDedup>> {
        match self.seen.get(&(Table::Dedup, row)) {
            Some(Row::Dedup(known)) => Ok(Arc::clone(known)),
            _ => Err(StoreError::Corrupt(format!("dedup key {row} is not on disk"))),
        }
    }
}

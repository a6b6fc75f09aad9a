//! Which dedup keys are in use (clauses Q11, T4). Memory holds a hash of each
//! and the number of its row; the row, read back, tells the rest.

use super::Machine;
use super::mutants::{Mutant, is_on};
use super::rows::{Bodies, Change, DedupScope, Row, StoredDedup, Table};
use crate::error::Result;
use crate::message::Dedup;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
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

/// The keys in use.
#[derive(Debug, Default)]
pub(super) struct Dedups {
    /// (hash of scope and key, row).
    by_hash: BTreeSet<(u64, u64)>,
    /// When each row is forgotten, and its hash.
    until: BTreeMap<(Timestamp, u64), u64>,
}

/// Only for finding the row, which is compared in full.
#[must_use]
pub fn dedup_hash(scope: &DedupScope, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    scope.hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

impl Dedups {
    /// From (until, row, hash) of each key.
    pub(super) fn load(all: Vec<(Timestamp, u64, u64)>) -> Dedups {
        Dedups {
            by_hash: all.iter().map(|(_, row, hash)| (*hash, *row)).collect(),
            until: all.into_iter().map(|(until, row, hash)| ((until, row), hash)).collect(),
        }
    }

    /// How many of each index.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let Dedups { by_hash, until } = self;
        (by_hash.len(), until.len())
    }
}

impl Machine {
    /// Looks a dedup key up; a key past its window is forgotten.
    pub(super) fn seen(
        &mut self,
        now: Timestamp,
        scope: &DedupScope,
        dedup: &Dedup,
        bodies: &dyn Bodies,
    ) -> Result<Seen> {
        let Some(known) = self.find_dedup(scope, &dedup.key, bodies)? else {
            return Ok(Seen::New);
        };
        let (row, known) = known;
        if known.until <= now {
            self.forget_dedup(row, known.until);
            return Ok(Seen::New);
        }
        if known.content_hash == dedup.content_hash {
            Ok(Seen::Same(known.answer, known.nonce))
        } else {
            Ok(Seen::Other(known.answer, known.nonce))
        }
    }

    fn find_dedup(
        &self,
        scope: &DedupScope,
        key: &[u8],
        bodies: &dyn Bodies,
    ) -> Result<Option<(u64, Arc<StoredDedup>)>> {
        let hash = dedup_hash(scope, key);
        for (_, row) in self.dedup.by_hash.range((hash, 0)..=(hash, u64::MAX)) {
            let known = self.dedup_row(bodies, *row)?;
            if known.scope == *scope && known.key == key {
                return Ok(Some((*row, known)));
            }
        }
        Ok(None)
    }

    fn dedup_row(&self, bodies: &dyn Bodies, row: u64) -> Result<Arc<StoredDedup>> {
        for change in self.changes.iter().rev() {
            if let Change::Put { key, row: Row::Dedup(known), .. } = change
                && *key == row
            {
                return Ok(Arc::clone(known));
            }
        }
        bodies.dedup(row)
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
        let row = self.next_seq();
        if is_on(Mutant::DedupNotPersisted) {
            return;
        }
        let hash = dedup_hash(&scope, &dedup.key);
        let content_hash = dedup.content_hash;
        let stored = StoredDedup { scope, key: dedup.key, content_hash, until, answer, nonce };
        self.put(row, Row::Dedup(Arc::new(stored)), false);
        self.dedup.by_hash.insert((hash, row));
        self.dedup.until.insert((until, row), hash);
    }

    fn forget_dedup(&mut self, row: u64, until: Timestamp) {
        if let Some(hash) = self.dedup.until.remove(&(until, row)) {
            self.dedup.by_hash.remove(&(hash, row));
            self.delete(Table::Dedup, row);
        }
    }

    pub(super) fn forget_old_dedup(&mut self, now: Timestamp, limit: usize) -> usize {
        let old = self.dedup.until.keys().take_while(|(until, _)| *until <= now).take(limit);
        let old: Vec<_> = old.copied().collect();
        for (until, row) in &old {
            self.forget_dedup(*row, *until);
        }
        old.len()
    }
}

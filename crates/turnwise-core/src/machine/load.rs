//! Building the machine from the rows of a store, and refusing rows that
//! cannot belong together (clause X1).

use super::Machine;
use super::index::Entry;
use super::mutants::{Mutant, is_on};
use super::rows::{Row, StoredMessage, StoredMeta, StoredState, StoredTopic};
use crate::error::{Result, StoreError};
use crate::topic::Epoch;
use std::collections::BTreeMap;
use std::sync::Arc;

fn corrupt(what: String) -> StoreError {
    StoreError::Corrupt(what)
}

impl Machine {
    /// Rebuilds all indexes from rows in any order. Payloads are not kept.
    ///
    /// # Errors
    /// The iterator's own error, or `Corrupt` when rows contradict each other.
    pub fn load(rows: impl IntoIterator<Item = Result<(u64, Row)>>) -> Result<Machine> {
        let mut machine = Machine::empty(StoredMeta { epoch: Epoch(0), seq_ceiling: 0, token_ceiling: 0 });
        let mut meta = None;
        let mut highest = 0;
        let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut states: BTreeMap<u64, StoredState> = BTreeMap::new();
        let mut topics = Vec::new();
        for row in rows {
            let (key, row) = row?;
            highest = highest.max(key);
            match row {
                Row::Message(message) => {
                    entries.insert(key, entry_of(key, &message)?);
                }
                Row::State(state) => {
                    states.insert(key, state);
                }
                Row::Dedup(stored) => machine.index_dedup(key, stored),
                Row::Events(chunk) if chunk.events.is_empty() || chunk.first.0 == 0 => {
                    return Err(corrupt(format!("event record {key} holds no events")));
                }
                Row::Events(chunk) => machine.index_chunk(key, &chunk),
                Row::Topic(stored) => topics.push((key, stored)),
                Row::Cursor(stored) => {
                    let cursors = machine.topics.cursors.entry(stored.topic).or_default();
                    cursors.insert(stored.subscription, (key, stored.position));
                }
                Row::Meta(stored) => meta = Some(stored),
            }
        }
        let meta = meta.ok_or_else(|| corrupt("the record with the store's counters is missing".into()))?;
        if highest > meta.seq_ceiling {
            return Err(corrupt(format!("record {highest} is beyond the reserved {}", meta.seq_ceiling)));
        }
        machine.meta = meta;
        machine.last_seq = meta.seq_ceiling;
        machine.last_token = if is_on(Mutant::TokenReset) { 0 } else { meta.token_ceiling };
        machine.load_topics(topics)?;
        machine.load_entries(entries, states)?;
        Ok(machine)
    }

    fn load_entries(
        &mut self,
        mut entries: BTreeMap<u64, Entry>,
        states: BTreeMap<u64, StoredState>,
    ) -> Result<()> {
        for (seq, state) in states {
            let entry = entries
                .get_mut(&seq)
                .ok_or_else(|| corrupt(format!("state record {seq} belongs to no message")))?;
            entry.state = state;
        }
        for entry in entries.into_values() {
            self.index(entry);
        }
        Ok(())
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
            for (first, (_, count)) in &topic.chunks {
                let expected = next.unwrap_or(*first);
                if *first != expected || (next.is_none() && *first > topic.first) {
                    return Err(corrupt(format!("events before {first} of topic {name:?} are missing")));
                }
                next = Some(first + count);
            }
            if next.is_some_and(|next| next != topic.last + 1) {
                return Err(corrupt(format!("the newest events of topic {name:?} are missing")));
            }
        }
        Ok(())
    }
}

fn entry_of(key: u64, message: &Arc<StoredMessage>) -> Result<Entry> {
    if message.id.seq() != key {
        return Err(corrupt(format!("message record {key} holds message {}", message.id)));
    }
    Ok(Entry::of(message))
}

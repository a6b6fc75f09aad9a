//! Topics: appending, reading, trimming, cursors (clauses T1 to T7).

use super::dedup::Seen;
use super::load::ChunkHead;
use super::mutants::{Mutant, is_on};
use super::rows::{Bodies, Change, DedupScope, Row, StoredChunk, StoredCursor, StoredTopic, Table};
use super::{Machine, check};
use crate::error::{ItemResult, Result, StoreError};
use crate::lease::Receipt;
use crate::limits::{EFFECTS_MAX, LIST_LIMIT_MAX, READ_BYTES_MAX};
use crate::name::{Kind, Name, TopicName};
use crate::time::Timestamp;
use crate::topic::{
    Event, NewEvent, Offset, Position, Read, ReadFrom, ReadMany, StorePosition, TopicInfo, TopicPattern,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// One topic's chunks.
#[derive(Debug)]
pub(super) struct Topic {
    /// By first offset.
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) keep_until: Option<Timestamp>,
    pub(super) row: Option<u64>,
}

/// Where events are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Offset of the first event.
    pub(super) first: u64,
    pub(super) count: u32,
    bytes: u32,
    /// Key of its row.
    row: u64,
}

impl Chunk {
    /// The offset after its last event.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

impl Topic {
    /// The chunks from the one that holds `offset` on.
    fn chunks_from(&self, offset: u64) -> impl Iterator<Item = &Chunk> {
        let before = self.chunks.partition_point(|chunk| chunk.end() <= offset);
        self.chunks.range(before..)
    }

    fn add(&mut self, chunk: Chunk) {
        if self.chunks.is_empty() {
            // Most topics hold one chunk or two.
            self.chunks.reserve_exact(1);
        }
        let at = self.chunks.partition_point(|before| before.first < chunk.first);
        self.chunks.insert(at, chunk);
    }
}

impl Default for Topic {
    fn default() -> Self {
        Topic { chunks: VecDeque::new(), first: 1, last: 0, keep_until: None, row: None }
    }
}

/// All topics and cursors.
#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) by_name: BTreeMap<TopicName, Topic>,
    pub(super) by_seq: BTreeMap<u64, TopicName>,
    pub(super) keep: BTreeSet<(Timestamp, TopicName)>,
    pub(super) cursors: HashMap<TopicName, BTreeMap<String, (u64, Position)>>,
    /// Highest chunk dropped in each organisation and kind, and its row.
    pub(super) dropped: HashMap<(Box<str>, Kind), (u64, u64)>,
}

impl Machine {
    /// See [`crate::TopicStore::append`].
    ///
    /// # Errors
    /// `Invalid` when an item breaks a limit; then nothing changed.
    pub fn append(
        &mut self,
        now: Timestamp,
        batch: Vec<NewEvent>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Position>>> {
        check::events(&batch)?;
        self.append_checked(now, batch, bodies)
    }

    /// See [`crate::Store::append_held`].
    ///
    /// # Errors
    /// `Invalid` when an item breaks a limit; then nothing changed.
    pub fn append_held(
        &mut self,
        now: Timestamp,
        holder: &Receipt,
        batch: Vec<NewEvent>,
        bodies: &dyn Bodies,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        check::events(&batch)?;
        self.tick(now, bodies)?;
        self.notice(now, holder.id, bodies)?;
        if !self.holds(holder) && !is_on(Mutant::AppendUnfenced) {
            return Ok(None);
        }
        self.append_checked(now, batch, bodies).map(Some)
    }

    fn append_checked(
        &mut self,
        now: Timestamp,
        batch: Vec<NewEvent>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Position>>> {
        let offsets = self.append_all(now, batch, bodies)?;
        let epoch = self.meta.epoch;
        let conflict = || StoreError::Invalid("the dedup key was used with other content".into());
        let position = |offset: Option<Offset>| Ok(Position { epoch, offset: offset.ok_or_else(conflict)? });
        Ok(offsets.into_iter().map(position).collect())
    }

    /// Appends in order; neighbours of one topic share a chunk. `None` is a dedup conflict.
    pub(super) fn append_all(
        &mut self,
        now: Timestamp,
        batch: Vec<NewEvent>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<Option<Offset>>> {
        let mut offsets = Vec::with_capacity(batch.len());
        let mut open: Option<StoredChunk> = None;
        for new in batch {
            let scope = new.dedup.map(|dedup| (DedupScope::Topic(new.topic.clone()), dedup));
            if let Some((scope, dedup)) = &scope {
                match self.seen(now, scope, dedup, bodies)? {
                    Seen::New => {}
                    Seen::Same(offset, _) => {
                        offsets.push(Some(Offset(offset)));
                        continue;
                    }
                    Seen::Other(..) => {
                        offsets.push(None);
                        continue;
                    }
                }
            }
            if open.as_ref().is_some_and(|chunk| {
                chunk.topic != new.topic || is_full(chunk, new.event_type.len() + new.data.len())
            }) && let Some(chunk) = open.take()
            {
                self.put_chunk(chunk);
            }
            let topic = self.topics.by_name.entry(new.topic.clone()).or_default();
            topic.last += 1;
            let offset = Offset(topic.last);
            if let Some((scope, dedup)) = scope {
                self.remember(now, scope, dedup, offset.0, 0);
            }
            let chunk = open.get_or_insert_with(|| StoredChunk {
                topic: new.topic,
                first: offset,
                events: Vec::new(),
                keep_until: None,
            });
            chunk.keep_until = chunk.keep_until.max(new.keep_until);
            chunk.events.push(Event { offset, event_type: new.event_type, data: new.data, appended_at: now });
            offsets.push(Some(offset));
        }
        if let Some(chunk) = open {
            self.put_chunk(chunk);
        }
        Ok(offsets)
    }

    fn put_chunk(&mut self, chunk: StoredChunk) {
        let seq = self.next_seq();
        self.hinted_topics.insert(chunk.topic.clone());
        self.index_chunk(seq, chunk.head());
        self.put(seq, Row::Events(Arc::new(chunk)), false);
    }

    pub(super) fn index_chunk(&mut self, row: u64, chunk: ChunkHead) {
        let topic = self.topics.by_name.entry(chunk.topic.clone()).or_default();
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        topic.add(Chunk { first: chunk.first.0, count: short(chunk.count), bytes: short(chunk.bytes), row });
        topic.last = topic.last.max(chunk.first.0 + chunk.count - 1);
        if chunk.keep_until > topic.keep_until {
            if let Some(before) = topic.keep_until {
                self.topics.keep.remove(&(before, chunk.topic.clone()));
            }
            topic.keep_until = chunk.keep_until;
            self.topics.keep.extend(chunk.keep_until.map(|until| (until, chunk.topic.clone())));
        }
        self.topics.by_seq.insert(row, chunk.topic);
    }

    fn chunk(&self, bodies: &dyn Bodies, seq: u64) -> Result<Arc<StoredChunk>> {
        for change in self.changes.iter().rev() {
            if let Change::Put { key, row: Row::Events(chunk), .. } = change
                && *key == seq
            {
                return Ok(Arc::clone(chunk));
            }
        }
        bodies.events(seq)
    }

    /// See [`crate::TopicStore::read`].
    ///
    /// # Errors
    /// `Corrupt` when a chunk cannot be read.
    pub fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32, bodies: &dyn Bodies) -> Result<Read> {
        let epoch = self.meta.epoch;
        let at = |offset: u64| Position { epoch, offset: Offset(offset) };
        let nothing = Topic::default();
        let topic = self.topics.by_name.get(topic).unwrap_or(&nothing);
        let after = match from {
            ReadFrom::Earliest => topic.first - 1,
            ReadFrom::Latest => {
                return Ok(Read::Events { events: Vec::new(), next: at(topic.last) });
            }
            ReadFrom::After(position) => {
                let here =
                    position.epoch == epoch && (topic.first - 1..=topic.last).contains(&position.offset.0);
                if !here && !is_on(Mutant::GapSilent) {
                    return Ok(Read::Gap { resume: at(topic.first - 1) });
                }
                position.offset.0.clamp(topic.first - 1, topic.last)
            }
        };
        let mut events: Vec<Event> = Vec::new();
        let limit = limit.clamp(1, LIST_LIMIT_MAX) as usize;
        let mut bytes = 0;
        'chunks: for chunk in topic.chunks_from(after + 1) {
            for event in self.chunk(bodies, chunk.row)?.events.iter().filter(|event| event.offset.0 > after) {
                bytes += event.bytes();
                if is_over_page(events.len(), bytes) {
                    break 'chunks;
                }
                events.push(event.clone());
                if events.len() >= limit {
                    break 'chunks;
                }
            }
        }
        let next = at(events.last().map_or(after, |event| event.offset.0));
        Ok(Read::Events { events, next })
    }

    /// See [`crate::TopicStore::read_many`]. Whole chunks, so a page may be a little longer than `limit`.
    /// A chunk is no larger than a page may be, unless one event alone is.
    ///
    /// # Errors
    /// `Corrupt` when a chunk cannot be read.
    pub fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
        bodies: &dyn Bodies,
    ) -> Result<ReadMany> {
        let epoch = self.meta.epoch;
        let same = after.epoch == epoch;
        let start = if same { after.seq } else { 0 };
        let room = |pattern: &TopicPattern| (pattern.0.org().into(), pattern.0.kind());
        let dropped = |pattern| self.topics.dropped.get(&room(pattern)).is_some_and(|(seq, _)| *seq > start);
        let gap = (!same && after.seq > 0) || (start > 0 && patterns.iter().any(dropped));
        let (mut events, mut seqs, mut next, mut bytes) = (Vec::new(), Vec::new(), start, 0);
        for (seq, topic) in self.topics.by_seq.range((Bound::Excluded(start), Bound::Unbounded)) {
            if patterns.iter().any(|pattern| pattern.matches(topic)) {
                let first = self.topics.by_name.get(topic).map_or(1, |topic| topic.first);
                let chunk = self.chunk(bodies, *seq)?;
                let kept = chunk.events.iter().filter(|event| event.offset.0 >= first);
                bytes += kept.clone().map(Event::bytes).sum::<usize>();
                if is_over_page(events.len(), bytes) {
                    break;
                }
                events.extend(kept.map(|event| (topic.clone(), event.clone())));
                seqs.resize(events.len(), *seq);
            }
            next = *seq;
            if events.len() >= limit as usize {
                break;
            }
        }
        Ok(ReadMany { events, seqs, next: StorePosition { epoch, seq: next }, gap })
    }

    /// See [`crate::TopicStore::end`].
    #[must_use]
    pub fn end(&self) -> StorePosition {
        StorePosition { epoch: self.meta.epoch, seq: self.last_seq }
    }

    /// See [`crate::TopicStore::topics`].
    #[must_use]
    pub fn topics(&self, pattern: &TopicPattern, after: Option<&TopicName>, limit: u32) -> Vec<TopicInfo> {
        let room = Name::new(pattern.0.org(), pattern.0.kind(), "").ok();
        let start = after.or(room.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
        let in_room = |name: &TopicName| name.org() == pattern.0.org() && name.kind() == pattern.0.kind();
        let info = |(name, topic): (&TopicName, &Topic)| TopicInfo {
            topic: name.clone(),
            first: Offset(topic.first),
            last: Offset(topic.last),
            keep_until: topic.keep_until,
            bytes: topic.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum(),
        };
        let page = self.topics.by_name.range::<TopicName, _>((start, Bound::Unbounded));
        page.take_while(|(name, _)| in_room(name))
            .filter(|(name, _)| pattern.matches(name))
            .take(limit.min(LIST_LIMIT_MAX) as usize)
            .map(info)
            .collect()
    }

    /// See [`crate::TopicStore::trim`].
    pub fn trim(&mut self, name: &TopicName, before: Offset) {
        let Some(topic) = self.topics.by_name.get_mut(name) else {
            return;
        };
        let first = before.0.clamp(topic.first, topic.last + 1);
        if first == topic.first {
            return;
        }
        topic.first = first;
        let gone = topic.chunks.partition_point(|chunk| chunk.end() <= first);
        let seqs: Vec<u64> = topic.chunks.drain(..gone).map(|chunk| chunk.row).collect();
        let cut = topic.chunks.front().filter(|chunk| chunk.first < first).map(|chunk| chunk.row);
        let (last, row) = (topic.last, topic.row);
        let row = row.unwrap_or_else(|| self.next_seq());
        if let Some(topic) = self.topics.by_name.get_mut(name) {
            topic.row = Some(row);
        }
        let stored = StoredTopic { topic: name.clone(), first: Offset(first), last: Offset(last) };
        self.put(row, Row::Topic(stored), false);
        self.drop_chunks(name, &seqs);
        if let Some(cut) = cut {
            self.mark_dropped(name, cut);
        }
    }

    fn drop_chunks(&mut self, name: &TopicName, seqs: &[u64]) {
        for seq in seqs {
            self.topics.by_seq.remove(seq);
            self.delete(Table::Events, *seq);
        }
        if let Some(highest) = seqs.iter().max().copied() {
            self.mark_dropped(name, highest);
        }
    }

    /// Notes that readers below `highest` in this organisation and kind missed something.
    fn mark_dropped(&mut self, name: &TopicName, highest: u64) {
        let room = (name.org().into(), name.kind());
        let known = self.topics.dropped.get(&room).copied();
        let (before, row) = known.unwrap_or_else(|| (0, self.next_seq()));
        let highest = highest.max(before);
        self.topics.dropped.insert(room, (highest, row));
        if let Ok(marker) = Name::new(name.org(), name.kind(), "") {
            let stored = StoredTopic { topic: marker, first: Offset(0), last: Offset(highest) };
            self.put(row, Row::Topic(stored), false);
        }
    }

    /// See [`crate::TopicStore::drop_topics`].
    pub fn drop_topics(&mut self, names: &[TopicName]) -> u32 {
        let mut count = 0;
        for name in names {
            let Some(topic) = self.topics.by_name.remove(name) else {
                continue;
            };
            count += 1;
            if let Some(until) = topic.keep_until {
                self.topics.keep.remove(&(until, name.clone()));
            }
            if let Some(row) = topic.row {
                self.delete(Table::Topic, row);
            }
            for (row, _) in self.topics.cursors.remove(name).unwrap_or_default().into_values() {
                self.delete(Table::Cursor, row);
            }
            let seqs: Vec<u64> = topic.chunks.iter().map(|chunk| chunk.row).collect();
            self.drop_chunks(name, &seqs);
        }
        count
    }

    pub(super) fn drop_old_topics(&mut self, now: Timestamp, limit: usize) -> usize {
        let old = self.topics.keep.iter().take_while(|(until, _)| *until <= now).take(limit);
        let names: Vec<TopicName> = old.map(|(_, name)| name.clone()).collect();
        self.drop_topics(&names) as usize
    }

    /// See [`crate::TopicStore::cursor`].
    #[must_use]
    pub fn cursor(&self, topic: &TopicName, subscription: &str) -> Option<Position> {
        self.topics.cursors.get(topic)?.get(subscription).map(|(_, position)| *position)
    }

    /// See [`crate::TopicStore::advance`].
    pub fn advance(
        &mut self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> bool {
        let known = self.topics.cursors.get(topic).and_then(|all| all.get(subscription)).copied();
        let back = known.is_some_and(|(_, at)| at.epoch == to.epoch && to.offset < at.offset);
        if known.map(|(_, at)| at) != from || (back && !is_on(Mutant::CursorGoesBack)) {
            return false;
        }
        let row = known.map_or_else(|| self.next_seq(), |(row, _)| row);
        self.topics.cursors.entry(topic.clone()).or_default().insert(subscription.to_owned(), (row, to));
        let stored =
            StoredCursor { topic: topic.clone(), subscription: subscription.to_owned(), position: to };
        self.put(row, Row::Cursor(stored), false);
        true
    }
}

/// Whether a page that holds `events` already would become too large.
fn is_over_page(events: usize, bytes: usize) -> bool {
    events > 0 && bytes > READ_BYTES_MAX && !is_on(Mutant::PageUnbounded)
}

/// Whether the next event, of so many bytes, starts a chunk of its own.
fn is_full(chunk: &StoredChunk, next: usize) -> bool {
    let bytes: usize = chunk.events.iter().map(Event::bytes).sum();
    chunk.events.len() >= EFFECTS_MAX || bytes + next > READ_BYTES_MAX
}

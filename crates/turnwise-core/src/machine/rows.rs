//! What the machine asks an engine to keep, and how it reads bodies back.
//! Row shapes are not disk formats: an engine encodes them in its own way.

use super::load::{ChunkHead, MessageHead};
use crate::error::Result;
use crate::lease::LeaseToken;
use crate::message::{Effect, Headers, MessageId, OrderingKey, Priority, Stage};
use crate::name::{Name, QueueName, TopicName};
use crate::time::Timestamp;
use crate::topic::{Epoch, Event, Offset, Position};
use bytes::Bytes;
use std::sync::Arc;

/// The part of a message that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its id; the sequence in it is the row's key.
    pub id: MessageId,
    /// Its queue.
    pub queue: QueueName,
    /// Its lane.
    pub key: Option<OrderingKey>,
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
    /// Names and values beside the payload.
    pub headers: Headers,
    /// The content.
    pub payload: Bytes,
    /// Applied if the store itself ends the message.
    pub at_end: Vec<Effect>,
}

impl StoredMessage {
    /// What the indexes keep of it.
    pub(super) fn head(&self) -> MessageHead {
        MessageHead {
            nonce: self.id.nonce(),
            queue: self.queue.clone(),
            key: self.key.as_ref().map(|key| key.0[..].into()),
            priority: self.priority,
            max_attempts: self.max_attempts,
            enqueued_at: self.enqueued_at,
            deliver_at: self.deliver_at,
            expires_at: self.expires_at,
        }
    }
}

/// The part of a message that changes; without a row it is as at enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Leases so far that counted.
    pub attempt: u32,
    /// Where it is.
    pub stage: Stage,
    /// Its place in its lane.
    pub place: u64,
    /// The end of a retry delay.
    pub not_before: Option<Timestamp>,
    /// The newest lease.
    pub token: Option<LeaseToken>,
    /// The end of the newest lease.
    pub lease_expires_at: Option<Timestamp>,
    /// Of the last retry, or of the dead letter.
    pub reason: Option<String>,
    /// The holder was asked to stop.
    pub stop_requested: bool,
}

/// Where a dedup key is unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DedupScope {
    /// In this queue.
    Queue(Name),
    /// In this topic.
    Topic(Name),
}

/// A dedup key in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDedup {
    /// Where it is unique.
    pub scope: DedupScope,
    /// The key.
    pub key: Bytes,
    /// What a repeat must match.
    pub content_hash: [u8; 16],
    /// Forgotten from then on.
    pub until: Timestamp,
    /// The first message's sequence, or the first event's offset.
    pub answer: u64,
    /// The first message's nonce.
    pub nonce: u64,
}

/// Events of one topic that were appended in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Their topic.
    pub topic: TopicName,
    /// The place of the first.
    pub first: Offset,
    /// At least one.
    pub events: Vec<Event>,
    /// The newest `keep_until` among them.
    pub keep_until: Option<Timestamp>,
}

impl StoredChunk {
    /// What the indexes keep of it.
    pub(super) fn head(&self) -> ChunkHead {
        ChunkHead {
            topic: self.topic.clone(),
            first: self.first,
            count: self.events.len() as u64,
            bytes: self.events.iter().map(|event| event.bytes() as u64).sum(),
            keep_until: self.keep_until,
        }
    }
}

/// What a topic's chunks do not tell: how far it was trimmed. With an empty
/// name: the highest sequence that was dropped in that organisation and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTopic {
    /// The topic.
    pub topic: TopicName,
    /// The oldest offset kept.
    pub first: Offset,
    /// The newest offset.
    pub last: Offset,
}

/// Where a subscription is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCursor {
    /// Its topic.
    pub topic: TopicName,
    /// Its name.
    pub subscription: String,
    /// Its place.
    pub position: Position,
}

/// The store's own counters. Ceilings are reserved in blocks, so that a
/// crash skips numbers and never repeats one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMeta {
    /// Of the store.
    pub epoch: Epoch,
    /// No sequence above this was given out.
    pub seq_ceiling: u64,
    /// No token above this was given out.
    pub token_ceiling: u64,
}

/// One row of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// See [`StoredMessage`].
    Message(Arc<StoredMessage>),
    /// See [`StoredState`].
    State(StoredState),
    /// See [`StoredDedup`].
    Dedup(Arc<StoredDedup>),
    /// See [`StoredChunk`].
    Events(Arc<StoredChunk>),
    /// See [`StoredTopic`].
    Topic(StoredTopic),
    /// See [`StoredCursor`].
    Cursor(StoredCursor),
    /// See [`StoredMeta`].
    Meta(StoredMeta),
}

/// The tables; a row is named by its table and a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Numbers are on disk: never reuse or renumber.
    Message = 0,
    /// Keyed as `Message`.
    State = 1,
    /// Keyed by a sequence of its own.
    Dedup = 2,
    /// Keyed by a sequence of its own.
    Events = 3,
    /// Keyed by a sequence of its own.
    Topic = 4,
    /// Keyed by a sequence of its own.
    Cursor = 5,
    /// One row, key 0.
    Meta = 6,
}

impl Row {
    /// The table this row belongs to.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Row::Message(_) => Table::Message,
            Row::State(_) => Table::State,
            Row::Dedup(_) => Table::Dedup,
            Row::Events(_) => Table::Events,
            Row::Topic(_) => Table::Topic,
            Row::Cursor(_) => Table::Cursor,
            Row::Meta(_) => Table::Meta,
        }
    }
}

/// One change to the rows. All changes of one step go to disk together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Write or replace a row.
    Put {
        /// Names the row within its table.
        key: u64,
        /// The row.
        row: Row,
        /// Need not be on disk before the step is answered.
        lazy: bool,
    },
    /// Remove a row, if it is there.
    Delete {
        /// Of this table.
        table: Table,
        /// Names the row within its table.
        key: u64,
    },
}

impl Change {
    /// Whether the step may be answered before this is on disk.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        matches!(self, Change::Put { lazy: true, .. })
    }
}

/// Reads back what was put, changes not yet on disk included.
pub trait Bodies {
    /// The message row with this key.
    ///
    /// # Errors
    /// `Corrupt` when it is not there or damaged.
    fn message(&self, seq: u64) -> Result<Arc<StoredMessage>>;
    /// The chunk with this key.
    ///
    /// # Errors
    /// `Corrupt` when it is not there or damaged.
    fn events(&self, seq: u64) -> Result<Arc<StoredChunk>>;
    /// The dedup row with this key.
    ///
    /// # Errors
    /// `Corrupt` when it is not there or damaged.
    fn dedup(&self, row: u64) -> Result<Arc<StoredDedup>>;
    /// How many of each thing are in memory, for tests of what is left behind.
    #[doc(hidden)]
    fn sizes(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
}

/// Who may have something new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Queues with something to claim.
    pub queues: Vec<QueueName>,
    /// Topics with something to read.
    pub topics: Vec<TopicName>,
}

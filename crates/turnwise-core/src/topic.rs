//! Replayable logs of events, and where a reader is.

use crate::message::Dedup;
use crate::name::{Name, TopicName};
use crate::time::Timestamp;
use bytes::Bytes;

/// The place of an event in its topic: 1, 2, 3 … without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Changes when a store comes back without events it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// An event's place, good for resuming after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Of the store when the event was appended.
    pub epoch: Epoch,
    /// In the topic; 0 is before the first event.
    pub offset: Offset,
}

/// A place in the one sequence over all topics of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePosition {
    /// Of the store.
    pub epoch: Epoch,
    /// 0 is before everything.
    pub seq: u64,
}

/// An event to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Where it goes.
    pub topic: TopicName,
    /// What it is.
    pub event_type: String,
    /// Its content.
    pub data: Bytes,
    /// Makes a repeat harmless.
    pub dedup: Option<Dedup>,
    /// The topic may be dropped by `sweep` once its newest `keep_until` is past.
    /// A topic none of whose events has one stays.
    pub keep_until: Option<Timestamp>,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub offset: Offset,
    /// What it is.
    pub event_type: String,
    /// Its content.
    pub data: Bytes,
    /// When it was appended, on the store's clock.
    pub appended_at: Timestamp,
}

impl Event {
    /// What it counts against [`crate::limits::READ_BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event_type.len() + self.data.len()
    }
}

/// Where a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest event kept.
    Earliest,
    /// The end: only the position comes back.
    Latest,
    /// The first event after this position.
    After(Position),
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Events in order; none if there is nothing new.
    Events {
        /// At most `limit`, and at most [`crate::limits::READ_BYTES_MAX`] unless the first alone is more.
        /// Only an empty page is the end of the topic.
        events: Vec<Event>,
        /// Where to read on: the last event's position, or where the read started.
        next: Position,
    },
    /// The place asked for is gone; nothing is skipped in silence.
    Gap {
        /// Read on after this position.
        resume: Position,
    },
}

/// The answer to a read over many topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMany {
    /// In the order they were appended.
    pub events: Vec<(TopicName, Event)>,
    /// Where each of them is in the sequence over all topics, never falling: whoever reads on after the number before
    /// it begins with all events that have it. Those of one topic that share one are in order; topics may share one, in
    /// no order.
    pub seqs: Vec<u64>,
    /// Where to read on.
    pub next: StorePosition,
    /// The place asked for is gone: some events were not seen.
    pub gap: bool,
}

/// What is known about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: TopicName,
    /// The oldest event kept; one past the newest when none is.
    pub first: Offset,
    /// The newest event; 0 if there never was one.
    pub last: Offset,
    /// See [`NewEvent::keep_until`].
    pub keep_until: Option<Timestamp>,
    /// What its events count together, those of a step that was trimmed in part included.
    pub bytes: u64,
}

/// Which topics: one organisation and kind, and tokens split at `.` and `:`.
/// `*` stands for one token, `>` at the end for one or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPattern(pub Name);

impl TopicPattern {
    /// Whether `topic` is one of them.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        // Most patterns are plain names.
        if self.0 == *topic {
            return true;
        }
        let same_room = self.0.org() == topic.org() && self.0.kind() == topic.kind();
        same_room && tokens_match(self.0.name(), topic.name())
    }
}

fn tokens_match(pattern: &str, name: &str) -> bool {
    let mut names = name.split(['.', ':']);
    for token in pattern.split(['.', ':']) {
        match (token, names.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(name)) if token == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Which topics a watcher wants hints for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicFilter {
    /// Just this one.
    One(TopicName),
    /// All that match one of these.
    Patterns(Vec<TopicPattern>),
}

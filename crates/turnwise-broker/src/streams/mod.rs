//! Durable streams: bytes that are appended under a name and read again from
//! any offset, by catching up or live. A stream is a topic of a kind of its
//! own, whose events are the steps it went through; nothing of it is kept
//! elsewhere, so that every step is one atomic append.

mod append;
mod create;
mod delete;
mod fork;
mod json;
mod keep;
mod life;
mod log;
mod offset;
mod page;
mod reader;
mod record;

pub use append::{StreamAppend, StreamAppended, StreamProducer};
pub use create::{StreamCreated, StreamFork, StreamRequest};
pub use delete::StreamDeleted;
pub(crate) use keep::StreamKeeper;
pub use offset::StreamOffset;
pub use page::{StreamFrom, StreamPage};
pub use reader::StreamReader;

use crate::limits::{STREAM_BYTES_MAX, STREAM_FORKS_MAX, STREAM_PRODUCERS_MAX, STREAMS_PER_ORG_MAX};
use life::Life;
use log::Logs;
use parking_lot::Mutex;
use std::collections::HashMap;
use thiserror::Error;
use tokio::time::Instant;
use turnwise_core::{Kind, Name, NameError, Timestamp, TopicName};

/// What this node keeps in memory of streams.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) logs: Logs,
    /// How many each org has, as far as it was counted.
    counted: Mutex<HashMap<String, (Instant, u64)>>,
}

/// A stream as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Differs between streams that had this name one after the other.
    pub id: u64,
    /// As it was given when the stream was created.
    pub content_type: String,
    /// Its end: where the next append begins.
    pub next: StreamOffset,
    /// Nothing more is appended.
    pub closed: bool,
    /// Seconds without a read or write after which it is over.
    pub ttl_s: Option<u64>,
    /// When it is over.
    pub expires_at: Option<Timestamp>,
}

impl StreamView {
    fn of(life: &Life) -> StreamView {
        StreamView {
            id: life.id,
            content_type: life.content_type.clone(),
            next: life.tail,
            closed: life.closed,
            ttl_s: life.ttl_s,
            expires_at: life.expires_at.map(Timestamp),
        }
    }

    /// Whether its bytes are JSON values.
    #[must_use]
    pub fn is_json(&self) -> bool {
        json::is_json(&self.content_type)
    }
}

/// Why something asked of a stream was not done. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamRefusal {
    /// There is no such stream.
    #[error("There is no such stream")]
    NotFound,
    /// It was deleted, or its time is over, but others were forked from it.
    #[error("The stream was deleted; it is kept only for the streams that were forked from it")]
    Gone,
    /// The place to read from is no longer there.
    #[error("The offset is of a stream that had this name before: read on from `-1`")]
    OffsetGone,
    /// No offset of this stream.
    #[error("{0}")]
    BadOffset(&'static str),
    /// A stream of this name exists, and differs.
    #[error("The stream exists and is another one: its {0} differs")]
    Differs(&'static str),
    /// Its name is kept for others.
    #[error("A deleted stream of this name is kept for the streams that were forked from it")]
    NameKept,
    /// Appends have another content type than the stream.
    #[error("Content-Type must be the stream's own, {0}")]
    ContentType(String),
    /// It was closed.
    #[error("The stream is closed: nothing more is appended to it")]
    Closed(StreamOffset),
    /// The body is no JSON.
    #[error("The body is not JSON")]
    NotJson,
    /// The body is an empty list.
    #[error("A list of no JSON values cannot be appended")]
    NoValues,
    /// What the fork was to begin with is not there.
    #[error("{0}")]
    BadFork(&'static str),
    /// The source of a fork cannot be forked.
    #[error("The stream to fork from was deleted")]
    SourceGone,
    /// The writer's sequence did not rise.
    #[error("Stream-Seq must be greater than that of the append before")]
    Seq,
    /// Another producer with this id has taken over.
    #[error(
        "A producer of this id has begun a later epoch: stop, or begin a greater one with Producer-Seq 0"
    )]
    StaleEpoch {
        /// Of that producer.
        epoch: u64,
    },
    /// A new epoch begins with 0.
    #[error("A new Producer-Epoch must begin with Producer-Seq 0")]
    EpochBegin,
    /// Something before it is missing.
    #[error("Producer-Seq must be {expected}: an append before this one is missing")]
    SeqGap {
        /// What comes next.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// As many producers as may be.
    #[error("The stream knows {STREAM_PRODUCERS_MAX} producers of the last hour and no more are taken")]
    ProducersFull,
    /// As many forks as may be.
    #[error("The stream has {STREAM_FORKS_MAX} forks and no more are taken")]
    ForksFull,
    /// As many streams as may be.
    #[error("The organisation has {STREAMS_PER_ORG_MAX} streams and no more are taken")]
    StreamsFull,
    /// As long as it may be.
    #[error("A stream has at most {STREAM_BYTES_MAX} bytes")]
    TooLong,
}

/// The topic of a stream.
fn topic(org: &str, name: &str) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Stream, name)
}

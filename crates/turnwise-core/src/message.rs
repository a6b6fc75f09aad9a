//! Durable work items and what is known about them.

use crate::name::QueueName;
use crate::time::Timestamp;
use crate::topic::NewEvent;
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Names a message for ever: a place in the store's one sequence, and a nonce
/// from the caller that makes it hard to guess.
///
/// Written as a version 8 UUID (RFC 9562): 60 bits of sequence, 62 of nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    seq: u64,
    nonce: u64,
}

impl MessageId {
    const SEQ_MASK: u64 = (1 << 60) - 1;
    const NONCE_MASK: u64 = (1 << 62) - 1;

    /// The id of place `seq` with this nonce; bits beyond 60 and 62 are dropped.
    #[must_use]
    pub fn new(seq: u64, nonce: u64) -> MessageId {
        MessageId { seq: seq & Self::SEQ_MASK, nonce: nonce & Self::NONCE_MASK }
    }

    /// The place in the store's sequence.
    #[must_use]
    pub fn seq(self) -> u64 {
        self.seq
    }

    /// The nonce the caller chose.
    #[must_use]
    pub fn nonce(self) -> u64 {
        self.nonce
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (high, low) = (self.seq >> 12, self.seq & 0xfff);
        let bits = u128::from(high) << 80 | u128::from(0x8000 | low) << 64 | 1 << 63 | u128::from(self.nonce);
        let mut text = [b'-'; 36];
        let mut digits = (0..32).rev().map(|place| (bits >> (4 * place)) as usize & 0xf);
        for (at, to) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                *to = digits.next().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0');
            }
        }
        // One piece: ids are written several times a turn.
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for MessageId {
    type Err = ();

    fn from_str(text: &str) -> Result<MessageId, ()> {
        let part = |range, digits: usize| {
            let part: &str = text.get(range).ok_or(())?;
            let ok = part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if ok { u64::from_str_radix(part, 16).map_err(|_| ()) } else { Err(()) }
        };
        let dashes = [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        if text.len() != 36 || !dashes || text.as_bytes().get(14) != Some(&b'8') {
            return Err(());
        }
        let seq = part(0..8, 8)? << 28 | part(9..13, 4)? << 12 | part(15..18, 3)?;
        let variant = part(19..23, 4)?;
        if variant >> 14 != 0b10 {
            return Err(());
        }
        Ok(MessageId { seq, nonce: (variant & 0x3fff) << 48 | part(24..36, 12)? })
    }
}

/// Messages of one key are strictly first in, first out, and at most one is leased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(pub Bytes);

/// 0 (last) to 9 (first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Default for Priority {
    fn default() -> Self {
        Priority(4)
    }
}

/// Names and values that travel with a message; the store never reads them.
pub type Headers = Vec<(String, String)>;

/// The header that the store puts on the messages of [`NewMessage::at_end`] when it ends a message: that
/// message's id, which was not known when they were written. On disk: never change it.
pub const ENDED_HEADER: &str = "turnwise-ended";

/// Makes an enqueue or append idempotent (clauses Q11, T4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// Unique within the queue or topic.
    pub key: Bytes,
    /// How long a repeat is recognised, from the first success.
    pub window: Duration,
    /// What a repeat must match: the caller's digest of what it means as content.
    pub content_hash: [u8; 16],
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Where it goes.
    pub queue: QueueName,
    /// Its lane; without one it is a lane of its own.
    pub key: Option<OrderingKey>,
    /// Among heads of lanes.
    pub priority: Priority,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// The content.
    pub payload: Bytes,
    /// Not before this time.
    pub deliver_at: Option<Timestamp>,
    /// Never leased from this time on.
    pub expires_at: Option<Timestamp>,
    /// Leases it may take; at least 1.
    pub max_attempts: u32,
    /// Makes a repeat harmless.
    pub dedup: Option<Dedup>,
    /// Refused when its lane already holds this many.
    pub lane_max: Option<u32>,
    /// Applied once if the store itself ends the message: attempts used up, or expired. The messages among them
    /// get the header [`ENDED_HEADER`].
    pub at_end: Vec<Effect>,
    /// Unguessable part of the id.
    pub nonce: u64,
}

impl NewMessage {
    /// A message with a payload and the defaults: no key, priority 4, at once, 12 attempts.
    #[must_use]
    pub fn new(queue: QueueName, payload: impl Into<Bytes>) -> NewMessage {
        NewMessage {
            queue,
            key: None,
            priority: Priority::default(),
            headers: Headers::new(),
            payload: payload.into(),
            deliver_at: None,
            expires_at: None,
            max_attempts: 12,
            dedup: None,
            lane_max: None,
            at_end: Vec::new(),
            nonce: 0,
        }
    }

    /// What it brings of any size, with what its end brings, which may bring more in turn.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let key = self.key.as_ref().map_or(0, |key| key.0.len());
        self.payload.len() + headers + key + self.at_end.iter().map(Effect::bytes).sum::<usize>()
    }
}

/// What happens in the same atomic step as the end of a lease or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Store another message. A lane limit does not apply to an effect.
    Enqueue(NewMessage),
    /// Append an event.
    Publish(NewEvent),
}

impl Effect {
    /// What it brings of any size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Effect::Enqueue(message) => message.bytes(),
            Effect::Publish(event) => event.data.len(),
        }
    }
}

/// The answer to one enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored.
    New {
        /// Its id.
        id: MessageId,
        /// Messages in its lane ahead of it, one in progress included, plus one.
        position: u64,
        /// One of those is leased now.
        in_flight: bool,
    },
    /// Stored before, with the same content.
    Duplicate(MessageId),
    /// The dedup key was used with other content.
    DedupConflict(MessageId),
    /// The lane holds `lane_max` messages already.
    LaneFull,
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Waiting for its time. Numbers are on disk: never reuse or renumber.
    Scheduled = 0,
    /// Waiting for its turn, or for the end of a retry delay.
    Ready = 1,
    /// Handed out.
    Leased = 2,
    /// Given up on; kept with its reason.
    Dead = 3,
}

/// What the store knows about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// Its id.
    pub id: MessageId,
    /// Its queue.
    pub queue: QueueName,
    /// Its lane.
    pub key: Option<OrderingKey>,
    /// Among heads of lanes.
    pub priority: Priority,
    /// Where it is.
    pub stage: Stage,
    /// Leases so far that counted.
    pub attempt: u32,
    /// Leases it may take.
    pub max_attempts: u32,
    /// When it was stored.
    pub enqueued_at: Timestamp,
    /// Not before this time: a schedule or a retry delay.
    pub not_before: Option<Timestamp>,
    /// End of the running lease.
    pub lease_expires_at: Option<Timestamp>,
    /// Never leased from this time on.
    pub expires_at: Option<Timestamp>,
    /// The last retry's or the dead letter's reason.
    pub reason: Option<String>,
    /// The holder was asked to stop.
    pub stop_requested: bool,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// The content.
    pub payload: Bytes,
}

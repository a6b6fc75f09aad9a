//! Handing messages out, and how a lease ends.

use crate::message::{Effect, Headers, MessageId, OrderingKey, Priority};
use crate::name::QueueName;
use crate::time::Timestamp;
use bytes::Bytes;
use std::time::Duration;

/// The fencing number of a lease: greater for every later lease of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub u64);

/// What to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// From where.
    pub queue: QueueName,
    /// At most this many.
    pub limit: u32,
    /// For how long.
    pub lease: Duration,
    /// On disk when `claim` returns. A holder in this very process may pass
    /// `false`: its leases die with it.
    pub durable: bool,
}

/// Proof of a lease; needed to extend or settle it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The queue.
    pub queue: QueueName,
    /// The message.
    pub id: MessageId,
    /// The lease.
    pub token: LeaseToken,
}

/// A message handed out under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Proof of the lease.
    pub receipt: Receipt,
    /// Its lane.
    pub key: Option<OrderingKey>,
    /// Among heads of lanes.
    pub priority: Priority,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// The content.
    pub payload: Bytes,
    /// 1 for the first lease.
    pub attempt: u32,
    /// When it was stored.
    pub enqueued_at: Timestamp,
    /// The end of the lease, on the store's clock.
    pub expires_at: Timestamp,
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message is gone.
    Ack,
    /// Again, after the delay, from the same place; at `max_attempts` it goes dead.
    Retry {
        /// Blocks its own key meanwhile.
        delay: Duration,
        /// Kept with the message.
        reason: String,
    },
    /// Not tried: back to its place at once, the attempt is given back.
    Release,
    /// Given up on: kept as a dead letter.
    Dead {
        /// Kept with the message.
        reason: String,
    },
}

/// The end of one lease with its effects, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which lease.
    pub receipt: Receipt,
    /// How it ends.
    pub outcome: Outcome,
    /// What happens in the same step.
    pub effects: Vec<Effect>,
}

/// The answer to one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Settled, effects applied.
    Done,
    /// The lease is over; nothing changed.
    LeaseLost,
}

/// The answer to one extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// The lease now lives until then.
    Until(Timestamp),
    /// Somebody asked the holder to stop; the lease is extended all the same.
    Stop(Timestamp),
    /// The lease is over; nothing changed.
    LeaseLost,
}

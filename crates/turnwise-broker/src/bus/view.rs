//! What the bus tells: deliveries, receipts, presence.

use super::message::{BusMessage, BusMessageId};
use crate::work::{WorkReceipt, WorkSettled};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::Timestamp;

/// A message in an agent's hands, under a lease.
#[derive(Clone, Debug)]
pub struct BusDelivery {
    /// What was sent.
    pub message: Arc<BusMessage>,
    /// Proof of the lease.
    pub receipt: WorkReceipt,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The end of the lease, unless it is extended.
    pub lease_expires_at: Timestamp,
}

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusOutcome {
    /// Done: it never comes again.
    Ack,
    /// Again, after the delay; a dead letter once its attempts are used up.
    Nack {
        /// Not before.
        delay: Duration,
        /// In the agent's own words.
        reason: Option<String>,
    },
    /// Given up on: a dead letter.
    Reject {
        /// In the agent's own words.
        reason: Option<String>,
    },
}

/// The answer to one end of a delivery: as for work queues.
pub type BusSettled = WorkSettled;

/// Where a message is, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusState {
    /// Sent, and not known to have arrived anywhere.
    Pending,
    /// In the inbox.
    Queued {
        /// Since when the agent is offline; none if it never was online.
        offline_since: Option<Timestamp>,
    },
    /// Handed to a connection, or to who asked for it.
    Delivered,
    /// Acknowledged.
    Acked,
    /// A dead letter.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its time was over before it was acknowledged.
    Expired,
    /// Not taken.
    Bounced {
        /// Why.
        reason: String,
    },
}

impl BusState {
    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            BusState::Pending => "pending",
            BusState::Queued { .. } => "queued",
            BusState::Delivered => "delivered",
            BusState::Acked => "acked",
            BusState::Failed { .. } => "failed",
            BusState::Expired => "expired",
            BusState::Bounced { .. } => "bounced",
        }
    }

    /// Since when the agent is offline in whose inbox it waits.
    #[must_use]
    pub fn offline_since(&self) -> Option<Timestamp> {
        match self {
            BusState::Queued { offline_since } => *offline_since,
            _ => None,
        }
    }

    /// Why it was not taken, or given up on.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            BusState::Failed { reason } | BusState::Bounced { reason } => Some(reason),
            _ => None,
        }
    }

    /// Nothing comes after it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            BusState::Pending | BusState::Queued { .. } | BusState::Delivered => false,
            BusState::Acked | BusState::Failed { .. } | BusState::Expired | BusState::Bounced { .. } => true,
        }
    }
}

/// News of one recipient of a message, for who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusReceipt {
    /// Which message.
    pub message_id: BusMessageId,
    /// Which recipient.
    pub agent: String,
    /// Where it is now.
    pub state: BusState,
    /// Since when.
    pub at: Timestamp,
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSent {
    /// Its id.
    pub message_id: BusMessageId,
    /// It was sent before, with the same key and content.
    pub is_repeat: bool,
    /// Recipients it really has: those that got it now and those in whose inbox it is.
    pub recipients: u64,
    /// Of these, agents whose inbox holds it.
    pub queued: u64,
    /// Agents that it was meant for and that could not take it; not among the recipients.
    pub bounced: u64,
    /// Where it is, if it was for one agent.
    pub state: Option<BusState>,
}

/// One recipient in the view of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusRecipient {
    /// Which agent.
    pub agent: String,
    /// Where the message is.
    pub state: BusState,
    /// When it came to be there.
    pub at: Timestamp,
    /// When it was first delivered.
    pub delivered_at: Option<Timestamp>,
    /// When it was acknowledged, given up on, expired or bounced.
    pub ended_at: Option<Timestamp>,
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusReceiptView {
    /// Its id.
    pub message_id: BusMessageId,
    /// Who sent it.
    pub from: String,
    /// The workspace it was sent to.
    pub workspace: Option<String>,
    /// The topic it was sent to.
    pub topic: Option<String>,
    /// When.
    pub sent_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// By agent.
    pub recipients: Vec<BusRecipient>,
    /// The answer to a request that was waited for.
    pub reply: Option<BusReply>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusReply {
    /// Its id.
    pub message_id: BusMessageId,
    /// Who gave it.
    pub from: String,
    /// Any JSON.
    pub content: Bytes,
    /// A JSON object.
    pub metadata: Option<Bytes>,
    /// When.
    pub at: Timestamp,
}

/// Whether an agent is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusPresence {
    /// Which agent.
    pub agent: String,
    /// It has a connection.
    pub is_online: bool,
    /// Since when; none if it never was online.
    pub since: Option<Timestamp>,
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusAgentView {
    /// Whether it is there.
    pub presence: BusPresence,
    /// The workspaces it is a member of.
    pub workspaces: Vec<String>,
    /// The topics and patterns whose messages it gets.
    pub topics: Vec<String>,
    /// Its connections, over all nodes.
    pub connections: u64,
}

/// What a connection sees.
#[derive(Clone, Debug)]
pub enum BusEvent {
    /// From the inbox: to be acknowledged.
    Message(Arc<BusDelivery>),
    /// A message for those that are online.
    Live(Arc<BusMessage>),
    /// News of a message that this agent sent.
    Receipt(BusReceipt),
    /// An agent of the same workspace came or went.
    Presence(BusPresence),
    /// The last of all.
    Closed(BusClosed),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusClosed {
    /// It did not read for too long.
    TooSlow,
    /// The node stops.
    GoingAway,
}

//! What the bus keeps: with the messages of an inbox, and as events. All of it
//! is on disk: names are never reused, fields never change meaning.

use super::message::{BusMessage, BusMessageId, BusMessageType, BusMode};
use super::view::{BusReceipt, BusState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::OnceLock;
use turnwise_core::{Headers, Kind, Name, NameError, NewEvent, QueueName, Timestamp, TopicName};

/// Beside the content of a message in an inbox.
const ENVELOPE_HEADER: &str = "turnwise-bus";

/// The inbox of an agent.
pub(super) fn inbox(org: &str, agent: &str) -> Result<QueueName, NameError> {
    Name::new(org, Kind::Inbox, agent)
}

/// What agents of an org that are online are told.
pub(super) fn live_topic(org: &str) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Bus, "live")
}

/// Which agents there are, and where.
pub(super) fn roster_topic(org: &str) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Bus, "roster")
}

/// What became of one message.
pub(super) fn receipt_topic(org: &str, id: &BusMessageId) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Bus, &format!("receipt:{id}"))
}

/// Which nodes live.
pub(super) fn nodes_topic() -> Result<TopicName, NameError> {
    Name::new("", Kind::Bus, "nodes")
}

/// All of a message but its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) id: BusMessageId,
    pub(super) from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    pub(super) kind: BusMessageType,
    pub(super) mode: BusMode,
    pub(super) priority: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) correlation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) in_reply_to: Option<BusMessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Box<RawValue>>,
    pub(super) sent_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    pub(super) max_attempts: u32,
}

impl Envelope {
    pub(super) fn headers(&self) -> Headers {
        vec![(ENVELOPE_HEADER.to_owned(), text(self))]
    }

    pub(super) fn read(headers: &Headers) -> Option<Envelope> {
        let (_, envelope) = headers.iter().find(|(name, _)| name == ENVELOPE_HEADER)?;
        serde_json::from_str(envelope).ok()
    }

    pub(super) fn message(self, content: Bytes) -> BusMessage {
        BusMessage {
            id: self.id,
            from: self.from,
            to: self.to,
            workspace: self.workspace,
            topic: self.topic,
            message_type: self.kind,
            mode: self.mode,
            priority: self.priority,
            content,
            correlation_id: self.correlation,
            in_reply_to: self.in_reply_to,
            metadata: self.metadata.map(|raw| Bytes::from(Box::<str>::from(raw).into_string().into_bytes())),
            sent_at: Timestamp(self.sent_at),
            expires_at: self.expires_at.map(Timestamp),
            wire: OnceLock::new(),
        }
    }
}

/// JSON from outside, which was checked when it came.
pub(super) fn raw(json: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json.to_vec()).ok()?).ok()
}

fn text<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("plain structs with string keys always serialise")
}

/// An event of one of the bus' topics.
pub(super) fn event<T: Serialize>(
    topic: TopicName,
    event_type: &str,
    record: &T,
    keep_until: Option<Timestamp>,
) -> NewEvent {
    let data = Bytes::from(text(record).into_bytes());
    NewEvent { topic, event_type: event_type.to_owned(), data, dedup: None, keep_until }
}

/// In the topic of one message: that it was sent, first of all.
pub(super) const SENT: &str = "bus.sent";
/// To whom, in parts.
pub(super) const ADDRESSED: &str = "bus.addressed";
/// What became of it for one recipient; also among what is told live.
pub(super) const RECEIPT: &str = "bus.receipt";
/// The answer to a request that is waited for.
pub(super) const REPLY: &str = "bus.reply";
/// Nobody waits for the answer any longer.
pub(super) const GAVE_UP: &str = "bus.gave_up";
/// Told live: a message.
pub(super) const LIVE: &str = "bus.live";
/// Told live: a message that another node holds for all connections of its agent.
pub(super) const COPY: &str = "bus.copy";

#[derive(Serialize, Deserialize)]
pub(super) struct SentRecord {
    pub(super) from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) correlation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    /// Until when the sender waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) awaits_until: Option<i64>,
}

/// How one recipient gets a message.
#[derive(Serialize, Deserialize, Clone)]
pub(super) struct Addressed {
    pub(super) agent: String,
    /// Told live, instead of through the inbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) live: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AddressedRecord {
    pub(super) agents: Vec<Addressed>,
}

/// What happened, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Happened {
    /// It is in the inbox of an agent that is offline.
    Queued {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offline_since: Option<i64>,
    },
    Delivered,
    Acked,
    Failed {
        reason: String,
    },
    /// The store ended it: its time was over, or its attempts were used up.
    Ended {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<i64>,
    },
    Bounced {
        reason: String,
    },
}

impl Happened {
    /// What it means, written at this time.
    pub(super) fn state(self, at: Timestamp) -> BusState {
        match self {
            Happened::Queued { offline_since } => {
                BusState::Queued { offline_since: offline_since.map(Timestamp) }
            }
            Happened::Delivered => BusState::Delivered,
            Happened::Acked => BusState::Acked,
            Happened::Failed { reason } => BusState::Failed { reason },
            Happened::Ended { expires_at } if expires_at.is_some_and(|then| at.0 >= then) => {
                BusState::Expired
            }
            Happened::Ended { .. } => BusState::Failed { reason: USED_UP.to_owned() },
            Happened::Bounced { reason } => BusState::Bounced { reason },
        }
    }
}

const USED_UP: &str = "it was delivered as often as it may be and never acknowledged";

#[derive(Serialize, Deserialize)]
pub(super) struct ReceiptRecord {
    /// The sender, who is told.
    pub(super) to: String,
    pub(super) id: BusMessageId,
    pub(super) agent: String,
    #[serde(flatten)]
    pub(super) happened: Happened,
}

impl ReceiptRecord {
    pub(super) fn receipt(self, at: Timestamp) -> BusReceipt {
        let state = self.happened.state(at);
        BusReceipt { message_id: self.id, agent: self.agent, state, at }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct LiveRecord {
    pub(super) to: Vec<String>,
    pub(super) envelope: Envelope,
    pub(super) content: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CopyRecord {
    pub(super) to: String,
    /// The node that holds it.
    pub(super) node: String,
    pub(super) receipt: String,
    pub(super) attempt: u32,
    pub(super) lease_expires_at: i64,
    pub(super) envelope: Envelope,
    pub(super) content: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReplyRecord {
    pub(super) id: BusMessageId,
    pub(super) from: String,
    pub(super) content: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Box<RawValue>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GaveUpRecord {}

//! What agents say to each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;
use turnwise_core::Timestamp;

const ID_PREFIX: &str = "msg_";
const ID_DIGITS: usize = 32;

/// Names a message of the bus: `msg_` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BusMessageId(String);

impl BusMessageId {
    /// A new one, from random bits.
    pub(super) fn drawn(high: u64, low: u64) -> BusMessageId {
        BusMessageId(format!("{ID_PREFIX}{high:016x}{low:016x}"))
    }

    /// The one that this sender's key stands for: a repeat has the same. On disk: never change it.
    pub(super) fn of_key(org: &str, from: &str, dedup_key: &str) -> BusMessageId {
        let mut hash = Sha256::new();
        for part in [org, from, dedup_key] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let number = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        BusMessageId(format!("{ID_PREFIX}{number:032x}"))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BusMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BusMessageId {
    type Err = ();

    fn from_str(text: &str) -> Result<BusMessageId, ()> {
        let digits = text.strip_prefix(ID_PREFIX).ok_or(())?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = digits.len() == ID_DIGITS && digits.bytes().all(is_digit);
        if is_id { Ok(BusMessageId(text.to_owned())) } else { Err(()) }
    }
}

impl TryFrom<String> for BusMessageId {
    type Error = String;

    fn try_from(text: String) -> Result<BusMessageId, String> {
        text.parse().map_err(|()| "not the id of a message".to_owned())
    }
}

impl From<BusMessageId> for String {
    fn from(id: BusMessageId) -> String {
        id.0
    }
}

/// What a message is for. On disk: names are never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusMessageType {
    /// Asks for something.
    #[default]
    Request,
    /// Answers a request.
    Response,
    /// Tells something.
    Notification,
    /// Orders something.
    Command,
}

/// How a message reaches its recipients. On disk: names are never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusMode {
    /// To the connections that are there now, and to nobody else; at most once.
    Pubsub,
    /// Into the inbox of each recipient, where it stays until it is acknowledged.
    #[default]
    Queue,
    /// As `Pubsub` to those that are online, as `Queue` to those that are not.
    Both,
}

/// Who a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusTo {
    /// One agent.
    Agent(String),
    /// Whoever subscribes to a public topic.
    Topic(String),
    /// The agents of a workspace.
    Workspace(String),
    /// Whoever sent the request that this answers.
    Requester,
}

/// A message to be sent; its parts are checked by who takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSend {
    /// The agent that sends it.
    pub from: String,
    /// Who it is for.
    pub to: BusTo,
    /// Any JSON.
    pub content: Bytes,
    /// What it is for.
    pub message_type: BusMessageType,
    /// 0 to 9, 9 first; 4 if none.
    pub priority: Option<u8>,
    /// How it reaches its recipients.
    pub mode: BusMode,
    /// After this it is not delivered any more; a week if none.
    pub ttl: Option<Duration>,
    /// Deliveries without an acknowledgement before it is a dead letter; 5 if none.
    pub max_attempts: Option<u32>,
    /// The same sender with the same key and content: the same message.
    pub dedup_key: Option<String>,
    /// Carried along for the agents.
    pub correlation_id: Option<String>,
    /// The request that it answers; it goes to who sent that, and to nobody else.
    pub in_reply_to: Option<BusMessageId>,
    /// A JSON object, carried along for the agents.
    pub metadata: Option<Bytes>,
    /// Agents that are left out of a workspace or topic.
    pub exclude: Vec<String>,
}

impl BusSend {
    /// A direct message with the defaults.
    #[must_use]
    pub fn direct(
        from: impl Into<String>,
        to_agent: impl Into<String>,
        content: impl Into<Bytes>,
    ) -> BusSend {
        BusSend::new(from, BusTo::Agent(to_agent.into()), content)
    }

    /// A message with the defaults.
    #[must_use]
    pub fn new(from: impl Into<String>, to: BusTo, content: impl Into<Bytes>) -> BusSend {
        BusSend {
            from: from.into(),
            to,
            content: content.into(),
            message_type: BusMessageType::default(),
            priority: None,
            mode: BusMode::default(),
            ttl: None,
            max_attempts: None,
            dedup_key: None,
            correlation_id: None,
            in_reply_to: None,
            metadata: None,
            exclude: Vec::new(),
        }
    }
}

/// A message as its recipients see it.
#[derive(Clone, Debug)]
pub struct BusMessage {
    /// Its id.
    pub id: BusMessageId,
    /// The agent that sent it.
    pub from: String,
    /// The agent it was sent to, if it was one alone.
    pub to: Option<String>,
    /// The workspace it was sent to.
    pub workspace: Option<String>,
    /// The topic it was sent to.
    pub topic: Option<String>,
    /// What it is for.
    pub message_type: BusMessageType,
    /// How it was sent.
    pub mode: BusMode,
    /// 0 to 9.
    pub priority: u8,
    /// Any JSON.
    pub content: Bytes,
    /// As the sender said it.
    pub correlation_id: Option<String>,
    /// The request that it answers.
    pub in_reply_to: Option<BusMessageId>,
    /// A JSON object.
    pub metadata: Option<Bytes>,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// For who sends it to many: its bytes, which are the same for all.
    pub wire: OnceLock<Bytes>,
}

impl BusMessage {
    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.content.len() + self.metadata.as_ref().map_or(0, Bytes::len) + MESSAGE_BYTES_BESIDE
    }
}

/// Ids and the rest, about.
const MESSAGE_BYTES_BESIDE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let id = BusMessageId::drawn(1, u64::MAX);
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        let text = id.to_string();
        for wrong in
            ["", "msg_", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('f', "g")]
        {
            assert_eq!(wrong.parse::<BusMessageId>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_key_stands_for_one_id_of_one_sender() {
        let id = BusMessageId::of_key("o", "ann", "k");
        assert_eq!(id, BusMessageId::of_key("o", "ann", "k"));
        for (org, from, key) in [("p", "ann", "k"), ("o", "an", "nk"), ("o", "ann", "l")] {
            assert_ne!(id, BusMessageId::of_key(org, from, key));
        }
    }
}

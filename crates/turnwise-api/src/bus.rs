//! The agents' bus: `/api/v1/bus`. What comes in is read field by field by the
//! gateway; the forms here describe it.

use crate::problem::ItemError;
use crate::time::Rfc3339;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What a message between agents is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusMessageKind {
    /// Asks for something.
    Request,
    /// Answers a request.
    Response,
    /// Tells something.
    Notification,
    /// Orders something.
    Command,
}

/// How a message reaches its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusDeliveryMode {
    /// To the connections that are there now, and to nobody else; at most once.
    Pubsub,
    /// Into the inbox of each recipient, where it stays until it is acknowledged.
    Queue,
    /// As `pubsub` to agents that are online, as `queue` to the others.
    Both,
}

/// A message to one agent. Fields that are not named here are refused.
// The numbers are those of the gateway's limits; a test compares.
#[derive(Debug, ToSchema)]
#[schema(as = BusMessage)]
pub struct BusMessageForm {
    /// The agent that sends it; the key must be for it.
    #[schema(min_length = 1, max_length = 256)]
    pub from_agent: String,
    /// Any JSON of at most 256 KiB; it is delivered as it came.
    #[schema(value_type = serde_json::Value)]
    pub content: String,
    /// `request` if it is left out.
    pub message_type: Option<BusMessageKind>,
    /// 0 to 9, 9 first; 4 if it is left out.
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// `queue` if it is left out.
    pub delivery_mode: Option<BusDeliveryMode>,
    /// After this it is not delivered any more; a week if it is left out.
    #[schema(minimum = 0.001, maximum = 2592000)]
    pub ttl_seconds: Option<f64>,
    /// Deliveries without an acknowledgement before it is a dead letter; 5 if it is left out.
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    /// Makes a repeat harmless: for 24 hours the same sender with the same key and content sends the same message.
    #[schema(min_length = 1, max_length = 256)]
    pub dedup_key: Option<String>,
    /// Carried along.
    #[schema(min_length = 1, max_length = 256)]
    pub correlation_id: Option<String>,
    /// The request that it answers, whose sender it goes to.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub in_reply_to: Option<String>,
    /// A JSON object of at most 8 KiB, carried along.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    pub metadata: Option<String>,
    /// Wait so long for the answer; the message is a request then.
    #[schema(minimum = 0.001, maximum = 120)]
    pub wait_seconds: Option<f64>,
}

/// A message to the agents of a workspace, or to those that subscribe to a topic. Fields that are not named here are
/// refused.
#[derive(Debug, ToSchema)]
#[schema(as = BusBroadcast)]
pub struct BusBroadcastForm {
    /// The agent that sends it; the key must be for it.
    #[schema(min_length = 1, max_length = 256)]
    pub from_agent: String,
    /// Any JSON of at most 256 KiB; it is delivered as it came.
    #[schema(value_type = serde_json::Value)]
    pub content: String,
    /// `notification` if it is left out.
    pub message_type: Option<BusMessageKind>,
    /// 0 to 9, 9 first; 4 if it is left out.
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// `queue` if it is left out.
    pub delivery_mode: Option<BusDeliveryMode>,
    /// After this it is not delivered any more; a week if it is left out.
    #[schema(minimum = 0.001, maximum = 2592000)]
    pub ttl_seconds: Option<f64>,
    /// Deliveries without an acknowledgement before it is a dead letter; 5 if it is left out.
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    /// Makes a repeat harmless: for 24 hours the same sender with the same key and content sends the same message, to
    /// the recipients of the first time.
    #[schema(min_length = 1, max_length = 256)]
    pub dedup_key: Option<String>,
    /// Carried along.
    #[schema(min_length = 1, max_length = 256)]
    pub correlation_id: Option<String>,
    /// A JSON object of at most 8 KiB, carried along.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    pub metadata: Option<String>,
    /// Agents that do not get it.
    #[schema(max_items = 100)]
    pub exclude_agents: Option<Vec<String>>,
    /// The sender does not get it either; true if it is left out.
    pub exclude_sender: Option<bool>,
}

/// Where a message is, for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusMessageState {
    /// Sent, and not known to have arrived anywhere.
    Pending,
    /// In the inbox of an agent that was offline.
    Queued,
    /// Handed to a connection, or to who asked for it.
    Delivered,
    /// Acknowledged.
    Acked,
    /// A dead letter.
    Failed,
    /// Its time was over before it was acknowledged.
    Expired,
    /// Not taken.
    Bounced,
}

/// The answer to a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusReplyAnswer<'a> {
    /// Its id.
    pub message_id: &'a str,
    /// Who gave it.
    pub from_agent: &'a str,
    /// As it came.
    #[schema(value_type = serde_json::Value)]
    pub content: Option<&'a RawValue>,
    /// As it came.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>, required = true)]
    pub metadata: Option<&'a RawValue>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Rfc3339,
}

/// What became of a send.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusSentAnswer<'a> {
    /// Its id: `msg_` and 32 hexadecimal digits.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub message_id: &'a str,
    /// It was sent before, under the same key.
    pub duplicate: bool,
    /// Recipients it really has: those that got it now and those in whose inbox it is.
    pub recipients: u64,
    /// Of these, agents whose inbox holds it.
    pub queued: u64,
    /// Agents that it was meant for and that could not take it; not among the recipients.
    pub bounced: u64,
    /// Where it is; null if it was not for one agent.
    #[schema(required = true)]
    pub state: Option<BusMessageState>,
    /// Since when its recipient is offline; null if it is online, or never was.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub offline_since: Option<Rfc3339>,
    /// The answer that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<BusReplyAnswer<'a>>,
}

/// A message out of an inbox, under a lease.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusDeliveryAnswer<'a> {
    /// Its id.
    pub message_id: &'a str,
    /// Proof of the lease, to settle it with. Opaque.
    pub receipt: String,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The agent that sent it.
    pub from_agent: &'a str,
    /// The agent it was sent to, if it was one alone.
    #[schema(required = true)]
    pub to_agent: Option<&'a str>,
    /// The workspace it was sent to.
    #[schema(required = true)]
    pub workspace_id: Option<&'a str>,
    /// The topic it was sent to.
    #[schema(required = true)]
    pub topic: Option<&'a str>,
    /// What it is for.
    pub message_type: BusMessageKind,
    /// 0 to 9.
    pub priority: u8,
    /// As it came.
    #[schema(value_type = serde_json::Value)]
    pub content: Option<&'a RawValue>,
    /// As its sender said it.
    #[schema(required = true)]
    pub correlation_id: Option<&'a str>,
    /// The request that it answers.
    #[schema(required = true)]
    pub in_reply_to: Option<&'a str>,
    /// As it came.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>, required = true)]
    pub metadata: Option<&'a RawValue>,
    /// When it was sent.
    #[schema(value_type = String, format = DateTime)]
    pub sent_at: Rfc3339,
    /// When it expires.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Rfc3339>,
    /// From then on somebody else may get it.
    #[schema(value_type = String, format = DateTime)]
    pub lease_expires_at: Rfc3339,
}

/// Messages out of an inbox; none if none came in time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusInbox<'a> {
    /// By priority, then by age.
    pub deliveries: Vec<BusDeliveryAnswer<'a>>,
}

/// How a delivery can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusSettleOutcome {
    /// Done: it never comes again.
    Ack,
    /// Again; a dead letter once its attempts are used up.
    Retry,
    /// Given up on: a dead letter.
    Dead,
}

/// The end of one delivery.
#[derive(Debug, ToSchema)]
#[schema(as = BusSettlement)]
pub struct BusSettlementForm {
    /// From the delivery.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub receipt: String,
    /// How it ends.
    pub outcome: BusSettleOutcome,
    /// With `retry`: not before; at once if it is left out.
    #[schema(minimum = 0, maximum = 2592000)]
    pub delay_seconds: Option<f64>,
    /// With `retry` or `dead`: why.
    #[schema(min_length = 1, max_length = 1024)]
    pub reason: Option<String>,
}

/// The ends of deliveries.
#[derive(Debug, ToSchema)]
#[schema(as = BusSettlements)]
pub struct BusSettlementsForm {
    /// At most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<BusSettlementForm>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BusSettledState {
    /// It has ended.
    Done,
    /// The lease was over; nothing changed.
    LeaseLost,
    /// The store could not, or may not have.
    Failed,
}

/// What became of one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusSettledAnswer {
    /// Whether it has ended.
    pub status: BusSettledState,
    /// Why it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

/// The answers to a batch, in its order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusSettledAnswers {
    /// One for each item.
    pub results: Vec<BusSettledAnswer>,
}

/// One recipient of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusRecipientAnswer<'a> {
    /// Which agent.
    pub agent_id: &'a str,
    /// Where the message is.
    pub state: BusMessageState,
    /// When it came to be there.
    #[schema(value_type = String, format = DateTime)]
    pub at: Rfc3339,
    /// Since when the agent is offline, while the message waits for it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub offline_since: Option<Rfc3339>,
    /// When it was first delivered.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub delivered_at: Option<Rfc3339>,
    /// When it was acknowledged, given up on, expired or bounced.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ended_at: Option<Rfc3339>,
    /// Why it failed or bounced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// What became of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusReceiptAnswer<'a> {
    /// Its id.
    pub message_id: &'a str,
    /// The agent that sent it.
    pub from_agent: &'a str,
    /// The workspace it was sent to.
    #[schema(required = true)]
    pub workspace_id: Option<&'a str>,
    /// The topic it was sent to.
    #[schema(required = true)]
    pub topic: Option<&'a str>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub sent_at: Rfc3339,
    /// When it expires.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Rfc3339>,
    /// By agent, one page of them.
    pub recipients: Vec<BusRecipientAnswer<'a>>,
    /// For the next page; null if this is the last.
    #[schema(required = true)]
    pub next: Option<&'a str>,
    /// The answer, if it is a request that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<BusReplyAnswer<'a>>,
}

/// An agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusAgentAnswer {
    /// Which.
    pub agent_id: String,
    /// It has a connection, on whatever node.
    pub online: bool,
    /// Since when it is online, or offline; null if it never was online.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Rfc3339>,
    /// How many connections it has.
    pub connections: u64,
    /// The workspaces it is a member of.
    pub workspaces: Vec<String>,
    /// The topics and patterns whose messages it gets.
    pub topics: Vec<String>,
}

/// Agents.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BusAgentList {
    /// By name.
    pub items: Vec<BusAgentAnswer>,
    /// For the next page; null if this is the last.
    #[schema(required = true)]
    pub next: Option<String>,
}

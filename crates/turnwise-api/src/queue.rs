//! Work queues: `/api/v1/queues`. What comes in is read field by field by the
//! gateway; the forms here describe it.

use crate::problem::ItemError;
use crate::time::Rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A message to be stored. Fields that are not named here are refused; null is the same as leaving one out, but for
/// `payload`.
// The numbers are those of the gateway's limits; a test compares.
#[derive(Debug, ToSchema)]
#[schema(as = QueueMessage)]
pub struct QueueMessageForm {
    /// Any JSON of at most 1 MiB; it is handed out as it came.
    #[schema(value_type = serde_json::Value)]
    pub payload: String,
    /// Messages of one key come strictly in order, one at a time. Opaque; at most 256 bytes in UTF-8.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub ordering_key: Option<String>,
    /// 0 to 9, 9 first; 4 if it is left out. Within a key it changes nothing.
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// Not handed out before. A time that is past is at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deliver_at: Option<String>,
    /// The same as a time from now, in place of `deliver_at`.
    #[schema(minimum = 0, maximum = 31622400)]
    pub delay_seconds: Option<f64>,
    /// Not handed out from then on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<String>,
    /// The same as a time from now, in place of `expires_at`; by the queue's policy if neither is there.
    #[schema(minimum = 0.001, maximum = 31622400)]
    pub ttl_seconds: Option<f64>,
    /// Leases it may take before it is a dead letter; by the queue's policy if it is left out.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_attempts: Option<u32>,
    /// Makes a repeat harmless: for 24 hours the same key with the same content is the same message.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub dedup_key: Option<String>,
    /// At most 32 names and values, 8 KiB together. Names do not begin with `turnwise-`.
    pub headers: Option<BTreeMap<String, String>>,
}

/// Messages to be stored, in this order.
#[derive(Debug, ToSchema)]
#[schema(as = QueueMessages)]
pub struct QueueMessagesForm {
    /// At most 1,000. One that breaks a rule refuses all of them.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<QueueMessageForm>,
}

/// What became of one message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct QueueSent {
    /// Its id; null if it is not stored.
    #[schema(required = true)]
    pub message_id: Option<String>,
    /// It was stored before, under the same dedup key.
    pub duplicate: bool,
    /// Its place among the messages of its key, the one in progress counted; null without a key, or for a repeat.
    #[schema(required = true)]
    pub position: Option<u64>,
    /// Why it is not stored, or may not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

/// The answers to a batch, in its order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueSentBatch {
    /// One for each item.
    pub results: Vec<QueueSent>,
}

/// What a worker asks for. An empty body is the same as `{}`.
#[derive(Debug, ToSchema)]
#[schema(as = QueueClaim)]
pub struct QueueClaimForm {
    /// At most this many; 1 if it is left out.
    #[schema(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
    /// The messages are nobody else's for this long; 30 if it is left out.
    #[schema(minimum = 0.001, maximum = 43200)]
    pub lease_seconds: Option<f64>,
    /// How long to wait for the first; 0 if it is left out.
    #[schema(minimum = 0, maximum = 20)]
    pub wait_seconds: Option<f64>,
}

/// A message in a worker's hands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueDelivery<'a> {
    /// Its id.
    pub message_id: String,
    /// Proof of the lease, for settle and extend. Opaque.
    pub receipt: String,
    /// 1 for the first lease.
    pub attempt: u32,
    /// Messages of one key come in order, one at a time.
    #[schema(value_type = Option<String>, required = true)]
    pub ordering_key: Option<&'a str>,
    /// 0 to 9.
    pub priority: u8,
    /// Names and values beside the payload.
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<&'a str, &'a str>,
    /// As it came.
    #[schema(value_type = serde_json::Value)]
    pub payload: Option<&'a RawValue>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub enqueued_at: Rfc3339,
    /// From then on somebody else may get it.
    #[schema(value_type = String, format = DateTime)]
    pub lease_expires_at: Rfc3339,
}

/// Messages in a worker's hands; none if none came in time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueDeliveries<'a> {
    /// The first to be worked on first.
    pub deliveries: Vec<QueueDelivery<'a>>,
}

/// How a lease can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueOutcome {
    /// Done: the message is gone.
    Ack,
    /// Again, from the same place; a dead letter once its attempts are used up.
    Retry,
    /// Not tried: back to its place at once, the attempt is given back.
    Release,
    /// Given up on: kept as a dead letter.
    Dead,
}

/// The end of one lease.
#[derive(Debug, ToSchema)]
#[schema(as = QueueSettlement)]
pub struct QueueSettlementForm {
    /// From the delivery.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub receipt: String,
    /// How it ends.
    pub outcome: QueueOutcome,
    /// With `retry`: not again before; by the queue's policy if it is left out.
    #[schema(minimum = 0, maximum = 2592000)]
    pub delay_seconds: Option<f64>,
    /// With `retry` and `dead`: kept with the message. At most 1,024 bytes in UTF-8.
    #[schema(min_length = 1, max_length = 1024)]
    pub reason: Option<String>,
}

/// Ends of leases.
#[derive(Debug, ToSchema)]
#[schema(as = QueueSettlements)]
pub struct QueueSettlementsForm {
    /// At most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<QueueSettlementForm>,
}

/// What became of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// It ended as it was asked to.
    Done,
    /// It lives on.
    Extended,
    /// It was over before; nothing changed.
    LeaseLost,
    /// The store could not, or may not have: `error` tells.
    Failed,
}

/// The answer about one lease.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeaseAnswer {
    /// The message it was a lease on.
    pub message_id: String,
    /// What became of it.
    pub status: LeaseState,
    /// Where it lives on: until then.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Rfc3339>,
    /// Why the store has no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

/// The answers to a batch, in its order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeaseAnswers {
    /// One for each item.
    pub results: Vec<LeaseAnswer>,
}

/// One lease that is to go on.
#[derive(Debug, ToSchema)]
#[schema(as = QueueExtension)]
pub struct QueueExtensionForm {
    /// From the delivery.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub receipt: String,
    /// From now; 30 if it is left out.
    #[schema(minimum = 0.001, maximum = 43200)]
    pub lease_seconds: Option<f64>,
}

/// Leases that are to go on.
#[derive(Debug, ToSchema)]
#[schema(as = QueueExtensions)]
pub struct QueueExtensionsForm {
    /// At most 1,000 objects with a `receipt`.
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<QueueReceipt>)]
    pub items: Vec<QueueReceipt>,
    /// From now, for all of them; 30 if it is left out.
    #[schema(minimum = 0.001, maximum = 43200)]
    pub lease_seconds: Option<f64>,
}

/// Proof of a lease.
#[derive(Debug, ToSchema)]
pub struct QueueReceipt {
    /// From the delivery.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub receipt: String,
}

/// What a queue holds, by stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueDepth {
    /// Waiting for their turn, or for the end of a retry's wait.
    pub ready: u64,
    /// Waiting for their time.
    pub scheduled: u64,
    /// In somebody's hands.
    pub leased: u64,
    /// Given up on.
    pub dead: u64,
}

/// What a queue has seen since it was first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueTotals {
    /// Stored.
    pub enqueued: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Removed or purged.
    pub removed: u64,
    /// Not handed out in time.
    pub expired: u64,
}

/// Messages a second, over the last ten seconds or so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueRates {
    /// Stored.
    pub enqueued_per_second: f64,
    /// Acknowledged.
    pub acked_per_second: f64,
}

/// How messages are retried, given up on and kept, where they say nothing else themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueuePolicy {
    /// The wait before the second attempt.
    #[schema(minimum = 0, maximum = 2592000)]
    pub retry_base_seconds: f64,
    /// Each further wait is so many times the one before.
    #[schema(minimum = 1, maximum = 100)]
    pub retry_factor: f64,
    /// And at most this.
    #[schema(minimum = 0, maximum = 2592000)]
    pub retry_cap_seconds: f64,
    /// A wait is longer or shorter by a random part, at most this much of it.
    #[schema(minimum = 0, maximum = 1)]
    pub retry_jitter: f64,
    /// Leases a message may take before it is a dead letter.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_attempts: u32,
    /// Messages that were not handed out in so many seconds expire; null: never.
    #[schema(required = true, minimum = 0.001, maximum = 31622400)]
    pub ttl_seconds: Option<f64>,
    /// Messages in hand at once, over all nodes; null: no limit.
    #[schema(required = true, minimum = 1, maximum = 1000000)]
    pub concurrency: Option<u32>,
    /// Messages that each node hands out a second at most, and at once at most what a second brings; null: no limit.
    #[schema(required = true, minimum = 0.001, maximum = 1000000)]
    pub rate_per_second: Option<f64>,
    /// Messages the queue holds at most, dead letters included, as counted at most a second ago; null: no limit of its
    /// own.
    #[schema(required = true, minimum = 1, maximum = 1000000000)]
    pub messages_max: Option<u64>,
    /// Dead letters are dropped so many seconds after their message was stored.
    #[schema(minimum = 1, maximum = 31622400)]
    pub dead_seconds: f64,
}

/// A queue as it is now; every key is always there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueState {
    /// Its name.
    pub queue: String,
    /// Its organisation.
    pub org_id: String,
    /// Nothing is handed out.
    pub paused: bool,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub paused_since: Option<Rfc3339>,
    /// What it holds.
    pub depth: QueueDepth,
    /// Age of the oldest message that waits for its turn.
    #[schema(required = true)]
    pub oldest_waiting_seconds: Option<f64>,
    /// Null while this node has not watched for long enough.
    #[schema(required = true)]
    pub rates: Option<QueueRates>,
    /// What it has seen.
    pub totals: QueueTotals,
    /// What holds for its messages.
    pub policy: QueuePolicy,
}

/// A page of queues.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueList {
    /// By name.
    pub items: Vec<QueueState>,
    /// Give it as `after` for the next page; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueStage {
    /// Waiting for its turn, or for the end of a retry's wait.
    Ready,
    /// Waiting for its time.
    Scheduled,
    /// In somebody's hands.
    Leased,
    /// Given up on.
    Dead,
}

/// What a worker said when it could not do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueError {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Rfc3339,
    /// On which attempt.
    pub attempt: u32,
    /// Its own words.
    pub reason: String,
}

/// A message as it is now, without its payload.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueMessageInfo<'a> {
    /// Its id.
    pub message_id: String,
    /// Where it is.
    pub stage: QueueStage,
    /// Messages of one key come in order, one at a time.
    #[schema(value_type = Option<String>, required = true)]
    pub ordering_key: Option<&'a str>,
    /// 0 to 9.
    pub priority: u8,
    /// Leases so far, since it was stored or redriven.
    pub attempts: u32,
    /// Leases it may take.
    pub max_attempts: u32,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub enqueued_at: Rfc3339,
    /// Not handed out before.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub not_before: Option<Rfc3339>,
    /// The end of its lease.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub lease_expires_at: Option<Rfc3339>,
    /// Not handed out from then on.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Rfc3339>,
    /// Why it was last retried, or given up on.
    #[schema(value_type = Option<String>, required = true)]
    pub reason: Option<&'a str>,
    /// Names and values beside the payload.
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<&'a str, &'a str>,
    /// Of its payload.
    pub payload_bytes: u64,
}

/// A message as it is now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueMessageAnswer<'a> {
    /// What is known of it.
    #[serde(flatten)]
    pub info: QueueMessageInfo<'a>,
    /// What a worker said first.
    #[schema(required = true)]
    pub first_error: Option<QueueError>,
    /// What a worker said last.
    #[schema(required = true)]
    pub last_error: Option<QueueError>,
    /// As it came.
    #[schema(value_type = serde_json::Value)]
    pub payload: Option<&'a RawValue>,
}

/// A page of messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueMessageList<'a> {
    /// By age.
    pub items: Vec<QueueMessageInfo<'a>>,
    /// Give it as `after` for the next page; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// Which dead letters. What is left out takes all.
#[derive(Debug, ToSchema)]
#[schema(as = QueueFilter)]
pub struct QueueFilterForm {
    /// Their reason holds this text. At most 1,024 bytes in UTF-8.
    #[schema(min_length = 1, max_length = 1024)]
    pub reason_contains: Option<String>,
    /// Stored then or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub enqueued_from: Option<String>,
    /// Stored before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub enqueued_before: Option<String>,
}

/// Which dead letters are to be put back: exactly one of `ids`, `all` and `filter`.
#[derive(Debug, ToSchema)]
#[schema(as = QueueRedrive)]
pub struct QueueRedriveForm {
    /// These. Others, and those that are not dead, are passed over.
    #[schema(max_items = 1000)]
    pub ids: Option<Vec<String>>,
    /// All of them.
    pub all: Option<bool>,
    /// Those that pass.
    pub filter: Option<QueueFilterForm>,
    /// Only count.
    pub dry_run: Option<bool>,
    /// So many a second, for at most 20 seconds: then the answer says that there is `more`, and the same request goes
    /// on with it.
    #[schema(minimum = 0.001, maximum = 1000000)]
    pub rate_per_second: Option<f64>,
}

/// What was put back.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueRedriven {
    /// So many messages.
    pub redriven: u64,
    /// One request looks at 100,000 messages, and one with a rate lasts 20 seconds: there are more.
    pub more: bool,
    /// They were only counted.
    pub dry_run: bool,
}

/// What is to be removed.
#[derive(Debug, ToSchema)]
#[schema(as = QueuePurge)]
pub struct QueuePurgeForm {
    /// `ready`, `scheduled`, `dead`, or `all` of these. What is in somebody's hands stays.
    #[schema(pattern = "^(ready|scheduled|dead|all)$")]
    pub stage: String,
    /// Only count.
    pub dry_run: Option<bool>,
}

/// What was removed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueRemoved {
    /// So many messages.
    pub removed: u64,
    /// One request looks at 100,000 messages: there are more behind those.
    pub more: bool,
    /// They were only counted.
    pub dry_run: bool,
}

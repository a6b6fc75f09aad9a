//! The storage contract: each method is one atomic step of an engine.
//!
//! Batch first: a batch is a performance device, not a transaction; answer i
//! is for item i. The rules are the clauses of `docs/semantics.md`.

use crate::error::{ItemResult, Result};
use crate::lease::{Claim, Delivery, Extended, Receipt, Settled, Settlement};
use crate::message::{Effect, Enqueued, MessageId, MessageInfo, NewMessage, OrderingKey, Stage};
use crate::name::{QueueName, TopicName};
use crate::time::Timestamp;
use crate::topic::{
    NewEvent, Offset, Position, Read, ReadFrom, ReadMany, StorePosition, TopicFilter, TopicInfo, TopicPattern,
};
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::time::Duration;

/// The answer to a remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Gone, effects applied.
    Done,
    /// Handed out just now: ask the holder to stop instead.
    Leased,
    /// A dead letter, which has had its last word: with effects it stays as it is and nothing happens.
    /// Without effects it can be removed.
    Dead,
    /// No such message.
    NotFound,
}

/// The answer to a stop request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequested {
    /// The holder's next `extend` answers `Stop`.
    Asked,
    /// Not handed out just now; nothing changed.
    NotLeased,
    /// No such message.
    NotFound,
}

/// How many messages of one queue are in each stage. Counters, never a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ever stored.
    pub enqueued: u64,
    /// Ever acknowledged.
    pub acked: u64,
    /// Ever removed.
    pub removed: u64,
    /// Ever expired.
    pub expired: u64,
    /// Waiting for their time.
    pub scheduled: u64,
    /// Waiting for their turn.
    pub ready: u64,
    /// Handed out.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest of those that wait for their turn was stored.
    pub oldest_waiting: Option<Timestamp>,
}

/// One key's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Messages that are ready or leased.
    pub length: u64,
    /// The one handed out.
    pub in_flight: Option<MessageId>,
    /// Place of the message asked about: 1 is the head. None if it is not in the lane.
    pub place: Option<u64>,
    /// When the oldest that is not handed out was stored.
    pub oldest_waiting: Option<Timestamp>,
}

/// Queues. Every method ends within the engine's timeout.
#[async_trait]
pub trait QueueStore: Send + Sync + 'static {
    /// Stores messages; durable when it returns. A repeat stores again unless
    /// it carries a dedup key. O(log n) each. An empty batch asks whether there
    /// is room: it changes nothing, and is `Unavailable` where a small message would be.
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>>;
    /// Leases up to `limit` heads of lanes; never waits. O(log n) each, and for
    /// at most `TICK_ITEMS_MAX` things of each kind that time has brought.
    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>>;
    /// Lets leases live for `lease` from now.
    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>>;
    /// Ends leases, each with its effects, all or nothing. A repeat after
    /// success answers `LeaseLost`.
    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>>;
    /// Removes messages that are not leased, each with its effects. A dead letter has ended before, so a
    /// remove with effects refuses it: nobody's end is told twice. A repeat after success answers `NotFound`.
    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>>;
    /// Asks the holder of a lease to stop.
    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested>;
    /// Puts dead letters back at the tail of their key with attempts 0; answers how many were dead.
    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32>;
    /// Notices what only time brings, at most `limit` things; 0 when nothing is
    /// left. Housekeeping, never needed for safety.
    async fn sweep(&self, limit: u32) -> Result<u32>;
    /// What is known about messages, `None` for those that are not there.
    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>>;
    /// The counters of a queue; zeros for an unknown one. O(1).
    async fn depth(&self, queue: &QueueName) -> Result<Depth>;
    /// Length, in flight and a place in one lane. O(place) in memory.
    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus>;
    /// Messages of one stage by id; fewer than `limit` (or `LIST_LIMIT_MAX`) are the end.
    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>>;
    /// Names of queues that hold messages, in order.
    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>>;
    /// Lossy, coalesced hints that a queue may have something to claim.
    fn wakeups(&self) -> BoxStream<'static, QueueName>;
}

/// Topics. Every method ends within the engine's timeout.
#[async_trait]
pub trait TopicStore: Send + Sync + 'static {
    /// Appends events; durable when it returns.
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>>;
    /// A page of one topic: at most `limit` events and `READ_BYTES_MAX` bytes, and never less than one event
    /// while there is one. So a page may be shorter than `limit` long before the end, and only an empty one is
    /// the end. An unknown topic reads as empty.
    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read>;
    /// A page over many topics in the order of appending, in whole append steps: about `limit` events, and
    /// `READ_BYTES_MAX` bytes unless the first step alone is more. An exhausted page still moves `next`;
    /// so does an empty one behind a long stretch of other topics, which is not the end.
    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany>;
    /// The end of the sequence over all topics: whatever is appended after this returned is read after it
    /// (clause T6). O(1).
    async fn end(&self) -> Result<StorePosition>;
    /// Topics by name.
    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>>;
    /// Drops the events before an offset.
    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()>;
    /// Drops topics with all they hold; answers how many there were.
    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32>;
    /// Where a subscription is.
    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>>;
    /// Moves a subscription from exactly `from` forward to `to`; false if it is not there.
    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool>;
    /// Lossy, coalesced hints that a topic may have something to read.
    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName>;
}

/// Both halves in one store: a settlement's effects reach queues and topics.
#[async_trait]
pub trait Store: QueueStore + TopicStore {
    /// Appends events for the holder of a lease, who may have been frozen for longer than he knows: `None`, and
    /// nothing is appended, once the lease is lost (clause Q5). Otherwise as [`TopicStore::append`].
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>>;
    /// Changes when a store comes back without what it had acknowledged.
    fn epoch(&self) -> crate::topic::Epoch;
}

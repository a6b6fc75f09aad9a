//! A store that never wakes anybody, and whose settlements can go unconfirmed.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::{empty, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use turnwise_core::*;

pub(crate) struct Deaf {
    pub(crate) inner: Arc<dyn Store>,
    /// Settlements still to be done without confirming them.
    pub(crate) unconfirmed: AtomicU32,
    /// Settlements still to be refused.
    pub(crate) unavailable: AtomicU32,
    /// Nothing new is taken.
    pub(crate) full: AtomicBool,
}

fn take(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl QueueStore for Deaf {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("no room".into()));
        }
        self.inner.enqueue(batch).await
    }
    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        self.inner.claim(claim).await
    }
    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        self.inner.extend(receipts, lease).await
    }
    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        if take(&self.unavailable) {
            return Err(StoreError::Unavailable("refused".into()));
        }
        let answer = self.inner.settle(batch).await;
        if take(&self.unconfirmed) { Err(StoreError::Unknown("not confirmed".into())) } else { answer }
    }
    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        self.inner.remove(queue, unleased).await
    }
    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        self.inner.request_stop(queue, id).await
    }
    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        self.inner.redrive(queue, dead).await
    }
    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.inner.sweep(limit).await
    }
    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        self.inner.get(queue, ids).await
    }
    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        self.inner.depth(queue).await
    }
    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        self.inner.lane(queue, key, of).await
    }
    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        self.inner.list(queue, stage, after, limit).await
    }
    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.inner.queues(after, limit).await
    }
    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        empty().boxed()
    }
}

#[async_trait]
impl TopicStore for Deaf {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        self.inner.append(batch).await
    }
    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        self.inner.read(topic, from, limit).await
    }
    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        self.inner.read_many(patterns, after, limit).await
    }
    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        self.inner.topics(pattern, after, limit).await
    }
    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        self.inner.trim(topic, before).await
    }
    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.inner.drop_topics(names).await
    }
    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        self.inner.cursor(topic, subscription).await
    }
    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        self.inner.advance(topic, subscription, from, to).await
    }
    fn watch(&self, _topics: TopicFilter) -> BoxStream<'static, TopicName> {
        pending().boxed()
    }
}

impl Store for Deaf {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
}

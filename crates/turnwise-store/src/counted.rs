//! A store in front of another one, which it asks, and counts what it is asked.

use crate::clock::Moment;
use crate::counts::{Counts, Operation};
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Epoch, Extended, ItemResult, LaneStatus, MessageId,
    MessageInfo, NewEvent, NewMessage, Offset, OrderingKey, Position, QueueName, QueueStore, Read, ReadFrom,
    ReadMany, Receipt, Removed, Result, Settled, Settlement, Stage, StopRequested, Store, StorePosition,
    TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

/// A store that is counted.
pub(crate) struct Counted<S> {
    pub(crate) store: Arc<S>,
    pub(crate) counts: Arc<Counts>,
}

impl<S> Counted<S> {
    async fn one<T>(&self, operation: Operation, asked: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let began = Moment::now();
        let told = asked.await;
        self.counts.answered(operation, began);
        if let Err(error) = &told {
            self.counts.failed(error);
        }
        told
    }

    async fn batch<T>(
        &self,
        operation: Operation,
        asked: impl Future<Output = Result<Vec<ItemResult<T>>>> + Send,
    ) -> Result<Vec<ItemResult<T>>> {
        let told = self.one(operation, asked).await?;
        self.items(&told);
        Ok(told)
    }

    fn items<T>(&self, told: &[ItemResult<T>]) {
        told.iter().filter_map(|item| item.as_ref().err()).for_each(|error| self.counts.failed(error));
    }
}

#[async_trait]
impl<S: Store> QueueStore for Counted<S> {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        self.batch(Operation::Enqueue, self.store.enqueue(batch)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        self.one(Operation::Claim, self.store.claim(claim)).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        self.batch(Operation::Extend, self.store.extend(receipts, lease)).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        self.batch(Operation::Settle, self.store.settle(batch)).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        self.batch(Operation::Remove, self.store.remove(queue, unleased)).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        self.one(Operation::RequestStop, self.store.request_stop(queue, id)).await
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        self.one(Operation::Redrive, self.store.redrive(queue, dead)).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.one(Operation::Sweep, self.store.sweep(limit)).await
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        self.one(Operation::Get, self.store.get(queue, ids)).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        self.one(Operation::Depth, self.store.depth(queue)).await
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        self.one(Operation::Lane, self.store.lane(queue, key, of)).await
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        self.one(Operation::List, self.store.list(queue, stage, after, limit)).await
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.one(Operation::Queues, self.store.queues(after, limit)).await
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.store.wakeups()
    }
}

#[async_trait]
impl<S: Store> TopicStore for Counted<S> {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        self.batch(Operation::Append, self.store.append(batch)).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        self.one(Operation::Read, self.store.read(topic, from, limit)).await
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        self.one(Operation::ReadMany, self.store.read_many(patterns, after, limit)).await
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        self.one(Operation::Topics, self.store.topics(pattern, after, limit)).await
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        self.one(Operation::Trim, self.store.trim(topic, before)).await
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.one(Operation::DropTopics, self.store.drop_topics(names)).await
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        self.one(Operation::Cursor, self.store.cursor(topic, subscription)).await
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        self.one(Operation::Advance, self.store.advance(topic, subscription, from, to)).await
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        self.store.watch(topics)
    }
}

#[async_trait]
impl<S: Store> Store for Counted<S> {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        let told = self.one(Operation::AppendHeld, self.store.append_held(holder, batch)).await?;
        self.items(told.as_deref().unwrap_or_default());
        Ok(told)
    }

    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }
}

//! A store in front of another one: each operation passes through one place, which may count it, refuse it or wait.

use crate::error::{ItemResult, Result, StoreError};
use crate::lease::{Claim, Delivery, Extended, Receipt, Settled, Settlement};
use crate::message::{Effect, Enqueued, MessageId, MessageInfo, NewMessage, OrderingKey, Stage};
use crate::name::{QueueName, TopicName};
use crate::store::{Depth, LaneStatus, QueueStore, Removed, StopRequested, Store, TopicStore};
use crate::topic::{
    Epoch, NewEvent, Offset, Position, Read, ReadFrom, ReadMany, StorePosition, TopicFilter, TopicInfo,
    TopicPattern,
};
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::time::Duration;

macro_rules! operations {
    ($($name:ident $word:literal)*) => {
        /// What can be asked of a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $(#[doc = concat!("`", $word, "`.")] $name),*
        }

        impl Operation {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Operation] = &[$(Operation::$name),*];

            /// Its name in the traits.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Operation::$name => $word),* }
            }
        }
    };
}

operations! {
    Enqueue "enqueue"
    Claim "claim"
    Extend "extend"
    Settle "settle"
    Remove "remove"
    RequestStop "request_stop"
    Redrive "redrive"
    Sweep "sweep"
    Get "get"
    Depth "depth"
    Lane "lane"
    List "list"
    Queues "queues"
    Append "append"
    AppendHeld "append_held"
    Read "read"
    ReadMany "read_many"
    End "end"
    Topics "topics"
    Trim "trim"
    DropTopics "drop_topics"
    Cursor "cursor"
    Advance "advance"
}

/// Whatever is this is a store.
pub trait Surround: Send + Sync + 'static {
    /// The one behind it.
    fn surrounded(&self) -> &dyn Store;

    /// Every operation passes through here; `work` asks the store behind once it is polled.
    fn around<T: Send>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// An item of a batch failed, the others may not have.
    fn item_failed(&self, _: &StoreError) {}

    /// What becomes of the hints of [`QueueStore::wakeups`].
    fn wakeups_heard(&self, hints: BoxStream<'static, QueueName>) -> BoxStream<'static, QueueName> {
        hints
    }

    /// What becomes of the hints of [`TopicStore::watch`].
    fn topics_heard(&self, hints: BoxStream<'static, TopicName>) -> BoxStream<'static, TopicName> {
        hints
    }
}

fn items<S: Surround, T>(surround: &S, answers: &[ItemResult<T>]) {
    answers.iter().filter_map(|item| item.as_ref().err()).for_each(|error| surround.item_failed(error));
}

async fn each<S: Surround, T: Send>(
    surround: &S,
    operation: Operation,
    work: impl Future<Output = Result<Vec<ItemResult<T>>>> + Send,
) -> Result<Vec<ItemResult<T>>> {
    let told = surround.around(operation, work).await?;
    items(surround, &told);
    Ok(told)
}

#[async_trait]
impl<S: Surround> QueueStore for S {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        each(self, Operation::Enqueue, self.surrounded().enqueue(batch)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        self.around(Operation::Claim, self.surrounded().claim(claim)).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        each(self, Operation::Extend, self.surrounded().extend(receipts, lease)).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        each(self, Operation::Settle, self.surrounded().settle(batch)).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        each(self, Operation::Remove, self.surrounded().remove(queue, unleased)).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        self.around(Operation::RequestStop, self.surrounded().request_stop(queue, id)).await
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        self.around(Operation::Redrive, self.surrounded().redrive(queue, dead)).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.around(Operation::Sweep, self.surrounded().sweep(limit)).await
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        self.around(Operation::Get, self.surrounded().get(queue, ids)).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        self.around(Operation::Depth, self.surrounded().depth(queue)).await
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        self.around(Operation::Lane, self.surrounded().lane(queue, key, of)).await
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        self.around(Operation::List, self.surrounded().list(queue, stage, after, limit)).await
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.around(Operation::Queues, self.surrounded().queues(after, limit)).await
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.wakeups_heard(self.surrounded().wakeups())
    }
}

#[async_trait]
impl<S: Surround> TopicStore for S {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        each(self, Operation::Append, self.surrounded().append(batch)).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        self.around(Operation::Read, self.surrounded().read(topic, from, limit)).await
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        self.around(Operation::ReadMany, self.surrounded().read_many(patterns, after, limit)).await
    }

    async fn end(&self) -> Result<StorePosition> {
        self.around(Operation::End, self.surrounded().end()).await
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        self.around(Operation::Topics, self.surrounded().topics(pattern, after, limit)).await
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        self.around(Operation::Trim, self.surrounded().trim(topic, before)).await
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.around(Operation::DropTopics, self.surrounded().drop_topics(names)).await
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        self.around(Operation::Cursor, self.surrounded().cursor(topic, subscription)).await
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        self.around(Operation::Advance, self.surrounded().advance(topic, subscription, from, to)).await
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        self.topics_heard(self.surrounded().watch(topics))
    }
}

#[async_trait]
impl<S: Surround> Store for S {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        let told = self.around(Operation::AppendHeld, self.surrounded().append_held(holder, batch)).await?;
        told.iter().for_each(|answers| items(self, answers));
        Ok(told)
    }

    fn epoch(&self) -> Epoch {
        self.surrounded().epoch()
    }
}

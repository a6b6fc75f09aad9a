//! A store in front of another one that fails on request: before the work,
//! so that nothing happened, or behind it, so that only the answer is lost.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::{empty, pending};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Epoch, Extended, ItemResult, LaneStatus, MessageId,
    MessageInfo, NewEvent, NewMessage, Offset, OrderingKey, Position, QueueName, QueueStore, Read, ReadFrom,
    ReadMany, Receipt, Removed, Result, Settled, Settlement, Stage, StopRequested, Store, StoreError,
    StorePosition, TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

/// Kinds of operations that can be made to fail apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `enqueue`.
    Enqueue,
    /// `claim`.
    Claim,
    /// `extend`.
    Extend,
    /// `settle`.
    Settle,
    /// `append`.
    Append,
    /// Every other change.
    Change,
    /// Everything that only looks.
    Look,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 7] =
        [Op::Enqueue, Op::Claim, Op::Extend, Op::Settle, Op::Append, Op::Change, Op::Look];
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// `Unavailable`; it was not done.
    Refused,
    /// `Unknown`; it was done.
    AnswerLost,
    /// `Unknown`; it was not done.
    RequestLost,
}

#[derive(Default)]
struct Book {
    faults: HashMap<Op, Fault>,
    /// Come before `faults`, one operation each.
    next: HashMap<Op, VecDeque<Fault>>,
    failed: HashMap<Op, u64>,
    done: HashMap<Op, u64>,
}

impl Book {
    fn draw(&mut self, op: Op) -> Fault {
        let next = self.next.get_mut(&op).and_then(VecDeque::pop_front);
        next.or_else(|| self.faults.get(&op).copied()).unwrap_or_default()
    }
}

/// A store that fails on request.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    book: Mutex<Book>,
    deaf: bool,
}

impl FaultyStore {
    /// In front of a store, without faults.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Arc<FaultyStore> {
        Arc::new(FaultyStore { inner, book: Mutex::default(), deaf: false })
    }

    /// The same, and it never wakes anybody: hints may be lost, so nothing may need one.
    #[must_use]
    pub fn deaf(inner: Arc<dyn Store>) -> Arc<FaultyStore> {
        Arc::new(FaultyStore { inner, book: Mutex::default(), deaf: true })
    }

    /// The store behind, without any fault.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// From now on these operations fail like this.
    pub fn fail(&self, ops: &[Op], fault: Fault) {
        self.book().faults.extend(ops.iter().map(|op| (*op, fault)));
    }

    /// The next operations of this kind meet these faults, one each.
    pub fn fail_next(&self, op: Op, faults: &[Fault]) {
        self.book().next.entry(op).or_default().extend(faults);
    }

    /// Everything works again.
    pub fn recover(&self) {
        let mut book = self.book();
        book.faults.clear();
        book.next.clear();
    }

    /// How many operations of this kind failed so far.
    #[must_use]
    pub fn failed(&self, op: Op) -> u64 {
        self.book().failed.get(&op).copied().unwrap_or(0)
    }

    /// How many operations of this kind the store behind has done.
    #[must_use]
    pub fn done(&self, op: Op) -> u64 {
        self.book().done.get(&op).copied().unwrap_or(0)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass<T>(&self, op: Op, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.book().draw(op);
        if fault != Fault::None {
            *self.book().failed.entry(op).or_default() += 1;
        }
        match fault {
            Fault::Refused => return Err(StoreError::Unavailable("a test made it refuse".into())),
            Fault::RequestLost => return Err(StoreError::Unknown("a test lost the request".into())),
            Fault::None | Fault::AnswerLost => {}
        }
        let answer = work.await;
        *self.book().done.entry(op).or_default() += 1;
        match fault {
            Fault::AnswerLost => Err(StoreError::Unknown("a test lost the answer".into())),
            Fault::None | Fault::Refused | Fault::RequestLost => answer,
        }
    }
}

#[async_trait]
impl QueueStore for FaultyStore {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        self.pass(Op::Enqueue, self.inner.enqueue(batch)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        self.pass(Op::Claim, self.inner.claim(claim)).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        self.pass(Op::Extend, self.inner.extend(receipts, lease)).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        self.pass(Op::Settle, self.inner.settle(batch)).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        self.pass(Op::Change, self.inner.remove(queue, unleased)).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        self.pass(Op::Change, self.inner.request_stop(queue, id)).await
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        self.pass(Op::Change, self.inner.redrive(queue, dead)).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.pass(Op::Change, self.inner.sweep(limit)).await
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        self.pass(Op::Look, self.inner.get(queue, ids)).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        self.pass(Op::Look, self.inner.depth(queue)).await
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        self.pass(Op::Look, self.inner.lane(queue, key, of)).await
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        self.pass(Op::Look, self.inner.list(queue, stage, after, limit)).await
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.pass(Op::Look, self.inner.queues(after, limit)).await
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        if self.deaf { empty().boxed() } else { self.inner.wakeups() }
    }
}

#[async_trait]
impl TopicStore for FaultyStore {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        self.pass(Op::Append, self.inner.append(batch)).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        self.pass(Op::Look, self.inner.read(topic, from, limit)).await
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        self.pass(Op::Look, self.inner.read_many(patterns, after, limit)).await
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        self.pass(Op::Look, self.inner.topics(pattern, after, limit)).await
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        self.pass(Op::Change, self.inner.trim(topic, before)).await
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.pass(Op::Change, self.inner.drop_topics(names)).await
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        self.pass(Op::Look, self.inner.cursor(topic, subscription)).await
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        self.pass(Op::Change, self.inner.advance(topic, subscription, from, to)).await
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        if self.deaf { pending().boxed() } else { self.inner.watch(topics) }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        self.pass(Op::Append, self.inner.append_held(holder, batch)).await
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
}

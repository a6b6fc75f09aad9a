//! One node's way to a store that all nodes share: each operation takes time,
//! may fail, waits while the node is frozen, and is entered in the book. The
//! store's own threads are waited for in place, so that only the seed decides.

use super::book::Book;
use super::lock;
use super::weather::{Power, SimClock, Weather};
use crate::prng::Prng;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Epoch, Extended, ItemResult, LaneStatus, MessageId,
    MessageInfo, Name, NewEvent, NewMessage, Offset, OrderingKey, Position, QueueName, QueueStore, Read,
    ReadFrom, ReadMany, Receipt, Removed, Result, Settled, Settlement, Stage, StopRequested, Store,
    StoreError, StorePosition, Timestamp, TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

/// Hints one listener may be behind.
const HINTS_MAX: usize = 256;
/// How many of 100 hints get lost.
const HINTS_LOST: u64 = 15;

/// A store and what its nodes share.
pub struct Shared {
    store: Arc<dyn Store>,
    /// What happened.
    pub book: Book,
    /// The time.
    pub clock: Arc<SimClock>,
    /// Whether its process lives.
    pub power: Arc<Power>,
    random: Mutex<Prng>,
    hints: broadcast::Sender<Name>,
}

impl Shared {
    /// A store that was just opened.
    pub fn new(
        store: Arc<dyn Store>,
        book: Book,
        clock: Arc<SimClock>,
        power: Arc<Power>,
        random: Prng,
    ) -> Shared {
        let hints = broadcast::channel(HINTS_MAX).0;
        Shared { store, book, clock, power, random: Mutex::new(random), hints }
    }

    /// The store itself, to look at without a node.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn hint(&self, name: &Name) {
        if !lock(&self.random).chance(HINTS_LOST) {
            // Nobody listening is fine: hints are hints.
            let _ = self.hints.send(name.clone());
        }
    }

    fn hint_effects(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Enqueue(message) => self.hint(&message.queue),
                Effect::Publish(event) => self.hint(&event.topic),
            }
        }
    }

    fn listen(&self) -> BoxStream<'static, Name> {
        unfold(self.hints.subscribe(), |mut hints| async move {
            loop {
                match hints.recv().await {
                    Ok(name) => return Some((name, hints)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread: paused time stands still meanwhile.
pub fn now_or_block<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// How a store that misbehaves treats one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Refused, nothing happened.
    Before,
    /// Done, and the answer is lost.
    After,
}

/// A node's seat at the store.
pub struct Seat {
    shared: Arc<Shared>,
    weather: Arc<Weather>,
}

impl Seat {
    /// A seat for a node.
    #[must_use]
    pub fn new(shared: Arc<Shared>, weather: Arc<Weather>) -> Seat {
        Seat { shared, weather }
    }

    async fn pass(&self, usual_ms: u64) {
        let ms = {
            let mut random = lock(&self.shared.random);
            if random.chance(3) { random.below(150) } else { random.below(usual_ms + 1) }
        };
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        self.weather.awake().await;
        if self.shared.power.is_out() || self.weather.is_dead() {
            // The process is gone, and whoever waits in it.
            std::future::pending::<()>().await;
        }
    }

    fn draw_fault(&self, writes: bool) -> Fault {
        let percent = self.weather.fault_percent();
        let mut random = lock(&self.shared.random);
        match (percent > 0 && random.chance(percent), writes && random.chance(50)) {
            (false, _) => Fault::None,
            (true, true) => Fault::After,
            (true, false) => Fault::Before,
        }
    }

    async fn call<T>(
        &self,
        writes: bool,
        operation: impl Future<Output = Result<T>> + Send,
        note: impl FnOnce(&Shared, Timestamp, &T) + Send,
    ) -> Result<T> {
        self.pass(if writes { 3 } else { 1 }).await;
        let shared = &*self.shared;
        if shared.power.is_out() || self.weather.is_dead() {
            std::future::pending::<()>().await;
        }
        let fault = self.draw_fault(writes);
        shared.book.count(|counts| counts.store_faults += u64::from(fault != Fault::None));
        if fault == Fault::Before {
            return Err(StoreError::Unavailable("simulated: the store is away".into()));
        }
        let now = shared.clock.now();
        let answer = now_or_block(operation);
        if !shared.power.is_out() {
            shared.book.seen(now);
            if let Ok(value) = &answer {
                note(shared, now, value);
            }
        }
        self.pass(2).await;
        if fault == Fault::After {
            return Err(StoreError::Unknown("simulated: the answer was lost".into()));
        }
        answer
    }

    async fn look<T>(&self, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.call(false, operation, |_, _, _| {}).await
    }
}

#[async_trait]
impl QueueStore for Seat {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        let queues: Vec<QueueName> = batch.iter().map(|message| message.queue.clone()).collect();
        let operation = self.shared.store.enqueue(batch);
        let note = |shared: &Shared, _, _: &_| queues.iter().for_each(|queue| shared.hint(queue));
        self.call(true, operation, note).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        let operation = self.shared.store.claim(claim.clone());
        let note = |shared: &Shared, now: Timestamp, deliveries: &Vec<Delivery>| {
            for it in deliveries {
                let (id, token, attempt) = (it.receipt.id, it.receipt.token.0, it.attempt);
                let line = format_args!("claimed {id} attempt {attempt} token {token} at {}", now.0);
                shared.book.tell(&shared.clock, &line);
            }
            shared.book.claimed(&claim, deliveries);
        };
        self.call(true, operation, note).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        let operation = self.shared.store.extend(receipts.clone(), lease);
        let note = |shared: &Shared, now: Timestamp, answers: &Vec<_>| {
            for (receipt, answer) in receipts.iter().zip(answers) {
                let line = format_args!("extended {} at {}: {answer:?}", receipt.id, now.0);
                shared.book.tell(&shared.clock, &line);
            }
            shared.book.extended(now, &receipts, answers);
        };
        self.call(true, operation, note).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        let operation = self.shared.store.settle(batch.clone());
        let note = |shared: &Shared, now, answers: &Vec<_>| {
            shared.book.settled(now, &batch, answers);
            for (item, answer) in batch.iter().zip(answers) {
                let line = format_args!("settled {} {:?}: {answer:?}", item.receipt.id, item.outcome);
                shared.book.tell(&shared.clock, &line);
                shared.hint(&item.receipt.queue);
                shared.hint_effects(&item.effects);
            }
        };
        self.call(true, operation, note).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        let operation = self.shared.store.remove(queue, unleased.clone());
        let note = |shared: &Shared, _, answers: &Vec<_>| {
            let ids: Vec<MessageId> = unleased.iter().map(|(id, _)| *id).collect();
            shared.book.tell(&shared.clock, &format_args!("removed {ids:?}: {answers:?}"));
            shared.book.removed(&ids, answers);
            shared.hint(queue);
            unleased.iter().for_each(|(_, effects)| shared.hint_effects(effects));
        };
        self.call(true, operation, note).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        let operation = self.shared.store.request_stop(queue, id);
        self.call(true, operation, |_, _, _| {}).await
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        self.call(true, self.shared.store.redrive(queue, dead), |_, _, _| {}).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.call(true, self.shared.store.sweep(limit), |_, _, _| {}).await
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        self.look(self.shared.store.get(queue, ids)).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        self.look(self.shared.store.depth(queue)).await
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        self.look(self.shared.store.lane(queue, key, of)).await
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        self.look(self.shared.store.list(queue, stage, after, limit)).await
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.look(self.shared.store.queues(after, limit)).await
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.shared.listen()
    }
}

fn topics_of(batch: &[NewEvent]) -> Vec<TopicName> {
    batch.iter().map(|event| event.topic.clone()).collect()
}

/// No answers: the lease was over.
fn note_append(
    shared: &Shared,
    now: Timestamp,
    topics: &[TopicName],
    answers: Option<&Vec<ItemResult<Position>>>,
) {
    shared.book.tell(&shared.clock, &format_args!("appended to {topics:?} at {}: {answers:?}", now.0));
    if answers.is_some() {
        topics.iter().for_each(|topic| shared.hint(topic));
    }
}

#[async_trait]
impl TopicStore for Seat {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        let topics = topics_of(&batch);
        let operation = self.shared.store.append(batch);
        let note = |shared: &Shared, now: Timestamp, answers: &Vec<_>| {
            note_append(shared, now, &topics, Some(answers));
        };
        self.call(true, operation, note).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        self.look(self.shared.store.read(topic, from, limit)).await
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        self.look(self.shared.store.read_many(patterns, after, limit)).await
    }

    async fn end(&self) -> Result<StorePosition> {
        self.look(self.shared.store.end()).await
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        self.look(self.shared.store.topics(pattern, after, limit)).await
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        self.call(true, self.shared.store.trim(topic, before), |_, _, _| {}).await
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.call(true, self.shared.store.drop_topics(names), |_, _, _| {}).await
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        self.look(self.shared.store.cursor(topic, subscription)).await
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        self.call(true, self.shared.store.advance(topic, subscription, from, to), |_, _, _| {}).await
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        let wanted = move |name: &Name| match &topics {
            TopicFilter::One(one) => one == name,
            TopicFilter::Patterns(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
        };
        self.shared.listen().filter(move |name| std::future::ready(wanted(name))).boxed()
    }
}

#[async_trait]
impl Store for Seat {
    async fn append_held(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        let topics = topics_of(&batch);
        let operation = self.shared.store.append_held(holder, batch);
        let note = |shared: &Shared, now: Timestamp, answers: &Option<Vec<_>>| {
            note_append(shared, now, &topics, answers.as_ref());
        };
        self.call(true, operation, note).await
    }

    fn epoch(&self) -> Epoch {
        self.shared.store.epoch()
    }
}

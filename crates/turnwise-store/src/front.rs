//! The storage traits over any engine that runs the queue machine: each
//! operation becomes one closure that the engine runs beside its data.

use crate::hub::Hub;
use crate::own;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::machine::{Bodies, Machine};
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Epoch, Extended, ItemResult, LaneStatus, MessageId,
    MessageInfo, NewEvent, NewMessage, Offset, OrderingKey, Position, QueueName, QueueStore, Read, ReadFrom,
    ReadMany, Receipt, Removed, Result, Settled, Settlement, Stage, StopRequested, Store, StorePosition,
    Timestamp, TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

/// A store: the traits in front of an engine.
pub struct Front<E> {
    pub(crate) engine: E,
}

/// What an operation asks of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Changes nothing.
    Read,
    /// Changes only what may be lost with the process.
    LazyClaim,
    /// Changes rows; needs little room.
    Change,
    /// Stores something new.
    Grow,
}

/// What the engine should expect of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) class: Class,
    /// Bytes the operation brings along.
    pub(crate) bytes: u64,
}

/// Runs operations on a machine, one after another.
pub(crate) trait Engine: Send + Sync + 'static {
    fn call<T, F>(&self, cost: Cost, operation: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: FnOnce(&mut Machine, Timestamp, &dyn Bodies) -> Result<T> + Send + 'static;
    fn hub(&self) -> &Arc<Hub>;
    fn epoch(&self) -> Epoch;
}

/// What an empty enqueue asks room for: a small message.
const ROOM_ASKED_BYTES: u64 = 4 * 1024;
const READ: Cost = Cost { class: Class::Read, bytes: 0 };

fn change(bytes: u64) -> Cost {
    Cost { class: Class::Change, bytes }
}

fn effects_bytes(effects: &[Effect]) -> u64 {
    effects.iter().map(Effect::bytes).sum::<usize>() as u64
}

fn append_cost(batch: &[NewEvent]) -> Cost {
    Cost { class: Class::Grow, bytes: batch.iter().map(|event| event.data.len() as u64).sum() }
}

/// How many of each thing are in memory.
pub(crate) async fn sizes(engine: &impl Engine) -> Result<Vec<(&'static str, usize)>> {
    let all = |machine: &mut Machine, _, bodies: &dyn Bodies| {
        Ok(machine.sizes().into_iter().chain(bodies.sizes()).collect())
    };
    engine.call(READ, all).await
}

#[async_trait]
impl<E: Engine> QueueStore for Front<E> {
    async fn enqueue(&self, mut batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        batch.iter_mut().for_each(own::message);
        let bytes = match batch.as_slice() {
            [] => ROOM_ASKED_BYTES,
            batch => batch.iter().map(NewMessage::bytes).sum::<usize>() as u64,
        };
        let cost = Cost { class: Class::Grow, bytes };
        self.engine.call(cost, move |machine, now, bodies| machine.enqueue(now, batch, bodies)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        let class = if claim.durable { Class::Change } else { Class::LazyClaim };
        let cost = Cost { class, bytes: 0 };
        self.engine.call(cost, move |machine, now, bodies| machine.claim(now, &claim, bodies)).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.extend(now, &receipts, lease, bodies)
        };
        self.engine.call(change(0), operation).await
    }

    async fn settle(&self, mut batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        batch.iter_mut().for_each(|settlement| own::effects(&mut settlement.effects));
        let bytes = batch.iter().map(|settlement| effects_bytes(&settlement.effects)).sum();
        self.engine.call(change(bytes), move |machine, now, bodies| machine.settle(now, batch, bodies)).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        mut unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        unleased.iter_mut().for_each(|(_, effects)| own::effects(effects));
        let queue = queue.clone();
        let bytes = unleased.iter().map(|(_, effects)| effects_bytes(effects)).sum();
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.remove(now, &queue, unleased, bodies)
        };
        self.engine.call(change(bytes), operation).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        let queue = queue.clone();
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.request_stop(now, &queue, id, bodies)
        };
        self.engine.call(change(0), operation).await
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        let queue = queue.clone();
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.redrive(now, &queue, &dead, bodies)
        };
        self.engine.call(change(0), operation).await
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        self.engine.call(change(0), move |machine, now, bodies| machine.sweep(now, limit, bodies)).await
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        let queue = queue.clone();
        self.engine.call(READ, move |machine, now, bodies| machine.get(now, &queue, &ids, bodies)).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let queue = queue.clone();
        self.engine.call(READ, move |machine, _, _| Ok(machine.depth(&queue))).await
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        let (queue, key) = (queue.clone(), key.clone());
        self.engine.call(READ, move |machine, _, _| Ok(machine.lane(&queue, &key, of))).await
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        let queue = queue.clone();
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.list(now, &queue, stage, after, limit, bodies)
        };
        self.engine.call(READ, operation).await
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        self.engine.call(READ, move |machine, _, _| Ok(machine.queues(after.as_ref(), limit))).await
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.engine.hub().wakeups()
    }
}

#[async_trait]
impl<E: Engine> TopicStore for Front<E> {
    async fn append(&self, mut batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        batch.iter_mut().for_each(own::event);
        let cost = append_cost(&batch);
        self.engine.call(cost, move |machine, now, bodies| machine.append(now, batch, bodies)).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        let topic = topic.clone();
        self.engine.call(READ, move |machine, _, bodies| machine.read(&topic, from, limit, bodies)).await
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        let patterns = patterns.to_vec();
        let operation = move |machine: &mut Machine, _, bodies: &dyn Bodies| {
            machine.read_many(&patterns, after, limit, bodies)
        };
        self.engine.call(READ, operation).await
    }

    async fn end(&self) -> Result<StorePosition> {
        self.engine.call(READ, |machine, _, _| Ok(machine.end())).await
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        let pattern = pattern.clone();
        let operation = move |machine: &mut Machine, _, _: &dyn Bodies| {
            Ok(machine.topics(&pattern, after.as_ref(), limit))
        };
        self.engine.call(READ, operation).await
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        let topic = topic.clone();
        let operation = move |machine: &mut Machine, _, _: &dyn Bodies| {
            machine.trim(&topic, before);
            Ok(())
        };
        self.engine.call(change(0), operation).await
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        self.engine.call(change(0), move |machine, _, _| Ok(machine.drop_topics(&names))).await
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        let (topic, subscription) = (topic.clone(), subscription.to_owned());
        self.engine.call(READ, move |machine, _, _| Ok(machine.cursor(&topic, &subscription))).await
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        let (topic, subscription) = (topic.clone(), subscription.to_owned());
        let operation = move |machine: &mut Machine, _, _: &dyn Bodies| {
            Ok(machine.advance(&topic, &subscription, from, to))
        };
        self.engine.call(change(0), operation).await
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        self.engine.hub().watch(topics)
    }
}

#[async_trait]
impl<E: Engine> Store for Front<E> {
    async fn append_held(
        &self,
        holder: &Receipt,
        mut batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        batch.iter_mut().for_each(own::event);
        let holder = holder.clone();
        let cost = append_cost(&batch);
        let operation = move |machine: &mut Machine, now, bodies: &dyn Bodies| {
            machine.append_held(now, &holder, batch, bodies)
        };
        self.engine.call(cost, operation).await
    }

    fn epoch(&self) -> Epoch {
        self.engine.epoch()
    }
}

//! Operations and answers as data, so that one history runs against any engine,
//! against the bare machine, and against the oracle.

use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Effect, Enqueued, Extended, ItemResult, MessageId, NewEvent, NewMessage, Offset,
    Position, QueueName, Read, ReadFrom, Receipt, Removed, Result, Settled, Settlement, StopRequested, Store,
    TopicName,
};

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// `QueueStore::enqueue`.
    Enqueue(Vec<NewMessage>),
    /// `QueueStore::claim`.
    Claim(Claim),
    /// `QueueStore::extend`.
    Extend(Vec<Receipt>, Duration),
    /// `QueueStore::settle`.
    Settle(Vec<Settlement>),
    /// `QueueStore::remove`.
    Remove(QueueName, Vec<(MessageId, Vec<Effect>)>),
    /// `QueueStore::request_stop`.
    RequestStop(QueueName, MessageId),
    /// `QueueStore::redrive`.
    Redrive(QueueName, Vec<MessageId>),
    /// `QueueStore::sweep`.
    Sweep,
    /// `TopicStore::append`.
    Append(Vec<NewEvent>),
    /// `Store::append_held`.
    AppendHeld(Receipt, Vec<NewEvent>),
    /// `TopicStore::read`.
    Read(TopicName, ReadFrom, u32),
    /// `TopicStore::trim`.
    Trim(TopicName, Offset),
    /// `TopicStore::advance`.
    Advance(TopicName, Option<Position>, Position),
}

/// What a store answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Enqueue`.
    Enqueued(Vec<ItemResult<Enqueued>>),
    /// To `Claim`.
    Claimed(Vec<Delivery>),
    /// To `Extend`.
    Extended(Vec<ItemResult<Extended>>),
    /// To `Settle`.
    Settled(Vec<ItemResult<Settled>>),
    /// To `Remove`.
    Removed(Vec<ItemResult<Removed>>),
    /// To `RequestStop`.
    Stop(StopRequested),
    /// To `Redrive` and `Sweep`.
    Count(u32),
    /// To `Append`.
    Appended(Vec<ItemResult<Position>>),
    /// To `AppendHeld`.
    AppendedHeld(Option<Vec<ItemResult<Position>>>),
    /// To `Read`.
    Read(Read),
    /// To `Advance`.
    Moved(bool),
    /// To `Trim`.
    Done,
}

/// The subscription whose cursor histories move.
pub const SUBSCRIPTION: &str = "reader";
/// Things one sweep of a history may notice: more than there ever are.
pub const SWEEP: u32 = 1_000;

/// Runs an operation on a store.
///
/// # Errors
/// The store's own.
pub async fn run(store: &dyn Store, op: &Op) -> Result<Answer> {
    Ok(match op.clone() {
        Op::Enqueue(batch) => Answer::Enqueued(store.enqueue(batch).await?),
        Op::Claim(claim) => Answer::Claimed(store.claim(claim).await?),
        Op::Extend(receipts, lease) => Answer::Extended(store.extend(receipts, lease).await?),
        Op::Settle(batch) => Answer::Settled(store.settle(batch).await?),
        Op::Remove(queue, items) => Answer::Removed(store.remove(&queue, items).await?),
        Op::RequestStop(queue, id) => Answer::Stop(store.request_stop(&queue, id).await?),
        Op::Redrive(queue, ids) => Answer::Count(store.redrive(&queue, ids).await?),
        Op::Sweep => Answer::Count(store.sweep(SWEEP).await?),
        Op::Append(batch) => Answer::Appended(store.append(batch).await?),
        Op::AppendHeld(holder, batch) => Answer::AppendedHeld(store.append_held(&holder, batch).await?),
        Op::Read(topic, from, limit) => Answer::Read(store.read(&topic, from, limit).await?),
        Op::Trim(topic, before) => {
            store.trim(&topic, before).await?;
            Answer::Done
        }
        Op::Advance(topic, from, to) => Answer::Moved(store.advance(&topic, SUBSCRIPTION, from, to).await?),
    })
}

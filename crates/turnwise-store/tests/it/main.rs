//! Promises of the storage engines that need a disk: what survives, what is
//! refused, what happens when the disk is full or lies.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod crash;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod cuts;
mod damage;
mod eio;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod faults;
mod fixture;
mod full;
mod hang;
mod panics;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_locks;
#[cfg(feature = "postgres")]
mod postgres_upkeep;
#[path = "../conformance/power_cut.rs"]
mod power_cut;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_bounds;
#[cfg(feature = "redis")]
mod redis_wire;
mod reopen;
#[cfg(feature = "redis")]
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use turnwise_core::{
    Claim, Enqueued, Kind, MessageId, Name, NewEvent, NewMessage, Outcome, QueueName, QueueStore, Receipt,
    Settled, Settlement, StoreError, Timestamp,
};
use turnwise_store::Clock;

/// A clock that moves a little with every look.
fn ticking() -> Clock {
    let micros = AtomicI64::new(1_700_000_000_000_000);
    Arc::new(move || Timestamp(micros.fetch_add(7, Ordering::Relaxed)))
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn queue() -> QueueName {
    Name::new("acme", Kind::Turns, "turns").unwrap()
}

fn topic() -> Name {
    Name::new("acme", Kind::Reply, "answer").unwrap()
}

fn message(payload: &[u8]) -> NewMessage {
    NewMessage::new(queue(), payload.to_vec())
}

fn event(data: &[u8]) -> NewEvent {
    NewEvent {
        topic: topic(),
        event_type: "text".into(),
        data: data.to_vec().into(),
        dedup: None,
        keep_until: None,
    }
}

fn claim(limit: u32, durable: bool) -> Claim {
    Claim { queue: queue(), limit, lease: Duration::from_secs(60), durable }
}

fn ack(receipt: Receipt) -> Settlement {
    Settlement { receipt, outcome: Outcome::Ack, effects: Vec::new() }
}

async fn enqueue(store: &impl QueueStore, message: NewMessage) -> Result<MessageId, StoreError> {
    match store.enqueue(vec![message]).await?.pop().unwrap()? {
        Enqueued::New { id, .. } | Enqueued::Duplicate(id) => Ok(id),
        other => panic!("unexpected {other:?}"),
    }
}

async fn settle(store: &impl QueueStore, settlement: Settlement) -> Result<Settled, StoreError> {
    store.settle(vec![settlement]).await?.pop().unwrap()
}

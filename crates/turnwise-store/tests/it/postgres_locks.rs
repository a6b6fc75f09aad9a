//! PostgreSQL: steps that get in each other's way. None waits in a circle, and one that another circle ended is tried
//! again; claims that come together share what there is.

use crate::postgres::{deadlocks, name, open, sql};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{Claim, Effect, NewMessage, OrderingKey, QueueStore};
use turnwise_store::postgres::{PostgresConfig, PostgresStore};
use turnwise_testkit::ManualClock;
use turnwise_testkit::servers::postgres::Postgres;

const KEYS: usize = 40;
const ROUNDS: usize = 12;
const LEASE: Duration = Duration::from_secs(60);

fn to(key: usize) -> NewMessage {
    NewMessage { key: Some(OrderingKey(format!("k{key}").into())), ..NewMessage::new(name("jobs"), "") }
}

/// Messages of all keys that end soon, each with last words that go to two others' keys.
fn ending(clock: &ManualClock) -> Vec<NewMessage> {
    let soon = clock.now().after(Duration::from_secs(1));
    let words = |key| Effect::Enqueue(to(key));
    let one = |n: usize| NewMessage {
        expires_at: Some(soon),
        at_end: vec![words((n * 7 + 3) % KEYS), words(KEYS - 1 - n)],
        ..to(n)
    };
    (0..KEYS).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_notice_the_time_at_once_never_wait_in_a_circle() {
    let Some(server) = Postgres::start() else { return };
    let clock = ManualClock::new();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let config = PostgresConfig { acts_by_itself: false, ..PostgresConfig::default() };
        let node = PostgresStore::open(&server.url("shared"), config, Some(clock.reader())).await.unwrap();
        nodes.push(node);
    }
    for _ in 0..ROUNDS {
        for answer in nodes[0].enqueue(ending(&clock)).await.unwrap() {
            answer.unwrap();
        }
        clock.advance(Duration::from_secs(2));
        let mut tasks = tokio::task::JoinSet::new();
        for node in &nodes {
            let node = Arc::clone(node);
            tasks.spawn(async move { while node.sweep(1_000).await.unwrap() > 0 {} });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
    let depth = nodes[0].depth(&name("jobs")).await.unwrap();
    let each = (KEYS * ROUNDS) as u64;
    assert_eq!((depth.enqueued, depth.expired, depth.ready), (3 * each, each, 2 * each));
    assert_eq!(deadlocks(&server, &nodes).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_a_circle_ended_is_tried_again() {
    let Some(server) = Postgres::start_with(&["deadlock_timeout=2s"]) else { return };
    let store = open(&server).await;
    let both = || vec![to(1), to(2)];
    store.enqueue(both()).await.unwrap();
    let (client, driver) = sql(&server).await;
    let (watcher, watching) = sql(&server).await;
    let lock =
        |key: &str| format!("SELECT 1 FROM shared.lane WHERE key = convert_to('{key}', 'UTF8') FOR UPDATE");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnwise' \
        AND wait_event_type = 'Lock'";
    // The other session gives way much later; on a machine that stands still for as long, it is tried once more.
    client.batch_execute("SET deadlock_timeout = '20s'").await.unwrap();
    for round in 2.. {
        client.batch_execute(&format!("BEGIN; {}", lock("k2"))).await.unwrap();
        let node = Arc::clone(&store);
        let call = tokio::spawn(async move { node.enqueue(both()).await });
        while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        // The node's has the one and waits for the other.
        let gave_way = client.batch_execute(&lock("k1")).await.is_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        for answer in call.await.unwrap().unwrap() {
            answer.unwrap();
        }
        let depth = store.depth(&name("jobs")).await.unwrap();
        assert_eq!((depth.enqueued, depth.ready), (2 * round, 2 * round), "each once");
        if !gave_way {
            break;
        }
    }
    assert!(deadlocks(&server, &[store]).await > 0);
    driver.abort();
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_come_together_share_what_there_is() {
    let Some(server) = Postgres::start() else { return };
    let store = open(&server).await;
    let new = |n: usize| NewMessage { queue: name(["a", "b"][n % 2]), ..to(n) };
    for answer in store.enqueue((0..60).map(new).collect()).await.unwrap() {
        answer.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (store, queue) = (Arc::clone(&store), name(["a", "b", "none"][n % 3]));
        tasks.spawn(async move {
            let limit = u32::try_from(n).unwrap() + 1;
            let held = store.claim(Claim { queue: queue.clone(), limit, lease: LEASE, durable: true }).await;
            (queue, limit, held.unwrap())
        });
    }
    let (mut ids, mut tokens, mut wanted) = (HashSet::new(), HashSet::new(), [0, 0]);
    while let Some(done) = tasks.join_next().await {
        let (queue, limit, held) = done.unwrap();
        assert!(held.len() <= limit as usize, "{} for {limit}", held.len());
        assert!(held.iter().all(|delivery| delivery.receipt.queue == queue), "of its own queue");
        assert!(held.is_sorted_by_key(|delivery| delivery.receipt.token), "in the order of their places");
        wanted["ab".find(queue.name()).unwrap_or(0)] += if queue.name() == "none" { 0 } else { limit };
        ids.extend(held.iter().map(|delivery| delivery.receipt.id));
        tokens.extend(held.iter().map(|delivery| delivery.receipt.token));
    }
    assert!(wanted.iter().all(|wanted| *wanted >= 30), "{wanted:?}");
    assert_eq!((ids.len(), tokens.len()), (60, 60), "each once");
    let acks = Claim { queue: name("a"), limit: 10, lease: LEASE, durable: true };
    assert!(store.claim(acks).await.unwrap().is_empty());
}

//! The server that two nodes share is killed and started again under load, and is away for a while: nothing that
//! was accepted is lost, what was refused was not stored, and everything goes on without help.

use super::{
    CLIENTS, CONVERSATIONS, CONVERSATIONS_ENV, History, KILLING_CALLS, KILLING_LEASE_SECONDS, Nodes,
};
use crate::support::{PATIENCE, count_of};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use turnwise_mock::HistoryChecker;
use turnwise_testkit::servers::{Server, postgres::Postgres, redis};

/// Kills of the server, unless [`KILLS_ENV`] says otherwise.
const KILLS: u32 = 2;
const KILLS_ENV: &str = "TURNWISE_STORE_KILLS";
/// How long it is away afterwards, unless [`SECONDS_ENV`] says otherwise.
const SECONDS: u32 = 3;
const SECONDS_ENV: &str = "TURNWISE_STORE_OUTAGE_SECONDS";
/// Turns that are accepted between two kills.
const BETWEEN: usize = 40;

/// Waits until so many more turns are accepted; how long that took.
async fn more_are_accepted(history: &History, more: usize) -> Duration {
    let (started, before) = (Instant::now(), history.accepted.lock().await.len());
    while history.accepted.lock().await.len() < before + more {
        assert!(started.elapsed() < 2 * PATIENCE, "nothing is accepted any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

async fn nothing_is_lost_when_the_server_goes(server: &Server, store: String) {
    let (kills, seconds) = (count_of(KILLS_ENV, KILLS), count_of(SECONDS_ENV, SECONDS));
    let conversations = count_of(CONVERSATIONS_ENV, CONVERSATIONS);
    let nodes = Nodes::start(store, KILLING_CALLS, KILLING_LEASE_SECONDS).await;
    let history = History::of(&nodes);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(Arc::clone(&history).client(client, conversations));
    }
    let (mut marks, mut slowest) = (Vec::new(), Duration::ZERO);
    for _ in 0..kills {
        more_are_accepted(&history, BETWEEN).await;
        server.kill();
        marks.push(nodes.agent.journal().mark());
        tokio::task::block_in_place(|| server.restart());
        slowest = slowest.max(more_are_accepted(&history, 1).await);
    }
    more_are_accepted(&history, BETWEEN).await;
    server.kill();
    marks.push(nodes.agent.journal().mark());
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    tokio::task::block_in_place(|| server.restart());
    let back = more_are_accepted(&history, 1).await;
    more_are_accepted(&history, BETWEEN).await;
    history.stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let drained = Instant::now();
    let states = history.ends().await;
    let drained = drained.elapsed();
    judge(&nodes, &history, marks).await;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    let (refused, unknown, read) = (count(&history.refused), count(&history.unknown), count(&history.read));
    println!(
        "{kills} kills of the store, work again after {slowest:?} at most, and {seconds} s without it, then after \
         {back:?}; {} turns, {states:?}, each called {} times at most, all over {drained:?} after the last; {refused} \
         requests refused and {unknown} of unknown outcome; {read} streams read whole",
        history.accepted.lock().await.len(),
        count(&history.attempts),
    );
    assert!(refused > 0 && read > 0, "too little happened");
    for node in nodes.running {
        assert_eq!(node.unwrap().terminate().await, Some(0));
    }
}

async fn judge(nodes: &Nodes, history: &History, marks: Vec<u64>) {
    let calls = nodes.agent.journal().calls();
    let accepted = history.accepted.lock().await;
    let known: HashSet<&str> = accepted.iter().map(|(_, receipt)| receipt.message_id.as_str()).collect();
    assert_eq!(known.len(), accepted.len(), "two messages became one turn");
    let strangers: Vec<_> = calls.iter().filter(|call| !known.contains(call.message_id.as_str())).collect();
    assert!(strangers.is_empty(), "called though it was refused: {strangers:#?}");
    let mut checker = HistoryChecker::new().with_declared_reruns().with_kills(marks);
    checker.add_calls(calls);
    checker.add_receipts(accepted.iter().map(|(_, receipt)| receipt.clone()));
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_redis_is_killed_and_away() {
    let Some(server) = redis::start() else { return };
    nothing_is_lost_when_the_server_goes(&server, redis::url(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_postgres_is_killed_and_away() {
    let Some(server) = Postgres::start() else { return };
    nothing_is_lost_when_the_server_goes(server.server(), server.url("chat")).await;
}

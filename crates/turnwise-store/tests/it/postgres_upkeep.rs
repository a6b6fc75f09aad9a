//! PostgreSQL: connections that are dead without a word, hints that were lost with one, and counters of sessions that
//! are over.

use crate::postgres::{name, note, open, sql};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{NewMessage, QueueStore, StoreError, TopicFilter, TopicStore};
use turnwise_store::postgres::{PostgresConfig, PostgresStore};
use turnwise_testkit::servers::postgres::Postgres;

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls of a node whose connections are dead take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

async fn quiet(server: &Postgres) -> Arc<PostgresStore> {
    let config = PostgresConfig { acts_by_itself: false, call_timeout: CALL_TIMEOUT, ..Default::default() };
    PostgresStore::open(&server.url("shared"), config, None).await.unwrap()
}

/// Processes of the server that serve the stores.
async fn sessions(client: &tokio_postgres::Client) -> Vec<i32> {
    let all = "SELECT pid FROM pg_stat_activity WHERE application_name = 'turnwise'";
    client.query(all, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn signal(name: &str, pids: &[i32]) {
    let status = Command::new("kill").arg(name).args(pids.iter().map(ToString::to_string)).status();
    assert!(status.unwrap().success(), "{name} {pids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_silent_connections_one_call_pays_for_all() {
    let Some(server) = Postgres::start() else { return };
    let store = quiet(&server).await;
    let queue = name("jobs");
    for answer in join_all((0..8).map(|_| store.depth(&queue))).await {
        answer.unwrap();
    }
    let (client, driver) = sql(&server).await;
    let before = sessions(&client).await;
    assert!(before.len() > 2, "{before:?}");
    signal("-STOP", &before);
    let silent = store.depth(&queue).await;
    let next = store.depth(&queue).await;
    signal("-CONT", &before);
    assert!(matches!(silent, Err(StoreError::Unavailable(_))), "{silent:?}");
    assert!(next.is_ok(), "{next:?}");
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_comes_back_hints_at_what_it_may_have_missed() {
    let Some(server) = Postgres::start() else { return };
    let other = quiet(&server).await;
    other.enqueue(vec![NewMessage::new(name("jobs"), "")]).await.unwrap();
    let store = open(&server).await;
    let (client, driver) = sql(&server).await;
    let listeners = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'";
    let listener = loop {
        if let Some(row) = client.query_opt(listeners, &[]).await.unwrap() {
            break row.get::<_, i32>(0);
        }
        tokio::task::yield_now().await;
    };
    let (mut queues, mut topics) = (store.wakeups(), store.watch(TopicFilter::One(name("log"))));
    client.execute("SELECT pg_terminate_backend($1)", &[&listener]).await.unwrap();
    // Nobody hears of this one from its writer.
    other.append(vec![note("log", "one".into())]).await.unwrap();
    let hints = async { (queues.next().await, topics.next().await) };
    let hints = tokio::time::timeout(PATIENCE, hints).await.unwrap();
    assert_eq!(hints, (Some(name("jobs")), Some(name("log"))));
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_of_sessions_that_are_over_are_added_up_in_pieces() {
    let Some(server) = Postgres::start() else { return };
    let first = quiet(&server).await;
    first.enqueue(vec![NewMessage::new(name("jobs"), ""); 3]).await.unwrap();
    let (client, driver) = sql(&server).await;
    let over = sessions(&client).await;
    first.close();
    while !sessions(&client).await.is_empty() {
        tokio::task::yield_now().await;
    }
    // Of one of those sessions, and of many queues; and of one that lives: this.
    let rows = "INSERT INTO shared.tally (queue_id, session, enqueued, ready) \
        SELECT n, $1, 1, 1 FROM generate_series(-2500, -1) n \
        UNION ALL SELECT n, pg_backend_pid(), 1, 1 FROM generate_series(-30, -1) n";
    client.execute(rows, &[&over[0]]).await.unwrap();
    let store = quiet(&server).await;
    let count = async |which: &str| {
        let sql = format!("SELECT count(*), sum(ready)::bigint FROM shared.tally WHERE {which}");
        let row = client.query_one(&sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0))
    };
    let all = count("true").await;
    assert_eq!(all.1, 2_533);
    // No more than a thousand at once, and no oftener than once a minute.
    for _ in 0..2 {
        assert_eq!(store.sweep(100).await.unwrap(), 0);
        let (folded, _) = count("session = 0").await;
        assert!((1..=1_000).contains(&folded), "{folded}");
        let dead = format!("session = {}", over[0]);
        assert!(count(&dead).await.0 >= 1_500);
    }
    client.batch_execute("SET search_path = shared").await.unwrap();
    while client.query_one("SELECT tw_fold(1000)", &[]).await.unwrap().get::<_, i32>(0) > 0 {}
    assert_eq!(count("session > 0").await, (30, 30), "those that live keep theirs");
    assert_eq!(count("true").await, (2_501 + 30, 2_533), "nothing is lost");
    let depth = store.depth(&name("jobs")).await.unwrap();
    assert_eq!((depth.enqueued, depth.ready), (3, 3));
    driver.abort();
}

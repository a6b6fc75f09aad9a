//! Topics over several nodes: who reads at one gets what is published at
//! another, and goes on at that one when his is killed.

use crate::support::{PATIENCE, Running, serve};
use http::Method;
use serde_json::{Value, json};
use turnwise_mock::{Conn, SseReader};
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::redis;

const EVENTS: u64 = 40;

async fn node(folder: &tempfile::TempDir, store: &str) -> Running {
    serve(folder.path(), 0, None, &[("TURNWISE_STORE", store)]).await
}

async fn publish(node: &Running, n: u64) -> Value {
    let path = format!("/api/v1/topics/t.{}/events?org_id=o", n % 3);
    let body = json!({ "type": "said", "data": n, "dedup_key": format!("n{n}") }).to_string();
    let answer = Conn::new(node.url()).post(&path, body).await.unwrap();
    let told: Value = answer.json().unwrap();
    assert_eq!(answer.status, 201, "{told}");
    told
}

async fn subscribe(node: &Running, after: &[(&'static str, &str)]) -> SseReader {
    let path = "/api/v1/subscribe?org_id=o&topics=t.%3E";
    let reader = Conn::new(node.url()).sse(Method::GET, path, after, bytes::Bytes::new()).await.unwrap();
    assert_eq!(reader.status, 200);
    reader
}

/// The next events' numbers, and the last one's id.
async fn take(reader: &mut SseReader, count: u64) -> (Vec<u64>, String) {
    let (mut numbers, mut last) = (Vec::new(), String::new());
    for _ in 0..count {
        let event = reader.next_within(PATIENCE).await.unwrap().expect("the stream goes on");
        let said: Value = serde_json::from_str(&event.data).unwrap();
        numbers.push(said["data"].as_u64().unwrap());
        last = event.id;
    }
    (numbers, last)
}

async fn what_one_node_stores_the_other_tells(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, other) = (node(&folder, store).await, node(&folder, store).await);
    let mut reader = subscribe(&one, &[]).await;
    for n in 0..EVENTS {
        let told = publish(if n % 4 == 0 { &one } else { &other }, n).await;
        let here = u64::from(n % 4 == 0);
        assert_eq!(told["subscribers"], here, "each node counts its own");
    }
    let (numbers, last) = take(&mut reader, EVENTS).await;
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    one.kill().await;
    for n in EVENTS..2 * EVENTS {
        publish(&other, n).await;
    }
    let mut reader = subscribe(&other, &[("last-event-id", &last)]).await;
    let (numbers, _) = take(&mut reader, EVENTS).await;
    assert_eq!(numbers, (EVENTS..2 * EVENTS).collect::<Vec<_>>());
    let again = publish(&other, EVENTS).await;
    publish(&other, 2 * EVENTS).await;
    assert_eq!(take(&mut reader, 1).await.0, [2 * EVENTS], "a repeat is no event: {again}");
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn two_nodes_on_redis_are_one_bus() {
    let Some(server) = redis::start() else { return };
    what_one_node_stores_the_other_tells(&redis::url(&server)).await;
}

#[tokio::test]
async fn two_nodes_on_postgres_are_one_bus() {
    let Some(server) = Postgres::start() else { return };
    what_one_node_stores_the_other_tells(&server.url("chat")).await;
}

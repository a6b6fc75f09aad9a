//! Waiting for messages.

use super::{PATIENCE, node, payloads};
use crate::client::{Call, with_json};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn claim(queue: &str, body: &Value) -> Call {
    let path = format!("/api/v1/queues/{queue}/claim");
    with_json("POST", &path, &body.to_string()).header("X-API-Key", "secret-o")
}

/// Flaw 23: a wait of two seconds was over at once.
#[tokio::test]
async fn a_claim_waits_until_a_message_comes() {
    let node = node().await;
    let waiting = node.start(claim("jobs", &json!({ "wait_seconds": 20 })));
    node.until_waited_for(1.0).await;
    assert!(!waiting.is_finished());
    let id = node.enqueue(json!({ "payload": 1 })).await;
    let reply = waiting.await.unwrap();
    assert_eq!(reply.json()["deliveries"][0]["message_id"], id.as_str(), "{}", reply.text());
    node.until_waited_for(0.0).await;
}

#[tokio::test]
async fn a_wait_in_which_nothing_comes_ends_with_nothing() {
    let node = node().await;
    assert_eq!(node.take(json!({ "wait_seconds": 0.05 })).await, Vec::<Value>::new());
    assert_eq!(node.take(json!({})).await, Vec::<Value>::new());
    let without_body = node.ask("POST", "/jobs/claim", &Value::Null).await;
    assert_eq!((without_body.status, without_body.json()), (200, json!({ "deliveries": [] })));
}

#[tokio::test]
async fn every_one_who_waits_gets_a_message_of_its_own() {
    let node = node().await;
    let waiting: Vec<_> = (0..8).map(|_| node.start(claim("jobs", &json!({ "wait_seconds": 20 })))).collect();
    let other = node.start(claim("other", &json!({ "wait_seconds": 20 })));
    node.until_waited_for(2.0).await;
    let items: Vec<Value> = (0..8).map(|n| json!({ "payload": n })).collect();
    node.enqueue_all(&items).await;
    let mut got = BTreeSet::new();
    for one in waiting {
        let reply = tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap();
        let deliveries = reply.json()["deliveries"].as_array().unwrap().clone();
        assert_eq!(deliveries.len(), 1, "{}", reply.text());
        assert!(got.insert(payloads(&deliveries)[0].as_u64().unwrap()));
    }
    assert!(!other.is_finished());
    node.ask("POST", "/other/messages", &json!({ "payload": "x" })).await;
    assert_eq!(other.await.unwrap().json()["deliveries"][0]["payload"], "x");
}

#[tokio::test]
async fn whoever_waits_is_woken_by_the_end_of_a_lease_a_delay_and_a_key() {
    let node = node().await;
    let keyed = |n: u32| json!({ "payload": n, "ordering_key": "k" });
    node.enqueue_all(&[keyed(1), keyed(2)]).await;
    let first = node.take_one().await;
    let waiting = node.start(claim("jobs", &json!({ "wait_seconds": 20 })));
    node.until_waited_for(1.0).await;
    node.end(&first, "ack").await;
    assert_eq!(waiting.await.unwrap().json()["deliveries"][0]["payload"], 2);
    node.enqueue(json!({ "payload": "later", "delay_seconds": 0.1 })).await;
    assert_eq!(node.take_one().await["payload"], "later");
}

#[tokio::test]
async fn whoever_went_away_while_waiting_takes_no_message_along() {
    let node = node().await;
    claim("jobs", &json!({ "wait_seconds": 20 })).abandon(node.address).await;
    // Its wait ends with its connection, long before its time.
    node.until_waited_for(0.0).await;
    let id = node.enqueue(json!({ "payload": 1 })).await;
    let delivery = node.take_one().await;
    assert_eq!((&delivery["message_id"], &delivery["attempt"]), (&json!(id), &json!(1)));
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_its_waits() {
    let node = node().await;
    let waiting = node.start(claim("jobs", &json!({ "wait_seconds": 20 })));
    node.until_waited_for(1.0).await;
    node.keys.exchange(vec![crate::node::key("q")]);
    let reply = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(reply.json(), json!({ "deliveries": [] }));
}

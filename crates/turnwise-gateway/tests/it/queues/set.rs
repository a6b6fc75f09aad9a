//! What is set for a queue: policy and pause.

use super::node;
use serde_json::{Value, json};
use turnwise_broker::BrokerConfig;

#[tokio::test]
async fn a_paused_queue_is_seen_takes_messages_and_hands_out_none() {
    let node = node().await;
    let held = node.enqueue(json!({ "payload": "held" })).await;
    let delivery = node.take_one().await;
    assert_eq!(delivery["message_id"], held.as_str());
    let paused = node.ask("POST", "/jobs/pause", &Value::Null).await.json();
    assert_eq!(paused["paused"], true);
    assert!(paused["paused_since"].is_string());
    node.enqueue(json!({ "payload": "waits" })).await;
    assert_eq!(node.take(json!({ "wait_seconds": 0.05 })).await, Vec::<Value>::new());
    // Again, it stays as it was.
    let again = node.ask("POST", "/jobs/pause", &Value::Null).await.json();
    assert_eq!(again["paused_since"], paused["paused_since"]);
    node.end(&delivery, "ack").await;
    let (take, resume) = tokio::join!(node.take_one(), async {
        node.until_waited_for(1.0).await;
        node.ask("POST", "/jobs/resume", &Value::Null).await.json()
    });
    assert_eq!(take["payload"], "waits");
    assert_eq!((&resume["paused"], &resume["paused_since"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn a_policy_holds_for_messages_that_say_nothing_else() {
    let node = node().await;
    let usual = node.jobs().await["policy"].clone();
    assert_eq!((&usual["max_attempts"], &usual["ttl_seconds"]), (&json!(12), &Value::Null));
    let set = json!({ "max_attempts": 2, "ttl_seconds": 3600 });
    let reply = node.ask("PUT", "/jobs/policy", &set).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["policy"]["max_attempts"], 2);
    assert_eq!(reply.json()["policy"]["retry_base_seconds"], usual["retry_base_seconds"]);
    let own = node.enqueue(json!({ "payload": 1, "max_attempts": 7, "ttl_seconds": 60 })).await;
    let by_policy = node.enqueue(json!({ "payload": 2 })).await;
    let (own, by_policy) = (node.message(&own).await, node.message(&by_policy).await);
    assert_eq!((&own["max_attempts"], &by_policy["max_attempts"]), (&json!(7), &json!(2)));
    assert!(super::micros(&by_policy["expires_at"]) > super::micros(&own["expires_at"]));
    // Another queue, and another organisation's of the same name, have their own.
    assert_eq!(node.ask("GET", "/other", &Value::Null).await.json()["policy"], usual);
    assert_eq!(node.ask_as("p", "GET", "/jobs", &Value::Null).await.json()["policy"], usual);
    // The whole of it: what is left out is as usual.
    let back = node.ask("PUT", "/jobs/policy", &json!({})).await;
    assert_eq!(back.json()["policy"], usual);
}

#[tokio::test]
async fn another_node_on_the_store_and_a_later_one_know_what_is_set() {
    let store = turnwise_store::memory::MemoryStore::new(turnwise_store::system_clock());
    let on = async |store: std::sync::Arc<dyn turnwise_core::Store>| {
        crate::node::node_on(store, BrokerConfig::default(), |config| {
            let scopes = vec![turnwise_gateway::Scope::Queues];
            config.keys = vec![turnwise_gateway::ApiKey { scopes, ..crate::node::key("o") }];
        })
        .await
    };
    let one = on(store.clone()).await;
    let other = on(store.clone()).await;
    one.ask("POST", "/jobs/pause", &Value::Null).await;
    other.ask("PUT", "/jobs/policy", &json!({ "max_attempts": 3 })).await;
    for node in [&one, &other, &on(store.clone()).await] {
        let jobs = node.jobs().await;
        assert_eq!((&jobs["paused"], &jobs["policy"]["max_attempts"]), (&json!(true), &json!(3)));
    }
}

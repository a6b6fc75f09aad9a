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

#[tokio::test]
async fn so_many_messages_are_in_hand_at_once_and_the_next_waits_for_an_end() {
    let node = node().await;
    node.ask("PUT", "/jobs/policy", &json!({ "concurrency": 2 })).await;
    for number in 0..5 {
        node.enqueue(json!({ "payload": number })).await;
    }
    let first = node.take(json!({ "limit": 100 })).await;
    assert_eq!(first.len(), 2);
    assert_eq!(node.take(json!({ "limit": 100, "wait_seconds": 0.05 })).await, Vec::<Value>::new());
    let (next, ()) = tokio::join!(node.take(json!({ "limit": 100, "wait_seconds": 20 })), async {
        node.until_waited_for(1.0).await;
        node.end(&first[0], "ack").await;
    });
    assert_eq!(next.len(), 1, "woken by the end of one");
    assert_eq!(next[0]["payload"], 2);
    // What was not handed out has lost no attempt and no place.
    node.ask("PUT", "/jobs/policy", &json!({})).await;
    let rest = node.take(json!({ "limit": 100 })).await;
    let told: Vec<_> = rest.iter().map(|it| (it["payload"].clone(), it["attempt"].clone())).collect();
    assert_eq!(told, [(json!(3), json!(1)), (json!(4), json!(1))]);
}

#[tokio::test]
async fn many_who_claim_at_once_never_have_more_in_hand_than_the_policy_says() {
    let node = node().await;
    node.ask("PUT", "/jobs/policy", &json!({ "concurrency": 3 })).await;
    let items: Vec<Value> = (0..200).map(|number| json!({ "payload": number })).collect();
    node.ask("POST", "/jobs/messages", &json!({ "items": items })).await;
    let in_hand = std::sync::atomic::AtomicI64::new(0);
    let work = async || {
        let mut done = 0;
        loop {
            let taken = node.take(json!({ "limit": 2 })).await;
            if taken.is_empty() {
                if node.jobs().await["depth"]["ready"] == 0 {
                    return done;
                }
                continue;
            }
            let count = i64::try_from(taken.len()).unwrap();
            let now = in_hand.fetch_add(count, std::sync::atomic::Ordering::SeqCst) + count;
            assert!(now <= 3, "{now} in hand");
            in_hand.fetch_sub(count, std::sync::atomic::Ordering::SeqCst);
            for delivery in &taken {
                node.end(delivery, "ack").await;
            }
            done += taken.len();
        }
    };
    let (one, two, three, four) = tokio::join!(work(), work(), work(), work());
    assert_eq!(one + two + three + four, 200);
}

#[tokio::test]
async fn a_queue_with_a_rate_hands_out_what_a_second_brings_and_then_one_after_another() {
    let node = node().await;
    node.ask("PUT", "/jobs/policy", &json!({ "rate_per_second": 20 })).await;
    let items: Vec<Value> = (0..60).map(|number| json!({ "payload": number })).collect();
    node.ask("POST", "/jobs/messages", &json!({ "items": items })).await;
    let begun = std::time::Instant::now();
    let mut taken = node.take(json!({ "limit": 100 })).await.len();
    assert_eq!(taken, 20, "at once");
    while taken < 60 {
        taken += node.take(json!({ "limit": 100, "wait_seconds": 20 })).await.len();
    }
    assert!(begun.elapsed() >= std::time::Duration::from_millis(1_700), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_queue_takes_as_many_messages_as_its_policy_allows() {
    let node = node().await;
    node.ask("PUT", "/jobs/policy", &json!({ "messages_max": 2 })).await;
    node.enqueue(json!({ "payload": 1 })).await;
    let two = json!({ "items": [{ "payload": 2 }, { "payload": 3 }] });
    let refused = node.ask("POST", "/jobs/messages", &two).await;
    refused.assert_problem(429, "queue_depth_exceeded");
    assert!(refused.header("retry-after").is_some());
    node.enqueue(json!({ "payload": 2 })).await;
    assert_eq!(node.ask("POST", "/jobs/messages", &json!({ "payload": 3 })).await.status, 429);
    assert_eq!(node.ask("POST", "/others/messages", &json!({ "payload": 3 })).await.status, 201);
    for number in ["concurrency", "rate_per_second", "messages_max"] {
        let reply = node.ask("PUT", "/jobs/policy", &json!({ number: 0 })).await;
        reply.assert_problem(422, "invalid_content");
    }
}

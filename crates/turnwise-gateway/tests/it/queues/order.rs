//! In which order messages are handed out, and when.

use super::{micros, node, payloads};
use serde_json::{Value, json};

/// Flaw 20: inside a priority the order was that of the texts.
#[tokio::test]
async fn higher_priorities_go_first_and_each_strictly_in_order() {
    let node = node().await;
    let of = |n: usize| json!({ "payload": n, "priority": ([4, 9, 0][n % 3]) });
    let items: Vec<Value> = (0..600).map(of).collect();
    node.enqueue_all(&items).await;
    let mut got = Vec::new();
    for _ in 0..6 {
        let found = node.take(json!({ "limit": 100 })).await;
        assert_eq!(found.len(), 100);
        got.extend(payloads(&found).iter().map(|n| n.as_u64().unwrap()));
    }
    let of = |rest: u64| (0..600).filter(move |n| n % 3 == rest);
    assert_eq!(got, of(1).chain(of(0)).chain(of(2)).collect::<Vec<u64>>());
}

#[tokio::test]
async fn of_one_key_one_is_out_at_a_time_and_the_order_outlives_retries() {
    let node = node().await;
    let of = |key: &str, n: u32, priority: u8| json!({ "payload": format!("{key}{n}"), "ordering_key": key, "priority": priority });
    // Within a key priority changes nothing.
    let items = [of("a", 1, 0), of("a", 2, 9), of("b", 1, 4), of("a", 3, 9), of("b", 2, 4)];
    node.enqueue_all(&items).await;
    let first = node.take(json!({ "limit": 100 })).await;
    assert_eq!(payloads(&first), ["b1", "a1"]);
    assert_eq!(node.take(json!({ "limit": 100 })).await, Vec::<Value>::new());
    // A retry that waits holds its own key up, and no other.
    let retry = json!({ "receipt": first[1]["receipt"], "outcome": "retry", "delay_seconds": 3600 });
    let ack = json!({ "receipt": first[0]["receipt"], "outcome": "ack" });
    assert_eq!(node.settle(&[retry, ack]).await, ["done", "done"]);
    assert_eq!(payloads(&node.take(json!({ "limit": 100 })).await), ["b2"]);
    assert_eq!(node.depth().await, [3, 0, 1, 0]);
    // One that is tried again at once comes before those behind it.
    let id = first[1]["message_id"].as_str().unwrap();
    let removed = node.ask("DELETE", &format!("/jobs/messages/{id}"), &Value::Null).await;
    assert_eq!(removed.json()["removed"], 1);
    let second = node.take_one().await;
    assert_eq!(second["payload"], "a2");
    let again = json!({ "receipt": second["receipt"], "outcome": "retry", "delay_seconds": 0 });
    assert_eq!(node.settle(&[again]).await, ["done"]);
    let second = node.take_one().await;
    assert_eq!((&second["payload"], &second["attempt"]), (&json!("a2"), &json!(2)));
    node.end(&second, "ack").await;
    assert_eq!(node.take_one().await["payload"], "a3");
}

#[tokio::test]
async fn a_delayed_message_is_seen_and_handed_out_when_its_time_has_come() {
    let node = node().await;
    let due = turnwise_api::Rfc3339(node.broker.now().0 + 300_000).to_string();
    let late = node.enqueue(json!({ "payload": "late", "deliver_at": due })).await;
    let far = node.enqueue(json!({ "payload": "far", "deliver_at": "2027-11-22T00:00:00Z" })).await;
    let past = node.enqueue(json!({ "payload": "past", "deliver_at": "2020-01-01T00:00:00Z" })).await;
    let scheduled = node.ask("GET", "/jobs/messages?stage=scheduled", &Value::Null).await;
    let seen = super::ids(&scheduled.json()["items"]);
    assert!(seen.contains(&far) && !seen.contains(&past), "{seen:?}");
    assert_eq!(node.message(&far).await["not_before"], "2027-11-22T00:00:00.000Z");
    let mut got = Vec::new();
    for _ in 0..2 {
        let delivery = node.take_one().await;
        if delivery["payload"] == "late" {
            // The lease of 30 seconds began no earlier than the message was due.
            let begun = micros(&delivery["lease_expires_at"]) - 30_000_000;
            assert!(begun >= micros(&json!(due)), "{delivery} before {due}");
        }
        got.push(delivery["message_id"].as_str().unwrap().to_owned());
    }
    got.sort();
    let mut expected = [late, past];
    expected.sort();
    assert_eq!(got, expected);
    assert_eq!(node.depth().await, [0, 1, 2, 0]);
}

/// Flaw 21: one message's time was everybody's.
#[tokio::test]
async fn a_message_past_its_time_is_never_handed_out_and_takes_no_neighbour_along() {
    let node = node().await;
    assert_eq!(node.ask("POST", "/jobs/pause", &Value::Null).await.json()["paused"], true);
    node.enqueue(json!({ "payload": "kept", "ordering_key": "k" })).await;
    let short = node.enqueue(json!({ "payload": "short", "ordering_key": "k", "ttl_seconds": 0.001 })).await;
    let mut more = 0;
    // What only time brings is counted by the next operation.
    while node.jobs().await["totals"]["expired"] == 0 {
        node.enqueue(json!({ "payload": "more", "ordering_key": "k", "ttl_seconds": 3600 })).await;
        more += 1;
    }
    assert_eq!(node.ask("POST", "/jobs/resume", &Value::Null).await.json()["paused"], false);
    for expected in std::iter::once("kept").chain(std::iter::repeat_n("more", more)) {
        let delivery = node.take_one().await;
        assert_eq!(delivery["payload"], expected);
        node.end(&delivery, "ack").await;
    }
    assert_eq!(node.depth().await, [0; 4]);
    let gone = node.ask("GET", &format!("/jobs/messages/{short}"), &Value::Null).await;
    gone.assert_problem(404, "not_found");
}

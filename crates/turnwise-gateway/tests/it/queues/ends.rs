//! How messages are given up: retries, attempts, dead letters.

use super::{ids, micros, node};
use serde_json::{Value, json};

/// Flaw 19: attempts were forgotten, and a message that cannot be done came for ever.
#[tokio::test]
async fn attempts_are_counted_and_the_last_makes_a_dead_letter_that_says_why() {
    let node = node().await;
    let id = node.enqueue(json!({ "payload": "poison", "max_attempts": 3 })).await;
    for attempt in 1..=3 {
        let delivery = node.take_one().await;
        assert_eq!((&delivery["message_id"], &delivery["attempt"]), (&json!(id), &json!(attempt)));
        let reason = format!("no luck {attempt}");
        let retry = json!({ "receipt": delivery["receipt"], "outcome": "retry", "delay_seconds": 0, "reason": reason });
        assert_eq!(node.settle(&[retry]).await, ["done"]);
    }
    assert_eq!(node.depth().await, [0, 0, 0, 1]);
    let dead = node.message(&id).await;
    assert_eq!((&dead["stage"], &dead["attempts"]), (&json!("dead"), &json!(3)));
    assert!(dead["reason"].as_str().unwrap().contains("no luck 3"), "{dead}");
    assert_eq!(
        (&dead["first_error"]["reason"], &dead["first_error"]["attempt"]),
        (&json!("no luck 1"), &json!(1))
    );
    assert_eq!(
        (&dead["last_error"]["reason"], &dead["last_error"]["attempt"]),
        (&json!("no luck 3"), &json!(3))
    );
    assert_eq!(dead["payload"], "poison");
    let listed = node.ask("GET", "/jobs/messages?stage=dead", &Value::Null).await.json();
    assert_eq!(ids(&listed["items"]), [id]);
    assert_eq!(node.take(json!({ "limit": 100 })).await, Vec::<Value>::new());
}

#[tokio::test]
async fn workers_that_never_answer_use_up_the_attempts_too() {
    let node = node().await;
    let id = node.enqueue(json!({ "payload": 1, "max_attempts": 2 })).await;
    for attempt in 1..=2 {
        let found = node.take(json!({ "lease_seconds": 0.05, "wait_seconds": 20 })).await;
        assert_eq!(found[0]["attempt"], attempt);
    }
    // The next that asks notices; it gets nothing.
    while node.depth().await[3] == 0 {
        assert_eq!(node.take(json!({ "wait_seconds": 0.05 })).await, Vec::<Value>::new());
    }
    let dead = node.message(&id).await;
    assert!(dead["reason"].as_str().unwrap().contains("attempts used up"), "{dead}");
    assert_eq!(dead["first_error"], Value::Null);
}

#[tokio::test]
async fn a_message_that_cannot_be_done_is_given_up_at_once_and_its_key_goes_on() {
    let node = node().await;
    let items = [json!({ "payload": 1, "ordering_key": "k" }), json!({ "payload": 2, "ordering_key": "k" })];
    let sent = node.enqueue_all(&items).await;
    let delivery = node.take_one().await;
    let dead = json!({ "receipt": delivery["receipt"], "outcome": "dead", "reason": "not JSON for us" });
    assert_eq!(node.settle(&[dead]).await, ["done"]);
    assert_eq!(node.take_one().await["message_id"], sent[1].as_str());
    let letter = node.message(&sent[0]).await;
    assert_eq!((&letter["stage"], &letter["reason"]), (&json!("dead"), &json!("not JSON for us")));
    assert_eq!(letter["last_error"]["reason"], "not JSON for us");
}

#[tokio::test]
async fn without_a_delay_the_policy_says_how_long_a_retry_waits() {
    let node = node().await;
    let policy = json!({ "retry_base_seconds": 1000, "retry_factor": 3, "retry_cap_seconds": 5000 });
    assert_eq!(node.ask("PUT", "/jobs/policy", &policy).await.status, 200);
    for (before, expected) in [(0, 1_000.0), (1, 3_000.0), (2, 5_000.0), (5, 5_000.0)] {
        let id = node.enqueue(json!({ "payload": before })).await;
        for _ in 0..before {
            let delivery = node.take_one().await;
            let at_once = json!({ "receipt": delivery["receipt"], "outcome": "retry", "delay_seconds": 0 });
            assert_eq!(node.settle(&[at_once]).await, ["done"]);
        }
        let delivery = node.take_one().await;
        let begun = micros(&delivery["lease_expires_at"]) - 30_000_000;
        let retry = json!({ "receipt": delivery["receipt"], "outcome": "retry" });
        assert_eq!(node.settle(&[retry]).await, ["done"]);
        let seen = node.message(&id).await;
        let waits = (micros(&seen["not_before"]) - begun) as f64 / 1e6;
        // A fifth more or less, and what passed between claim and settle.
        assert!(waits >= expected * 0.79 && waits <= expected * 1.21 + 60.0, "{waits} for {expected}");
        assert_eq!((&seen["stage"], &seen["reason"]), (&json!("ready"), &json!("no reason was given")));
        assert_eq!(node.take(json!({ "limit": 100 })).await, Vec::<Value>::new());
    }
}

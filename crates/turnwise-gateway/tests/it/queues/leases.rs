//! Leases: what is out, what is lost, what comes back.

use super::{micros, node};
use serde_json::{Value, json};

/// Flaws 17 and 22: what was handed out came again on every reconnect, or never, by the age of the message.
#[tokio::test]
async fn a_lease_that_runs_out_brings_the_message_back_and_its_receipt_is_lost() {
    let node = node().await;
    let id = node.enqueue(json!({ "payload": 1 })).await;
    let first = node.take(json!({ "lease_seconds": 0.05 })).await.remove(0);
    let second = node.take_one().await;
    assert_eq!((&second["message_id"], &second["attempt"]), (&json!(id), &json!(2)));
    assert!(micros(&second["lease_expires_at"]) - 30_000_000 + 1_000 >= micros(&first["lease_expires_at"]));
    for outcome in ["ack", "retry", "release", "dead"] {
        let item = json!({ "receipt": first["receipt"], "outcome": outcome });
        node.ask("POST", "/jobs/settle", &item).await.assert_problem(409, "lease_lost");
        assert_eq!(node.settle(&[item]).await, ["lease_lost"]);
    }
    let extend = json!({ "receipt": first["receipt"] });
    node.ask("POST", "/jobs/extend", &extend).await.assert_problem(409, "lease_lost");
    assert_eq!(node.depth().await, [0, 0, 1, 0], "too late changes nothing");
    node.end(&second, "ack").await;
    let again = json!({ "receipt": second["receipt"], "outcome": "ack" });
    assert_eq!(node.settle(&[again]).await, ["lease_lost"]);
    assert_eq!(node.depth().await, [0; 4]);
}

/// Flaw 17, the other way round: while it is held nobody else gets it, however often they ask.
#[tokio::test]
async fn what_is_held_is_not_handed_out_again() {
    let node = node().await;
    node.enqueue_all(&vec![json!({ "payload": 1 }); 5]).await;
    let held = node.take(json!({ "limit": 100 })).await;
    assert_eq!(held.len(), 5);
    for _ in 0..20 {
        assert_eq!(node.take(json!({ "limit": 100 })).await, Vec::<Value>::new());
    }
    let receipts: std::collections::HashSet<_> = held.iter().map(|one| one["receipt"].to_string()).collect();
    assert_eq!(receipts.len(), 5);
}

#[tokio::test]
async fn a_lease_that_is_extended_goes_on_and_each_of_a_batch_is_told() {
    let node = node().await;
    node.enqueue_all(&[json!({ "payload": 1 }), json!({ "payload": 2 })]).await;
    let held = node.take(json!({ "limit": 2, "lease_seconds": 60 })).await;
    let extend = json!({ "receipt": held[0]["receipt"], "lease_seconds": 600 });
    let one = node.ask("POST", "/jobs/extend", &extend).await.json();
    assert_eq!((&one["status"], &one["message_id"]), (&json!("extended"), &held[0]["message_id"]));
    assert!(micros(&one["lease_expires_at"]) > micros(&held[0]["lease_expires_at"]));
    node.end(&held[1], "ack").await;
    let items = json!([{ "receipt": held[0]["receipt"] }, { "receipt": held[1]["receipt"] }]);
    let batch =
        node.ask("POST", "/jobs/extend", &json!({ "items": items, "lease_seconds": 1200 })).await.json();
    let states: Vec<&Value> = (0..2).map(|at| &batch["results"][at]["status"]).collect();
    assert_eq!(states, ["extended", "lease_lost"]);
    let seen = node.message(held[0]["message_id"].as_str().unwrap()).await;
    assert_eq!(seen["lease_expires_at"], batch["results"][0]["lease_expires_at"]);
    assert_eq!(seen["stage"], "leased");
}

#[tokio::test]
async fn a_release_gives_the_attempt_back_and_keeps_the_place() {
    let node = node().await;
    let ids = node.enqueue_all(&[json!({ "payload": 1, "max_attempts": 1 }), json!({ "payload": 2 })]).await;
    for _ in 0..5 {
        let delivery = node.take_one().await;
        assert_eq!((&delivery["message_id"], &delivery["attempt"]), (&json!(ids[0]), &json!(1)));
        node.end(&delivery, "release").await;
    }
    assert_eq!(node.depth().await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn the_same_receipt_twice_in_a_batch_counts_once() {
    let node = node().await;
    node.enqueue(json!({ "payload": 1 })).await;
    let delivery = node.take_one().await;
    let ack = json!({ "receipt": delivery["receipt"], "outcome": "ack" });
    assert_eq!(node.settle(&[ack.clone(), ack]).await, ["done", "lease_lost"]);
    assert_eq!(node.jobs().await["totals"]["acked"], 1);
}

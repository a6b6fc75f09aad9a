//! What operators do: look, put back, remove, purge.

use super::{ids, node};
use serde_json::{Value, json};

async fn redriven(node: &crate::node::Node, body: Value) -> Value {
    let reply = node.ask("POST", "/jobs/redrive", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn dead_letters_are_put_back_by_id_all_or_filtered_and_counted_before() {
    let node = node().await;
    let first = node.dead(json!({ "payload": 1 }), "the disk is full").await;
    let second = node.dead(json!({ "payload": 2 }), "the mail server is away").await;
    let third = node.dead(json!({ "payload": 3 }), "the mail server is slow").await;
    let waiting = node.enqueue(json!({ "payload": 4, "delay_seconds": 3600 })).await;
    let count = |count: u64, dry_run: bool| json!({ "redriven": count, "more": false, "dry_run": dry_run });
    for (body, expected) in [
        (json!({ "all": true, "dry_run": true }), 3),
        (json!({ "filter": {}, "dry_run": true }), 3),
        (json!({ "filter": { "reason_contains": "mail server" }, "dry_run": true }), 2),
        (json!({ "filter": { "enqueued_before": "2020-01-01T00:00:00Z" }, "dry_run": true }), 0),
        (json!({ "filter": { "enqueued_from": "2020-01-01T00:00:00Z" }, "dry_run": true }), 3),
        (json!({ "ids": [first, waiting, "no-id"], "dry_run": true }), 1),
    ] {
        assert_eq!(redriven(&node, body.clone()).await, count(expected, true), "{body}");
    }
    assert_eq!(node.depth().await, [0, 1, 0, 3], "nothing was done");
    let from = node.message(&second).await["enqueued_at"].clone();
    let filter = json!({ "reason_contains": "mail", "enqueued_from": from, "enqueued_before": "2999-01-01T00:00:00Z" });
    assert_eq!(redriven(&node, json!({ "filter": filter })).await, count(2, false));
    let mut back = Vec::new();
    for _ in 0..2 {
        let delivery = node.take_one().await;
        assert_eq!(delivery["attempt"], 1, "attempts begin anew");
        back.push(delivery["message_id"].as_str().unwrap().to_owned());
        node.end(&delivery, "ack").await;
    }
    assert_eq!(back, [second, third]);
    assert_eq!(redriven(&node, json!({ "ids": [first, first] })).await, count(1, false));
    assert_eq!(redriven(&node, json!({ "all": true })).await, count(0, false));
    assert_eq!(node.depth().await, [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_redriven_message_takes_the_tail_of_its_key() {
    let node = node().await;
    let of = |n: u32| json!({ "payload": n, "ordering_key": "k" });
    let dead = node.dead(of(1), "x").await;
    node.enqueue_all(&[of(2), of(3)]).await;
    redriven(&node, json!({ "ids": [dead] })).await;
    for expected in [2, 3, 1] {
        let delivery = node.take_one().await;
        assert_eq!(delivery["payload"], expected);
        node.end(&delivery, "ack").await;
    }
}

#[tokio::test]
async fn many_dead_letters_are_put_back_page_by_page() {
    let node = node().await;
    let items: Vec<Value> = (0..150).map(|n| json!({ "payload": n, "max_attempts": 1 })).collect();
    node.enqueue_all(&items).await;
    for _ in 0..2 {
        let held = node.take(json!({ "limit": 100 })).await;
        let dead = |one: &Value| json!({ "receipt": one["receipt"], "outcome": "retry", "reason": "no" });
        let ends: Vec<Value> = held.iter().map(dead).collect();
        assert!(node.settle(&ends).await.iter().all(|state| state == "done"));
    }
    assert_eq!(node.depth().await, [0, 0, 0, 150]);
    assert_eq!(redriven(&node, json!({ "all": true })).await["redriven"], 150);
    assert_eq!(node.depth().await, [150, 0, 0, 0]);
}

#[tokio::test]
async fn a_purge_takes_a_stage_and_leaves_what_is_in_hands() {
    let node = node().await;
    node.dead(json!({ "payload": 0 }), "x").await;
    let held = node.enqueue(json!({ "payload": "held" })).await;
    assert_eq!(node.take_one().await["message_id"], held.as_str());
    node.enqueue_all(&vec![json!({ "payload": 1 }); 120]).await;
    node.enqueue(json!({ "payload": 2, "delay_seconds": 3600 })).await;
    let purge = async |stage: &str, dry_run: bool| {
        let body = json!({ "stage": stage, "dry_run": dry_run });
        node.ask("POST", "/jobs/purge", &body).await.json()["removed"].as_u64().unwrap()
    };
    assert_eq!(purge("all", true).await, 122);
    assert_eq!(node.depth().await, [120, 1, 1, 1]);
    assert_eq!(purge("ready", false).await, 120);
    assert_eq!(node.depth().await, [0, 1, 1, 1]);
    assert_eq!(purge("dead", false).await, 1);
    assert_eq!(purge("all", false).await, 1);
    assert_eq!(node.depth().await, [0, 0, 1, 0]);
    assert_eq!(node.jobs().await["totals"]["removed"], 122);
}

#[tokio::test]
async fn a_message_is_removed_unless_it_is_in_hands() {
    let node = node().await;
    let id = node.enqueue(json!({ "payload": 1 })).await;
    let path = format!("/jobs/messages/{id}");
    let delivery = node.take_one().await;
    let held = node.ask("DELETE", &path, &Value::Null).await;
    held.assert_problem(409, "message_leased");
    node.end(&delivery, "release").await;
    let removed = node.ask("DELETE", &path, &Value::Null).await;
    assert_eq!(removed.json(), json!({ "removed": 1, "more": false, "dry_run": false }));
    for method in ["GET", "DELETE"] {
        node.ask(method, &path, &Value::Null).await.assert_problem(404, "not_found");
    }
    assert_eq!(node.depth().await, [0; 4]);
}

/// Flaw 30: the second page was always empty.
#[tokio::test]
async fn pages_of_messages_are_whole_also_while_more_come() {
    let node = node().await;
    let sent = node.enqueue_all(&vec![json!({ "payload": 1 }); 7]).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/jobs/messages?stage=ready&limit=2{after}");
        let page = node.ask("GET", &path, &Value::Null).await.json();
        let found = ids(&page["items"]);
        assert!((1..=2).contains(&found.len()), "{page}");
        seen.extend(found);
        if seen.len() == 4 {
            node.enqueue(json!({ "payload": "later", "priority": 9 })).await;
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen[..7], sent);
    assert_eq!(seen.len(), 8);
    let listed = node.ask("GET", "/jobs/messages", &Value::Null).await.json();
    assert_eq!(listed["items"][0]["payload_bytes"], 1);
    assert_eq!(listed["items"][0].get("payload"), None);
}

#[tokio::test]
async fn queues_are_listed_by_name_and_page_by_page() {
    let node = node().await;
    for name in ["b", "a", "d.x", "c"] {
        let sent = node.ask("POST", &format!("/{name}/messages"), &json!({ "payload": 1 })).await;
        assert_eq!(sent.status, 201);
    }
    node.ask("POST", "/empty/pause", &Value::Null).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.ask("GET", &format!("?limit=2{after}"), &Value::Null).await.json();
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["org_id"], "o");
            seen.push(item["queue"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["a", "b", "c", "d.x", "empty"]);
    let others = node.ask_as("p", "GET", "", &Value::Null).await.json();
    assert_eq!(others, json!({ "items": [], "next": null }));
}

#[tokio::test]
async fn dead_letters_go_back_at_a_rate_if_one_is_asked_for() {
    let node = node().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(node.dead(json!({ "payload": number }), "no").await);
    }
    let begun = std::time::Instant::now();
    let paced = json!({ "ids": ids, "rate_per_second": 5 });
    assert_eq!(redriven(&node, paced).await, json!({ "redriven": 5, "more": false, "dry_run": false }));
    assert!(begun.elapsed() >= std::time::Duration::from_millis(800), "{:?}", begun.elapsed());
    assert_eq!(node.depth().await, [5, 0, 0, 0]);
}

#[tokio::test]
async fn a_redrive_at_a_rate_ends_when_the_node_stops_and_says_that_there_is_more() {
    let node = node().await;
    for number in 0..3 {
        node.dead(json!({ "payload": number }), "no").await;
    }
    let slow = json!({ "all": true, "rate_per_second": 0.01 });
    let (done, ()) = tokio::join!(redriven(&node, slow), async {
        while node.depth().await[0] == 0 {
            tokio::task::yield_now().await;
        }
        node.drain.begin();
    });
    assert_eq!(done, json!({ "redriven": 1, "more": true, "dry_run": false }));
}

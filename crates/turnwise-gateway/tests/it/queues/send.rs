//! Storing messages: alone, in batches, again.

use super::{ids, node, node_of, payloads};
use crate::client::with_json;
use serde_json::{Value, json};
use turnwise_broker::BrokerConfig;

#[tokio::test]
async fn a_message_is_stored_handed_out_as_it_came_and_gone_once_acked() {
    let node = node().await;
    let payload = json!({ "to": "alice", "n": [1, 2.5, null, true], "ü": "\u{1f600}" });
    let message = json!({ "payload": payload, "ordering_key": "k", "priority": 9, "headers": { "a": "b" } });
    let reply = node.ask("POST", "/jobs/messages", &message).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["message_id"].as_str().unwrap().to_owned();
    assert_eq!(reply.json(), json!({ "message_id": id, "duplicate": false, "position": 1 }));
    assert_eq!(node.depth().await, [1, 0, 0, 0]);
    let found = node.take(json!({})).await;
    assert_eq!(found.len(), 1);
    let expected = json!({
        "message_id": id, "receipt": found[0]["receipt"], "attempt": 1, "ordering_key": "k", "priority": 9,
        "headers": { "a": "b" }, "payload": payload, "enqueued_at": found[0]["enqueued_at"],
        "lease_expires_at": found[0]["lease_expires_at"],
    });
    assert_eq!(found[0], expected);
    assert_eq!(node.depth().await, [0, 0, 1, 0]);
    assert_eq!(node.take(json!({ "limit": 100 })).await, Vec::<Value>::new());
    node.end(&found[0], "ack").await;
    let jobs = node.jobs().await;
    assert_eq!(jobs["depth"], json!({ "ready": 0, "scheduled": 0, "leased": 0, "dead": 0 }));
    assert_eq!(jobs["totals"], json!({ "enqueued": 1, "acked": 1, "removed": 0, "expired": 0 }));
    let gone = node.ask("GET", &format!("/jobs/messages/{id}"), &Value::Null).await;
    gone.assert_problem(404, "not_found");
}

#[tokio::test]
async fn payloads_of_every_kind_come_back_as_they_were() {
    let node = node().await;
    let all =
        [json!(null), json!(0), json!(-1.5), json!("text"), json!([]), json!({}), json!({ "payload": 1 })];
    let items: Vec<Value> = all.iter().map(|payload| json!({ "payload": payload })).collect();
    node.enqueue_all(&items).await;
    assert_eq!(payloads(&node.take(json!({ "limit": 100 })).await), all);
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_a_single_one_as_one() {
    let node = node().await;
    let items: Vec<Value> = (0..1_000).map(|n| json!({ "payload": n, "ordering_key": "k" })).collect();
    let sent = node.enqueue_all(&items).await;
    let mut got = Vec::new();
    // One at a time of one key: the whole way through it is the order of the batch.
    for _ in 0..20 {
        let found = node.take(json!({ "limit": 100 })).await;
        assert_eq!(found.len(), 1);
        node.end(&found[0], "ack").await;
        got.push(found[0]["message_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(got, sent[..20]);
    let one = node.ask("POST", "/jobs/messages", &json!({ "items": [{ "payload": 1 }] })).await;
    assert_eq!(ids(&one.json()["results"]).len(), 1);
}

#[tokio::test]
async fn the_same_dedup_key_is_the_same_message_and_with_other_content_a_conflict() {
    let node = node().await;
    let message = json!({ "payload": { "n": 1 }, "dedup_key": "m-1", "delay_seconds": 0 });
    let id = node.enqueue(message.clone()).await;
    let again = node.ask("POST", "/jobs/messages", &message).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), json!({ "message_id": id, "duplicate": true, "position": null }));
    for other in [
        json!({ "payload": { "n": 2 }, "dedup_key": "m-1", "delay_seconds": 0 }),
        json!({ "payload": { "n": 1 }, "dedup_key": "m-1", "delay_seconds": 0, "priority": 9 }),
        json!({ "payload": { "n": 1 }, "dedup_key": "m-1", "delay_seconds": 0, "ordering_key": "k" }),
    ] {
        let reply = node.ask("POST", "/jobs/messages", &other).await;
        reply.assert_problem(422, "idempotency_conflict");
        assert_eq!(reply.json()["message_id"], id.as_str());
    }
    // In a batch it concerns its item alone.
    let items = json!([{ "payload": 3, "dedup_key": "m-1" }, { "payload": 3, "dedup_key": "m-3" }]);
    let reply = node.ask("POST", "/jobs/messages", &json!({ "items": items })).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.json()["results"][0]["error"]["code"], "idempotency_conflict");
    assert_eq!(reply.json()["results"][0]["message_id"], Value::Null);
    assert_eq!(reply.json()["results"][1]["error"], Value::Null);
    assert_eq!(node.depth().await, [2, 0, 0, 0]);
    // Also once the message is done.
    for delivery in node.take(json!({ "limit": 100 })).await {
        node.end(&delivery, "ack").await;
    }
    let late = node.ask("POST", "/jobs/messages", &message).await;
    assert_eq!((late.status, &late.json()["message_id"]), (200, &json!(id)));
    assert_eq!(node.depth().await, [0; 4]);
    // Another queue's keys are its own.
    let other = node.ask("POST", "/other/messages", &message).await;
    assert_eq!((other.status, &other.json()["duplicate"]), (201, &json!(false)));
}

#[tokio::test]
async fn a_repeated_request_with_an_idempotency_key_stores_nothing_twice() {
    let node = node().await;
    let send = async |key: &str, body: &Value| {
        let call = with_json("POST", "/api/v1/queues/jobs/messages", &body.to_string());
        node.send(&call.header("X-API-Key", "secret-o").header("Idempotency-Key", key)).await
    };
    let batch =
        json!({ "items": [{ "payload": 1 }, { "payload": 1 }, { "payload": 2, "dedup_key": "own" }] });
    let first = send("batch-1", &batch).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = send("batch-1", &batch).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(ids(&again.json()["results"]), ids(&first.json()["results"]));
    assert_eq!(node.depth().await, [3, 0, 0, 0], "equal items of one batch are two messages");
    let one = json!({ "payload": 7 });
    let id = send("one-1", &one).await.json()["message_id"].clone();
    let by_field = node.ask("POST", "/jobs/messages", &json!({ "payload": 7, "dedup_key": "one-1" })).await;
    assert_eq!((by_field.status, &by_field.json()["message_id"]), (200, &id));
    send("one-1", &json!({ "payload": 8 })).await.assert_problem(422, "idempotency_conflict");
    send("a", &json!({ "payload": 7, "dedup_key": "b" })).await.assert_problem(422, "invalid_content");
    send(&"k".repeat(257), &one).await.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn a_trace_goes_on_with_the_message() {
    let node = node().await;
    let place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = with_json("POST", "/api/v1/queues/jobs/messages", r#"{"payload":1,"headers":{"a":"b"}}"#);
    let reply = node.send(&call.header("X-API-Key", "secret-o").header("traceparent", place)).await;
    assert_eq!(reply.status, 201);
    let delivery = node.take_one().await;
    let told = delivery["headers"]["traceparent"].as_str().unwrap();
    assert_eq!((told.get(..35), &delivery["headers"]["a"]), (place.get(..35), &json!("b")));
}

#[tokio::test]
async fn beyond_the_limits_nothing_is_stored() {
    let config = BrokerConfig {
        queue_messages_max: 6,
        org_queue_messages_max: 4,
        org_queues_max: 2,
        ..BrokerConfig::default()
    };
    let node = node_of(config).await;
    let send = async |org: &str, queue: &str, count: usize| {
        let items = vec![json!({ "payload": 1 }); count];
        node.ask_as(org, "POST", &format!("/{queue}/messages"), &json!({ "items": items })).await
    };
    assert_eq!(send("o", "jobs", 2).await.status, 201);
    send("o", "jobs", 3).await.assert_problem(429, "queue_depth_exceeded");
    assert_eq!(node.depth().await, [2, 0, 0, 0]);
    assert_eq!(send("o", "mail", 1).await.status, 201);
    let third = send("o", "more", 1).await;
    third.assert_problem(429, "queue_depth_exceeded");
    assert_eq!(third.header("retry-after"), Some("5"));
    assert_eq!(send("p", "jobs", 3).await.status, 201, "another organisation has its own share");
    send("p", "jobs", 1).await.assert_problem(503, "overloaded");
    assert_eq!(node.depth().await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn a_node_that_stops_takes_and_hands_out_nothing_and_settles_what_is_out() {
    let node = node().await;
    node.enqueue_all(&[json!({ "payload": 1 }), json!({ "payload": 2 })]).await;
    let delivery = node.take_one().await;
    let waiting = node.start(
        with_json("POST", "/api/v1/queues/empty/claim", r#"{"wait_seconds":20}"#)
            .header("X-API-Key", "secret-o"),
    );
    node.until_waited_for(1.0).await;
    node.drain.begin();
    let ended = waiting.await.unwrap();
    assert_eq!((ended.status, ended.json()), (200, json!({ "deliveries": [] })));
    let send = node.ask("POST", "/jobs/messages", &json!({ "payload": 3 })).await;
    send.assert_problem(503, "draining");
    node.ask("POST", "/jobs/claim", &json!({})).await.assert_problem(503, "draining");
    node.end(&delivery, "ack").await;
    assert_eq!(node.depth().await, [1, 0, 0, 0]);
}

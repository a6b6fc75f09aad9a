//! Whatever is wrong is named at its place, and nothing of it is done.

use super::node;
use crate::client::with_json;
use crate::node::Node;
use serde_json::{Value, json};

const MESSAGES: &str = "/jobs/messages";

/// Refused with this code; the places that are named, sorted.
async fn refused(node: &Node, method: &str, path: &str, body: &Value, code: &str) -> Vec<String> {
    let reply = node.ask(method, path, body).await;
    let status = if code == "invalid_content" { 422 } else { 400 };
    reply.assert_problem(status, code);
    let json = reply.json();
    let errors = json["errors"].as_array().cloned().unwrap_or_default();
    let pointers = errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned());
    let mut named: Vec<String> = pointers.collect();
    named.sort();
    named
}

#[tokio::test]
async fn messages_that_break_a_rule_are_named_and_the_whole_batch_is_left() {
    let node = node().await;
    let at = async |message: Value, pointers: &[&str]| {
        let named = refused(&node, "POST", MESSAGES, &message, "invalid_content").await;
        assert_eq!(named, pointers, "{message}");
    };
    at(json!([]), &[""]).await;
    at(json!({}), &["/payload"]).await;
    at(json!({ "payload": 1, "body": 2 }), &["/body"]).await;
    for key in ["", "a\nb", &"k".repeat(257)] {
        at(json!({ "payload": 1, "ordering_key": key }), &["/ordering_key"]).await;
        at(json!({ "payload": 1, "dedup_key": key }), &["/dedup_key"]).await;
    }
    for priority in [json!(10), json!(-1), json!(1.5), json!("4"), json!([])] {
        at(json!({ "payload": 1, "priority": priority }), &["/priority"]).await;
    }
    for attempts in [json!(0), json!(1001), json!(true)] {
        at(json!({ "payload": 1, "max_attempts": attempts }), &["/max_attempts"]).await;
    }
    for seconds in [json!(-1), json!(31_622_401), json!("1")] {
        at(json!({ "payload": 1, "delay_seconds": seconds }), &["/delay_seconds"]).await;
        at(json!({ "payload": 1, "ttl_seconds": seconds }), &["/ttl_seconds"]).await;
    }
    for time in [json!("tomorrow"), json!("2026-13-01T00:00:00Z"), json!(7), json!("2999-01-01T00:00:00Z")] {
        at(json!({ "payload": 1, "deliver_at": time }), &["/deliver_at"]).await;
        at(json!({ "payload": 1, "expires_at": time }), &["/expires_at"]).await;
    }
    at(json!({ "payload": 1, "expires_at": "2020-01-01T00:00:00Z" }), &["/expires_at"]).await;
    at(json!({ "payload": 1, "delay_seconds": 60, "ttl_seconds": 60 }), &["/expires_at"]).await;
    let both = json!({ "payload": 1, "delay_seconds": 60, "deliver_at": "2026-12-01T00:00:00Z" });
    at(both, &["/deliver_at"]).await;
    for headers in
        [json!([]), json!({ "turnwise-ended": "x" }), json!({ "": "x" }), json!({ "a": "x".repeat(9_000) })]
    {
        at(json!({ "payload": 1, "headers": headers }), &["/headers"]).await;
    }
    at(json!({ "payload": 1, "headers": { "a": 1 } }), &["/headers/a"]).await;
    at(json!({ "payload": "x".repeat(1024 * 1024) }), &["/payload"]).await;
    let items = json!({ "items": [{ "payload": 1 }, { "payload": 2, "priority": 10 }, 3, {}] });
    at(items, &["/items/1/priority", "/items/2", "/items/3/payload"]).await;
    for items in [json!([]), json!({}), Value::Null, json!(vec![json!({ "payload": 1 }); 1_001])] {
        at(json!({ "items": items }), &["/items"]).await;
    }
    at(json!({ "items": [{ "payload": 1 }], "priority": 1 }), &["/priority"]).await;
    let many = json!({ "items": vec![json!({}); 1_000] });
    let named = refused(&node, "POST", MESSAGES, &many, "invalid_content").await;
    assert_eq!(named.len(), 20, "a thousand mistakes are told often enough");
    assert_eq!(node.jobs().await["totals"]["enqueued"], 0);
}

#[tokio::test]
async fn bodies_that_are_not_json_or_hold_what_no_reader_takes() {
    let node = node().await;
    let send = async |body: &str| {
        let call = with_json("POST", "/api/v1/queues/jobs/messages", body);
        node.send(&call.header("X-API-Key", "secret-o")).await
    };
    for body in ["", "{", "payload=1", r#"{"payload":1} x"#, r#"{"payload":NaN}"#] {
        send(body).await.assert_problem(400, "not_json");
    }
    let deep = format!(r#"{{"payload":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for body in [deep.as_str(), r#"{"payload":"\ud800"}"#, r#"{"payload":1e400}"#] {
        let reply = send(body).await;
        assert!([400, 422].contains(&reply.status), "{body:.40}: {}", reply.text());
    }
    let twice = send(r#"{"payload":1,"payload":2}"#).await;
    twice.assert_problem(422, "invalid_content");
    let plain = with_json("POST", "/api/v1/queues/jobs/messages", r#"{"payload":1}"#);
    let plain = plain.header("Content-Type", "text/plain").header("X-API-Key", "secret-o");
    node.send(&plain).await.assert_problem(415, "unsupported_media_type");
    assert_eq!(node.jobs().await["totals"]["enqueued"], 0);
}

#[tokio::test]
async fn names_of_queues_have_an_alphabet() {
    let node = node().await;
    for name in ["a%20b", "a%2Fb", "%C3%A9", "*", &"x".repeat(129), "a%0Ab", "%ff"] {
        for (method, path, body) in [
            ("POST", format!("/{name}/messages"), json!({ "payload": 1 })),
            ("POST", format!("/{name}/claim"), json!({})),
            ("GET", format!("/{name}"), Value::Null),
            ("PUT", format!("/{name}/policy"), json!({})),
        ] {
            let named = refused(&node, method, &path, &body, "invalid_content").await;
            assert_eq!(named, ["queue"], "{method} {path}");
        }
    }
    let listed = node.ask("GET", "", &Value::Null).await.json();
    assert_eq!(listed["items"], json!([]));
}

/// A body with these mistakes and no others.
async fn named(node: &Node, path: &str, body: &Value, pointers: &[&str]) {
    let method = if path.ends_with("policy") { "PUT" } else { "POST" };
    let named = refused(node, method, path, body, "invalid_content").await;
    assert_eq!(named, pointers, "{path} {body}");
}

#[tokio::test]
async fn claims_and_settlements_are_strict() {
    let node = node().await;
    node.enqueue(json!({ "payload": 1 })).await;
    let at = async |path: &str, body: Value, pointers: &[&str]| named(&node, path, &body, pointers).await;
    for (field, wrong) in [
        ("limit", [json!(0), json!(101), json!("1")]),
        ("lease_seconds", [json!(0), json!(43_201), json!(-1)]),
        ("wait_seconds", [json!(20.1), json!(-1), json!("1")]),
    ] {
        for value in wrong {
            at("/jobs/claim", json!({ field: value }), &[&format!("/{field}")]).await;
        }
    }
    at("/jobs/claim", json!({ "count": 1 }), &["/count"]).await;
    let delivery = node.take_one().await;
    let receipt = &delivery["receipt"];
    let settle = "/jobs/settle";
    at(settle, json!({}), &["/outcome", "/receipt"]).await;
    at(settle, json!({ "receipt": receipt }), &["/outcome"]).await;
    at(settle, json!({ "receipt": receipt, "outcome": "done" }), &["/outcome"]).await;
    at(settle, json!({ "receipt": "x", "outcome": "ack" }), &["/receipt"]).await;
    at(settle, json!({ "receipt": receipt, "outcome": "ack", "delay_seconds": 1 }), &["/delay_seconds"])
        .await;
    at(settle, json!({ "receipt": receipt, "outcome": "release", "reason": "x" }), &["/reason"]).await;
    at(settle, json!({ "receipt": receipt, "outcome": "dead", "reason": "x".repeat(1_025) }), &["/reason"])
        .await;
    let late = json!({ "receipt": receipt, "outcome": "retry", "delay_seconds": 2_592_001 });
    at(settle, late, &["/delay_seconds"]).await;
    // One item that is wrong leaves the others as they are.
    let items =
        json!({ "items": [{ "receipt": receipt, "outcome": "ack" }, { "receipt": "x", "outcome": "ack" }] });
    at(settle, items, &["/items/1/receipt"]).await;
    at(
        "/jobs/extend",
        json!({ "items": [{ "receipt": receipt, "lease_seconds": 1 }] }),
        &["/items/0/lease_seconds"],
    )
    .await;
    at("/jobs/extend", json!({ "receipt": receipt, "lease_seconds": 0 }), &["/lease_seconds"]).await;
    assert_eq!(node.depth().await, [0, 0, 1, 0], "nothing was done");
    node.end(&delivery, "ack").await;
}

#[tokio::test]
async fn what_operators_ask_is_strict() {
    let node = node().await;
    node.enqueue(json!({ "payload": 1 })).await;
    let at = async |path: &str, body: Value, pointers: &[&str]| named(&node, path, &body, pointers).await;
    for body in [
        json!({}),
        json!({ "all": false }),
        json!({ "all": true, "ids": [] }),
        json!({ "ids": [], "filter": {} }),
    ] {
        at("/jobs/redrive", body, &["/ids"]).await;
    }
    at("/jobs/redrive", json!({ "ids": [1] }), &["/ids"]).await;
    at("/jobs/redrive", json!({ "ids": vec!["x"; 1_001] }), &["/ids"]).await;
    at("/jobs/redrive", json!({ "filter": { "reason": "x" } }), &["/filter/reason"]).await;
    at("/jobs/redrive", json!({ "filter": { "enqueued_from": "x" } }), &["/filter/enqueued_from"]).await;
    at("/jobs/redrive", json!({ "all": true, "rate_per_second": 0 }), &["/rate_per_second"]).await;
    at("/jobs/purge", json!({}), &["/stage"]).await;
    at("/jobs/purge", json!({ "stage": "leased" }), &["/stage"]).await;
    for (field, wrong) in [
        ("retry_base_seconds", json!(-1)),
        ("retry_factor", json!(0.5)),
        ("retry_cap_seconds", json!(2_592_001)),
        ("retry_jitter", json!(1.1)),
        ("max_attempts", json!(0)),
        ("ttl_seconds", json!(0)),
        ("dead_seconds", json!(0)),
        ("concurrency", json!(0)),
    ] {
        at("/jobs/policy", json!({ field: wrong }), &[&format!("/{field}")]).await;
    }
    assert_eq!(node.depth().await, [1, 0, 0, 0], "nothing was done");
    for path in ["/jobs/messages?stage=gone", "/jobs/messages?limit=101", "?limit=0"] {
        let named = refused(&node, "GET", path, &Value::Null, "invalid_content").await;
        assert_eq!(named.len(), 1, "{path}");
    }
    for path in ["/jobs/messages?after=x", "?after=a%20b"] {
        refused(&node, "GET", path, &Value::Null, "bad_request").await;
    }
    node.ask("GET", "/jobs/messages/x", &Value::Null).await.assert_problem(404, "not_found");
}

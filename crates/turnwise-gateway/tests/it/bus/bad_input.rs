//! What breaks a rule is named, and nothing is stored.

use super::node;
use serde_json::{Value, json};

#[tokio::test]
async fn fields_that_break_a_rule_are_named() {
    let node = node().await;
    let with = |field: &str, value: Value| {
        let mut body = json!({ "from_agent": "boss", "content": 1 });
        body[field] = value;
        body
    };
    let long = "x".repeat(257);
    let big = json!("x".repeat(256 * 1024));
    for (field, bad) in [
        ("from_agent", json!("")),
        ("from_agent", json!("a\nb")),
        ("from_agent", json!(7)),
        ("from_agent", Value::Null),
        ("content", big),
        ("message_type", json!("question")),
        ("priority", json!(10)),
        ("delivery_mode", json!("twice")),
        ("ttl_seconds", json!(0)),
        ("ttl_seconds", json!(2_592_001)),
        ("max_attempts", json!(0)),
        ("max_attempts", json!(101)),
        ("dedup_key", json!(long)),
        ("correlation_id", json!("\u{0}")),
        ("in_reply_to", json!("msg_1")),
        ("metadata", json!([1])),
        ("metadata", json!({ "x": "y".repeat(8 * 1024) })),
        ("wait_seconds", json!(121)),
        ("exclude_agents", json!(["ann"])),
        ("to_agent", json!("ann")),
    ] {
        let reply = node.bus("POST", "/agents/ann/messages", &with(field, bad.clone())).await;
        reply.assert_problem(422, "invalid_content");
        assert_eq!(reply.json()["errors"][0]["pointer"], format!("/{field}"), "{}", reply.text());
    }
    for (field, bad) in [
        ("in_reply_to", json!("msg_00000000000000000000000000000000")),
        ("wait_seconds", json!(1)),
        ("exclude_agents", json!("ann")),
        ("exclude_agents", json!(vec!["a"; 101])),
        ("exclude_sender", json!("no")),
    ] {
        for path in ["/workspaces/w/broadcast", "/topics/t/messages"] {
            let reply = node.bus("POST", path, &with(field, bad.clone())).await;
            reply.assert_problem(422, "invalid_content");
            assert_eq!(reply.json()["errors"][0]["pointer"], format!("/{field}"), "{path} {}", reply.text());
        }
    }
    let mut notice = with("wait_seconds", json!(1));
    notice["message_type"] = json!("notification");
    node.bus("POST", "/agents/ann/messages", &notice).await.assert_problem(422, "invalid_content");
    for path in ["/agents/%0A/messages", "/workspaces/%0A/broadcast", "/topics/a%20b/messages"] {
        node.bus("POST", path, &with("priority", json!(1))).await.assert_problem(422, "invalid_content");
    }
    assert!(node.inbox("limit=10").await.is_empty());
    assert_eq!(node.bus("GET", "/agents", &Value::Null).await.json()["items"], json!([]));
}

#[tokio::test]
async fn parameters_and_receipts_that_break_a_rule_are_named() {
    let node = node().await;
    for query in ["limit=0", "limit=101", "limit=x", "lease_seconds=0", "wait_seconds=21", "wait_seconds=NaN"]
    {
        let reply = node.bus("GET", &format!("/agents/ann/inbox?{query}"), &Value::Null).await;
        reply.assert_problem(422, "invalid_content");
        let name = query.split('=').next().unwrap();
        assert_eq!(reply.json()["errors"][0]["pointer"], format!("?{name}"));
    }
    for path in ["/agents?limit=0", "/agents?after=%0A", "/agents?workspace_id=%0A"] {
        node.bus("GET", path, &Value::Null).await.assert_problem(422, "invalid_content");
    }
    for id in ["msg_1", "x", "00000000-0000-8000-8000-000000000000"] {
        node.bus("GET", &format!("/receipts/{id}"), &Value::Null).await.assert_problem(404, "not_found");
    }
    for item in [
        json!({}),
        json!({ "receipt": "x", "outcome": "ack" }),
        json!({ "receipt": "0".repeat(64), "outcome": "release" }),
        json!({ "receipt": "0".repeat(64), "outcome": "ack", "delay_seconds": 1 }),
        json!({ "receipt": "0".repeat(64), "outcome": "ack", "reason": "because" }),
        json!({ "receipt": "0".repeat(64), "outcome": "retry", "more": 1 }),
    ] {
        let reply = node.bus("POST", "/agents/ann/inbox/settle", &item).await;
        reply.assert_problem(422, "invalid_content");
    }
    let unknown = json!({ "receipt": "0".repeat(64), "outcome": "ack" });
    node.bus("POST", "/agents/ann/inbox/settle", &unknown).await.assert_problem(409, "lease_lost");
}

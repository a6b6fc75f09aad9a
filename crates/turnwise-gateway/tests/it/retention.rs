//! `/api/v1/topics/{topic}/retention`.

use crate::client::{Call, call, get};
use crate::node::node;
use crate::topics::say;
use serde_json::{Value, json};

fn set(topic: &str, body: &Value) -> Call {
    let body = body.to_string();
    let put = call("PUT", &format!("/api/v1/topics/{topic}/retention?org_id=o"));
    let put =
        put.header("Content-Type", "application/json").header("Content-Length", &body.len().to_string());
    put.wire_body(body.into_bytes())
}

#[tokio::test]
async fn what_is_said_is_kept_and_what_is_left_out_is_as_usual() {
    let node = node(|_| {}).await;
    let shown = async || node.send(&get("/api/v1/topics/t/retention?org_id=o")).await.json();
    let usual = shown().await;
    assert!(usual["max_age_seconds"].is_u64() && usual["max_events"].is_u64() && usual["max_bytes"].is_u64());
    let reply = node.send(&set("t", &json!({ "max_events": 10, "max_age_seconds": null }))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let expected = json!({ "max_age_seconds": null, "max_events": 10, "max_bytes": usual["max_bytes"] });
    assert_eq!((reply.json(), shown().await), (expected.clone(), expected));
    say(&node, "t", json!(1)).await;
    assert_eq!(node.send(&set("t", &json!({}))).await.json(), usual);
    assert_eq!(shown().await, usual);
    for (bad, pointer) in [
        (json!({ "max_events": 0 }), "/max_events"),
        (json!({ "max_bytes": 1_u64 << 60 }), "/max_bytes"),
        (json!({ "max_age_seconds": -1 }), ""),
        (json!({ "max_age": 1 }), ""),
        (json!([1]), ""),
    ] {
        let refused = node.send(&set("t", &bad)).await;
        refused.assert_problem(422, "invalid_content");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{bad}");
    }
    assert_eq!(shown().await, usual);
    let listed = node.send(&get("/api/v1/topics?org_id=o")).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "what was said is no topic of theirs: {listed}");
}

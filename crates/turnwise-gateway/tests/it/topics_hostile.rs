//! Names, types, patterns and bodies that no topic takes.

use crate::client::{get, post, post_to};
use crate::node::{answered, body, node};
use crate::subscribe::{next, subscribe};
use crate::topics::{events_of, publish, say};
use serde_json::{Value, json};

#[tokio::test]
async fn no_type_can_put_a_line_into_a_stream() {
    let node = node(|_| {}).await;
    let mut stream = subscribe(&node, "topics=t").await;
    for bad in [
        "",
        "gap",
        "a\nb",
        "a\rdata: forged",
        "x\n\nevent: gap\ndata: {}",
        "a b",
        "\u{0}",
        "é",
        &"x".repeat(121),
    ] {
        let refused = node.send(&publish("t", &json!({ "type": bad }))).await;
        refused.assert_problem(422, "invalid_content");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/type", "{bad:?}");
        let batch = json!({ "items": [{ "type": "fine" }, { "type": bad }] });
        let refused = node.send(&publish("t", &batch)).await;
        assert_eq!(refused.json()["errors"][0]["pointer"], "/items/1/type", "{bad:?}");
    }
    // Line breaks in data are data.
    let pretty = "{\n \"type\": \"fine\",\r\n \"data\":\n\n {\"a\":\n\"x\\n\\nevent: gap\"}\n}";
    assert_eq!(node.send(&post_to(&events_of("t"), pretty)).await.status, 201);
    say(&node, "t", json!("end")).await;
    let event = next(&mut stream).await;
    let seen: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((event.name.as_str(), &seen["data"]["a"]), ("fine", &json!("x\n\nevent: gap")));
    assert_eq!(next(&mut stream).await.name, "said", "nothing of the refused batches was stored");
}

#[tokio::test]
async fn what_is_no_topic_no_pattern_and_no_event_is_refused_by_name() {
    let node = node(|_| {}).await;
    let long = "x".repeat(129);
    for bad in ["a%20b", "a%2Fb", "%C3%A9", "*", "a.%3E", "a%0Ab", &long] {
        let refused = node.send(&publish(bad, &json!({ "type": "x" }))).await;
        refused.assert_problem(422, "invalid_content");
        node.send(&get(&events_of(bad))).await.assert_problem(422, "invalid_content");
    }
    let many = vec!["t"; 65].join(",");
    for bad in [
        "",
        "topics=",
        "topics=a,,b",
        "topics=a*",
        "topics=%3E.a",
        "topics=a%0Ab",
        &format!("topics={long}"),
        &format!("topics={many}"),
        "topics=t&after=1-2",
        "topics=t&after=x",
        "topics=t&after=1-2-3-4-5",
    ] {
        let refused = node.send(&get(&format!("/api/v1/subscribe?org_id=o&{bad}"))).await;
        refused.assert_problem(422, "invalid_content");
    }
    node.send(&get("/api/v1/subscribe?topics=t")).await.assert_problem(422, "invalid_content");
    let too_long = "x".repeat(1024 * 1024);
    for (bad, pointer) in [
        (json!({ "data": 1 }), ""),
        (json!({ "type": "x", "extra": 1 }), ""),
        (json!({ "items": [] }), "/items"),
        (json!({ "items": [{ "type": "x" }], "type": "x" }), ""),
        (json!([{ "type": "x" }]), ""),
        (json!({ "type": "x", "dedup_key": "" }), "/dedup_key"),
        (json!({ "type": "x", "data": too_long }), "/data"),
        (json!({ "items": vec![json!({ "type": "x" }); 1_001] }), "/items"),
    ] {
        let refused = node.send(&publish("t", &bad)).await;
        refused.assert_problem(422, "invalid_content");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
    }
    let nested = format!("{{\"type\":\"x\",\"data\":{}{}}}", "[".repeat(200), "]".repeat(200));
    node.send(&post_to(&events_of("t"), &nested)).await.assert_problem(400, "not_json");
    node.send(&post_to(&events_of("t"), "{")).await.assert_problem(400, "not_json");
    let media = publish("t", &json!({ "type": "x" })).header("Content-Type", "text/plain");
    node.send(&media).await.assert_problem(415, "unsupported_media_type");
    node.send(&get(&format!("{}&after=x", events_of("t")))).await.assert_problem(422, "invalid_content");
    node.send(&get(&format!("{}&limit=0", events_of("t")))).await.assert_problem(422, "invalid_content");
    assert_eq!(
        node.send(&get("/api/v1/topics?org_id=o")).await.json()["items"],
        json!([]),
        "nothing was stored"
    );
}

#[tokio::test]
async fn what_the_broker_keeps_for_itself_matches_no_pattern() {
    let node = node(|_| {}).await;
    let mut stream = subscribe(&node, "topics=%3E&after=earliest").await;
    let sent = node.start(post(&body("hello")));
    let turn = node.claim().await;
    node.finish(&turn, answered("hi")).await;
    assert_eq!(sent.await.unwrap().status, 200);
    say(&node, "public", json!(1)).await;
    let event = next(&mut stream).await;
    assert_eq!(
        (event.name.as_str(), event.data.contains("\"topic\":\"public\"")),
        ("said", true),
        "{event:?}"
    );
    let listed = node.send(&get("/api/v1/topics?org_id=o")).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
}

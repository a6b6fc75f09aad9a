//! Requests that wait for their answer (clause I5).

use super::{asked, message, node};
use serde_json::{Value, json};

#[tokio::test]
async fn i5_a_request_gets_its_own_answer() {
    let node = node().await;
    let ask = |content: &str| {
        let body = json!({ "from_agent": "boss", "content": content, "wait_seconds": 60 });
        node.start(asked("o", "POST", "/agents/ann/messages", &body))
    };
    let (one, two) = (ask("one"), ask("two"));
    let mut waiting = Vec::new();
    while waiting.len() < 2 {
        waiting.extend(node.inbox("limit=2&wait_seconds=20").await);
    }
    for delivery in waiting.iter().rev() {
        let content = delivery["content"].as_str().unwrap();
        let answer = json!({
            "from_agent": "ann", "content": { "to": content }, "in_reply_to": delivery["message_id"],
            "metadata": { "tokens": 3 },
        });
        let sent = node.bus_send("/agents/boss/messages", answer).await;
        assert_eq!(sent["state"], "delivered");
    }
    for (answer, expected) in [(one, "one"), (two, "two")] {
        let reply = answer.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        assert_eq!(json["reply"]["content"]["to"], expected);
        assert_eq!(
            (&json["reply"]["from_agent"], &json["reply"]["metadata"]["tokens"]),
            (&json!("ann"), &json!(3))
        );
    }
    // It went to who waited, and not into the inbox as well.
    let inbox = node.bus("GET", "/agents/boss/inbox?limit=10", &Value::Null).await.json();
    assert_eq!(inbox["deliveries"], json!([]));
}

#[tokio::test]
async fn i5_when_time_is_up_it_is_an_error_and_a_late_answer_is_an_ordinary_message() {
    let node = node().await;
    let body = json!({ "from_agent": "boss", "content": "?", "wait_seconds": 0.05 });
    let late = node.bus("POST", "/agents/ann/messages", &body).await;
    late.assert_problem(504, "reply_timeout");
    let request = node.next_of_ann().await;
    assert!(late.json()["detail"].as_str().unwrap().contains(request["message_id"].as_str().unwrap()));
    let answer = json!({ "from_agent": "ann", "content": "!", "in_reply_to": request["message_id"] });
    assert_eq!(node.bus_send("/agents/boss/messages", answer.clone()).await["queued"], 1);
    let inbox = node.bus("GET", "/agents/boss/inbox", &Value::Null).await.json();
    let found = &inbox["deliveries"][0];
    assert_eq!((&found["content"], &found["in_reply_to"]), (&json!("!"), &request["message_id"]));
    assert_eq!(found["message_type"], "response");
    // Nobody else may answer it, and it answers nobody else.
    for (from, to) in [("eve", "boss"), ("ann", "eve")] {
        let mut other = answer.clone();
        other["from_agent"] = json!(from);
        let refused = node.bus("POST", &format!("/agents/{to}/messages"), &other).await;
        refused.assert_problem(422, "invalid_content");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/in_reply_to");
    }
}

#[tokio::test]
async fn i5_a_request_that_nobody_can_answer_any_more_ends_at_once() {
    let node = node().await;
    let body = json!({ "from_agent": "boss", "content": "?", "wait_seconds": 60 });
    let waiting = node.start(asked("o", "POST", "/agents/ann/messages", &body));
    let request = node.next_of_ann().await;
    let dead = json!({ "receipt": request["receipt"], "outcome": "dead", "reason": "no" });
    assert_eq!(node.end_of_ann(&[dead]).await, ["done"]);
    waiting.await.unwrap().assert_problem(409, "request_unanswered");
    let body = json!({ "from_agent": "boss", "content": "?", "wait_seconds": 60, "delivery_mode": "pubsub" });
    node.bus("POST", "/agents/nobody/messages", &body).await.assert_problem(409, "request_unanswered");
}

#[tokio::test]
async fn a_request_whose_sender_does_not_wait_is_answered_into_its_inbox() {
    let node = node().await;
    let mut boss = node.link("boss").await;
    let id = node.say("?", json!({ "correlation_id": "c" })).await;
    let request = node.next_of_ann().await;
    assert_eq!((&request["message_id"], &request["correlation_id"]), (&json!(id), &json!("c")));
    let answer = json!({ "from_agent": "ann", "content": "!", "in_reply_to": id });
    node.bus_send("/agents/boss/messages", answer).await;
    let delivery = message(&mut boss).await;
    assert_eq!(delivery.message.in_reply_to.as_ref().map(ToString::to_string), Some(id));
}

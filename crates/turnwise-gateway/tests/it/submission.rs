//! Every row of the submission table.

use crate::client::{Reply, post};
use crate::node::{Node, answered, body, node, node_with};
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_broker::{BrokerConfig, TurnError, TurnOutcome};

/// One row: what is so, what the agent does, what comes back.
struct Row {
    agent: Option<bool>,
    async_default: bool,
    prefer: &'static str,
    busy: bool,
    outcome: Option<TurnOutcome>,
    status: u16,
    /// Keys of the answer and their values.
    shows: Value,
}

fn row(outcome: Option<TurnOutcome>, status: u16, shows: Value) -> Row {
    Row { agent: Some(true), async_default: false, prefer: "", busy: false, outcome, status, shows }
}

async fn check(row: Row) -> Reply {
    let node = node(|config| {
        let agent = row.agent;
        config.agent = std::sync::Arc::new(move || agent);
        config.async_default = row.async_default;
    })
    .await;
    let mut first = None;
    if row.busy {
        node.submit("first").await;
        first = Some(node.claim().await);
    }
    let reply = node.start(post(&body("hi")).header("Prefer", row.prefer));
    if let Some(outcome) = row.outcome {
        if let Some(first) = first {
            until(&node, |queue| queue["queue_length"] == 1).await;
            node.finish(&first, answered("1")).await;
        }
        let turn = node.claim().await;
        let sent: Value = serde_json::from_slice(&turn.request).unwrap();
        assert_eq!(
            sent,
            json!({"client_id":"web","user_id":"u","message":"hi","message_type":"text","org":"o"})
        );
        node.finish(&turn, outcome).await;
    }
    let reply = reply.await.unwrap();
    assert_eq!(reply.status, row.status, "{}", reply.text());
    let answer = reply.json();
    for (key, value) in row.shows.as_object().unwrap() {
        assert_eq!(&answer[key], value, "{key} in {answer}");
    }
    assert!(answer["message_id"].as_str().is_some_and(|id| id.len() == 36), "{answer}");
    if reply.status == 200 {
        let keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
        let mut all = [
            "status",
            "message_id",
            "queue_position",
            "responses",
            "response_language",
            "voice_audio_base64",
            "position",
            "expires_at",
        ];
        all.sort_unstable();
        assert_eq!(keys, all);
    }
    reply
}

/// Waits until the user's queue looks like this.
pub(crate) async fn until(node: &Node, wanted: impl Fn(&Value) -> bool) {
    while !wanted(&node.send(&crate::client::get("/api/v1/queue/u")).await.json()) {
        tokio::task::yield_now().await;
    }
}

fn failed(code: &str, status: u16) -> Option<TurnOutcome> {
    Some(TurnOutcome::Failed(TurnError::new(code, status, "as the test says")))
}

fn queued(position: u64) -> Value {
    json!({"status":"queued","queue_position":1,"position":position,"responses":null})
}

#[tokio::test]
async fn idle_is_processed_in_the_request() {
    let completed = json!({
        "status":"completed","queue_position":1,"position":null,
        "responses":["yes"],"response_language":"en","voice_audio_base64":null,
    });
    check(row(Some(answered("yes")), 200, completed)).await;
    let empty = Some(TurnOutcome::Completed { answer: None, unsaved: Vec::new() });
    check(row(empty, 200, json!({"status":"completed","responses":null}))).await;
}

#[tokio::test]
async fn a_failing_agent_has_its_status() {
    for (code, turn_status) in [
        ("agent_timeout", 504),
        ("agent_rejected", 418),
        ("agent_error", 502),
        ("agent_unreachable", 503),
        ("answer_interrupted", 502),
    ] {
        let reply = check(row(failed(code, turn_status), turn_status, json!({"code":code}))).await;
        reply.assert_problem(turn_status, code);
        assert_eq!(reply.header("retry-after"), None);
    }
    check(row(Some(TurnOutcome::Cancelled), 409, json!({"code":"cancelled"})))
        .await
        .assert_problem(409, "cancelled");
}

#[tokio::test]
async fn at_once_when_asked_or_set_or_without_an_agent() {
    let reply = check(Row { prefer: "respond-async", ..row(None, 200, queued(1)) }).await;
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    check(Row { async_default: true, ..row(None, 200, queued(1)) }).await;
    check(Row { agent: None, ..row(None, 200, queued(1)) }).await;
    check(Row { agent: None, prefer: "wait=5", ..row(None, 200, queued(1)) }).await;
    check(Row { prefer: "wait=0", ..row(None, 200, queued(1)) }).await;
}

#[tokio::test]
async fn busy_is_queued_or_waited_for() {
    check(Row { busy: true, ..row(None, 200, queued(2)) }).await;
    check(Row { busy: true, prefer: "respond-async", ..row(None, 200, queued(2)) }).await;
    check(Row { busy: true, prefer: "wait=1", ..row(None, 200, queued(2)) }).await;
    let completed = json!({"status":"completed","responses":["2"]});
    let reply =
        check(Row { busy: true, prefer: "wait=60", ..row(Some(answered("2")), 200, completed.clone()) })
            .await;
    assert_eq!(reply.header("preference-applied"), Some("wait=60"));
    check(Row { async_default: true, prefer: "wait=60", ..row(Some(answered("2")), 200, completed) }).await;
}

#[tokio::test]
async fn positions_count_with_and_without_the_one_in_progress() {
    let node = node(|_| {}).await;
    let place = async |node: &Node| {
        let answer = node.send(&post(&body("x")).header("Prefer", "respond-async")).await.json();
        (answer["queue_position"].as_u64().unwrap(), answer["position"].as_u64().unwrap())
    };
    assert_eq!(place(&node).await, (1, 1));
    assert_eq!(place(&node).await, (2, 2));
    let turn = node.claim().await;
    assert_eq!(place(&node).await, (2, 3));
    node.finish(&turn, answered("1")).await;
    assert_eq!(place(&node).await, (3, 3));
}

#[tokio::test]
async fn a_full_conversation_is_refused() {
    let broker = BrokerConfig { depth_max: 2, ..BrokerConfig::default() };
    let node = node_with(broker, |_| {}).await;
    node.submit("1").await;
    node.submit("2").await;
    let reply = node.send(&post(&body("3"))).await;
    reply.assert_problem(429, "queue_depth_exceeded");
    assert_eq!(reply.header("retry-after"), Some("5"));
}

#[tokio::test]
async fn a_repeat_is_the_same_turn_in_its_present_state() {
    let node = node(|_| {}).await;
    let once = r#"{"user_id":"u","org_id":"o","client_id":"web","message":"hi","client_message_id":"m"}"#;
    let sent = post(once).header("Prefer", "respond-async");
    let first = node.send(&sent).await.json();
    assert_eq!(first["status"], "queued");
    assert_eq!(node.send(&sent).await.json()["message_id"], first["message_id"]);
    let turn = node.claim().await;
    assert_eq!(node.send(&sent).await.json()["status"], "processing");
    let waiting = node.start(post(once));
    node.finish(&turn, answered("yes")).await;
    assert_eq!(waiting.await.unwrap().json()["responses"], json!(["yes"]));
    let again = node.send(&sent).await.json();
    assert_eq!((&again["status"], &again["message_id"]), (&json!("completed"), &first["message_id"]));
    node.send(&post(&once.replace("hi", "other"))).await.assert_problem(422, "idempotency_conflict");
    let by_header = post(&body("hi")).header("Idempotency-Key", "m").header("Prefer", "respond-async");
    assert_eq!(node.send(&by_header).await.json()["message_id"], first["message_id"]);
}

#[tokio::test]
async fn a_client_that_leaves_changes_nothing() {
    let node = node(|_| {}).await;
    post(&body("hi")).abandon(node.address).await;
    let turn = node.claim().await;
    node.finish(&turn, answered("kept")).await;
    let path = format!("/api/v1/message/{}", turn.id);
    let view = node.send(&crate::client::get(&path)).await.json();
    assert_eq!((&view["status"], &view["answer"]["responses"]), (&json!("completed"), &json!(["kept"])));
}

#[tokio::test]
async fn groups_queue_by_chat_and_users_by_org() {
    let node = node(|_| {}).await;
    let group = |user: &str, chat: &str| {
        format!(
            r#"{{"user_id":"{user}","org":"o","client_id":"web","message":"x","chat_type":"group","chat_id":"{chat}"}}"#
        )
    };
    let position = async |json: String| {
        node.send(&post(&json).header("Prefer", "respond-async")).await.json()["position"].as_u64().unwrap()
    };
    assert_eq!(position(group("a", "g")).await, 1);
    assert_eq!(position(group("b", "g")).await, 2);
    assert_eq!(position(group("b", "h")).await, 1);
    assert_eq!(position(body("x")).await, 1);
    assert_eq!(position(body("x").replace("\"o\"", "\"p\"")).await, 1);
}

#[tokio::test]
async fn a_shutdown_answers_those_who_wait_with_queued() {
    let node = node(|_| {}).await;
    let waiting = node.start(post(&body("hi")));
    let _turn = node.claim().await;
    node.drain.close();
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("queued")));
    tokio::time::timeout(Duration::from_secs(60), node.serving).await.unwrap().unwrap();
}

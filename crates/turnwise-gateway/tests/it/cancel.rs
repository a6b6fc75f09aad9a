//! Looking at turns and taking them back.

use crate::client::{delete, get};
use crate::node::{answered, node};
use serde_json::{Value, json};
use turnwise_broker::{TurnError, TurnOutcome};

fn check(view: &Value, shows: &Value) {
    for (key, value) in shows.as_object().unwrap() {
        assert_eq!(&view[key], value, "{key} in {view}");
    }
    for key in ["accepted_at", "expires_at"] {
        assert!(view[key].as_str().is_some_and(|at| at.ends_with('Z')), "{view}");
    }
}

#[tokio::test]
async fn a_turn_shows_where_it_is() {
    let node = node(|_| {}).await;
    let path = format!("/api/v1/message/{}", node.submit("x").await);
    let view = async || node.send(&get(&path)).await.json();
    let ids = json!({"org_id":"o","user_id":"u","client_id":"web"});
    check(&view().await, &ids);
    check(
        &view().await,
        &json!({"status":"queued","position":1,"attempts":0,"started_at":null,"answer":null}),
    );
    let turn = node.claim().await;
    check(&view().await, &json!({"status":"processing","position":1,"attempts":1,"finished_at":null}));
    node.finish(&turn, answered("yes")).await;
    check(&view().await, &ids);
    check(&view().await, &json!({"status":"completed","position":null,"attempts":1,"error":null}));
    assert_eq!(view().await["answer"]["more"], 1);
    assert!(view().await["finished_at"].is_string());
}

#[tokio::test]
async fn a_failed_turn_shows_why() {
    let node = node(|_| {}).await;
    let path = format!("/api/v1/message/{}", node.submit("x").await);
    let turn = node.claim().await;
    node.finish(&turn, TurnOutcome::Failed(TurnError::new("agent_timeout", 504, "too slow"))).await;
    let error = json!({"code":"agent_timeout","status":504,"detail":"too slow"});
    check(&node.send(&get(&path)).await.json(), &json!({"status":"failed","answer":null,"error":error}));
}

#[tokio::test]
async fn cancelling_waiting_running_and_over() {
    let node = node(|_| {}).await;
    let path = |id: &str| format!("/api/v1/message/{id}");
    let running = node.submit("1").await;
    let waiting = node.submit("2").await;
    let turn = node.claim().await;
    let reply = node.send(&delete(&path(&waiting))).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("cancelled")));
    let reply = node.send(&delete(&path(&running))).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("stopping")));
    node.finish(&turn, TurnOutcome::Cancelled).await;
    assert_eq!(node.send(&get(&path(&running))).await.json()["status"], "cancelled");
    for over in [&running, &waiting] {
        node.send(&delete(&path(over))).await.assert_problem(409, "turn_over");
    }
    let unknown = "00000000-0000-8000-8000-000000000000";
    node.send(&delete(&path(unknown))).await.assert_problem(404, "not_found");
    node.send(&get(&path(unknown))).await.assert_problem(404, "not_found");
}

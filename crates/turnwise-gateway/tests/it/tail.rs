//! `/api/v1/tail`, `/api/v1/status` and `/readyz?verbose`.

use crate::client::{Call, get, post};
use crate::node::{answered, body_of, key, node};
use serde_json::Value;
use turnwise_gateway::Scope;

/// As many as may look on at once.
const ONLOOKERS: usize = 64;

fn from(org: &str, call: Call) -> Call {
    call.header("X-API-Key", &format!("secret-{org}"))
}

#[tokio::test]
async fn a_tail_shows_the_steps_of_its_own_orgs_turns_and_of_no_others() {
    let node = node(|config| config.keys = vec![key("a"), key("b")]).await;
    let mut all = from("a", get("/api/v1/tail")).open(node.address).await;
    let mut bens = from("a", get("/api/v1/tail?user_id=ben")).open(node.address).await;
    // Naming another's organisation is like naming one that does not exist.
    let mut foreign = from("a", get("/api/v1/tail?org_id=b")).open(node.address).await;
    for open in [&all, &bens, &foreign] {
        assert_eq!(open.head.status, 200);
    }
    for (org, user) in [("b", "bea"), ("a", "ann"), ("a", "ben")] {
        let submit = post(&body_of(org, user, "x")).header("Prefer", "respond-async");
        assert_eq!(node.send(&from(org, submit)).await.status, 200);
    }
    for _ in 0..3 {
        let turn = node.claim().await;
        node.finish(&turn, answered("yes")).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let event = all.event().await.unwrap();
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!((event.name.as_str(), &data["org_id"]), ("step", &"a".into()), "{data}");
        seen.push((data["user_id"].as_str().unwrap().to_owned(), data["step"].clone()));
    }
    for user in ["ann", "ben"] {
        let steps: Vec<_> = seen.iter().filter(|(who, _)| who == user).map(|(_, step)| step).collect();
        assert_eq!(steps, ["accepted", "claimed", "completed"], "{user}");
    }
    let first: Value = serde_json::from_str(&bens.event().await.unwrap().data).unwrap();
    assert_eq!((&first["user_id"], &first["step"]), (&"ben".into(), &"accepted".into()));
    node.drain.close();
    assert!(foreign.event().await.is_none(), "nothing of another's organisation, and it ends");
}

#[tokio::test]
async fn only_so_many_look_on_at_once() {
    let node = node(|_| {}).await;
    let mut open = Vec::new();
    for _ in 0..ONLOOKERS {
        let tail = get("/api/v1/tail").open(node.address).await;
        assert_eq!(tail.head.status, 200);
        open.push(tail);
    }
    node.send(&get("/api/v1/tail")).await.assert_problem(503, "overloaded");
}

#[tokio::test]
async fn status_needs_the_scope_of_the_measurements_and_tells_what_is_held() {
    let node = node(|config| {
        let mut watcher = key("w");
        watcher.scopes = vec![Scope::Metrics];
        config.keys = vec![key("a"), watcher];
    })
    .await;
    node.send(&get("/api/v1/status")).await.assert_problem(401, "missing_key");
    node.send(&from("a", get("/api/v1/status"))).await.assert_problem(403, "scope_missing");
    let submit = post(&body_of("a", "ann", "x")).header("Prefer", "respond-async");
    assert_eq!(node.send(&from("a", submit)).await.status, 200);
    let status = node.send(&from("w", get("/api/v1/status"))).await.json();
    assert_eq!(status["status"], "healthy", "{status}");
    assert_eq!((&status["store"]["state"], &status["agent"]["state"]), (&"ok".into(), &"ok".into()));
    assert_eq!(status["turns"]["accepted"], 1);
    assert_eq!(status["turns"]["ended"]["completed"], 0);
    assert!(!status.to_string().contains("ann"), "{status}");
}

#[tokio::test]
async fn readiness_tells_its_parts_when_asked() {
    let node = node(|_| {}).await;
    let plain = node.send(&get("/readyz")).await.json();
    assert_eq!(plain, serde_json::json!({"status": "ready"}));
    let verbose = node.send(&get("/readyz?verbose")).await.json();
    assert_eq!((&verbose["store"], &verbose["agent"]), (&"ok".into(), &"ok".into()));
    assert!(verbose["store_ms"].is_number(), "{verbose}");
}

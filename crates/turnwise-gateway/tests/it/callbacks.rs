//! Callbacks from outside: URLs at submission, and what operators see and do.

use crate::client::{Call, Reply, call, delete, get, post};
use crate::node::{Node, answered, body, body_of, key, node_with};
use serde_json::{Value, json};
use turnwise_broker::{BrokerConfig, CallbackOutcome, CallbackRules};
use turnwise_gateway::{ApiKey, Scope};

const URL: &str = "https://hooks.example/secret-path?token=secret-query";

async fn node() -> Node {
    let callbacks = CallbackRules { accepted: true, attempts_max: 12, ..CallbackRules::default() };
    let config = BrokerConfig { callbacks, ..BrokerConfig::default() };
    node_with(config, |config| {
        let may = |org: &str| ApiKey { scopes: vec![Scope::Conversations, Scope::Callbacks], ..key(org) };
        config.keys = vec![may("o"), may("p")];
    })
    .await
}

fn of(call: Call, org: &str) -> Call {
    call.header("X-API-Key", &format!("secret-{org}"))
}

fn with_url(body: &str, url: &str) -> Call {
    let body: String = body.replacen('{', &format!("{{\"callback_url\":{},", json!(url)), 1);
    post(&body)
}

fn redrive(body: &Value) -> Call {
    let text = body.to_string();
    let call = call("POST", "/api/v1/callbacks/redrive").header("Content-Type", "application/json");
    call.header("Content-Length", &text.len().to_string()).wire_body(text.into_bytes())
}

impl Node {
    /// A turn of this organisation whose callback was given up on; ids of the turn and of the callback.
    async fn dead_callback(&self, org: &str, user: &str) -> (String, String) {
        let reply = self.send(&of(with_url(&body_of(org, user, "hi"), URL), org)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let turn = self.claim().await;
        self.finish(&turn, answered("x")).await;
        let callback = loop {
            if let Some(callback) = self.broker.claim_callbacks(1).await.unwrap().pop() {
                break callback;
            }
            self.broker.wake_callbacks().await;
        };
        let reason = "refused: the host answered 410".to_owned();
        let outcome = CallbackOutcome::Dead { status: Some(410), reason };
        self.broker.settle_callback(&callback, outcome).await.unwrap();
        (reply.json()["message_id"].as_str().unwrap().to_owned(), callback.id.to_string())
    }
}

fn ids(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    let items = json["items"].as_array().unwrap_or_else(|| panic!("{}", reply.text()));
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_submission_with_a_callback_url_is_answered_at_once() {
    let node = node().await;
    let reply = node.send(&of(with_url(&body("hi"), URL), "o").header("Prefer", "wait=60")).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("queued")));
    let id = reply.json()["message_id"].as_str().unwrap().to_owned();
    let turn = node.send(&of(get(&format!("/api/v1/message/{id}")), "o")).await;
    assert_eq!(turn.json()["callback"]["status"], "waiting");
    assert!(!turn.text().contains("secret"), "{}", turn.text());
}

/// The whole table of URLs is tested where they are read, in the broker.
#[tokio::test]
async fn a_callback_url_that_leads_inside_is_refused_at_its_place() {
    let node = node().await;
    for url in [
        "http://hooks.example/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://localhost./",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://u:p@hooks.example/",
        "https://hooks.example/#x",
        "https://127\u{3002}0\u{3002}0\u{3002}1/",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "unix:/run/x.sock",
        "https://hooks.example:22/",
        "https://169.254.169.254/",
        "https://hooks.example/\r\nx: y",
    ] {
        let reply = node.send(&of(with_url(&body("hi"), url), "o")).await;
        reply.assert_problem(422, "invalid_content");
        assert_eq!(reply.json()["errors"][0]["pointer"], "/callback_url", "{url}");
    }
}

#[tokio::test]
async fn dead_callbacks_are_seen_redriven_and_dropped() {
    let node = node().await;
    let (turn, first) = node.dead_callback("o", "a").await;
    let (_, second) = node.dead_callback("o", "b").await;
    let page = node.send(&of(get("/api/v1/callbacks?limit=1"), "o")).await;
    assert_eq!(ids(&page), vec![first.clone()]);
    assert!(!page.text().contains("secret"), "{}", page.text());
    let next = page.json()["next"].as_str().unwrap().to_owned();
    let rest = node.send(&of(get(&format!("/api/v1/callbacks?limit=1&after={next}")), "o")).await;
    assert_eq!(ids(&rest), vec![second.clone()]);
    let one = node.send(&of(get(&format!("/api/v1/callbacks/{first}")), "o")).await.json();
    let expected = json!({
        "id": first, "org_id": "o", "message_id": turn, "status": "dead", "origin": "https://hooks.example",
        "created_at": one["created_at"], "attempts": 1, "next_attempt_at": null,
        "last_attempt_at": one["last_attempt_at"], "last_status": 410,
        "last_error": "refused: the host answered 410",
    });
    assert_eq!(one, expected);
    let seen = node.send(&of(get(&format!("/api/v1/message/{turn}")), "o")).await.json();
    assert_eq!((&seen["callback"]["status"], &seen["callback"]["id"]), (&json!("dead"), &json!(first)));

    let dry = node.send(&of(redrive(&json!({"all": true, "dry_run": true})), "o")).await;
    assert_eq!(dry.json(), json!({"redriven": 2, "dry_run": true}));
    let done = node.send(&of(redrive(&json!({"ids": [first, "no-id"]})), "o")).await;
    assert_eq!(done.json(), json!({"redriven": 1, "dry_run": false}));
    assert_eq!(ids(&node.send(&of(get("/api/v1/callbacks?stage=dead"), "o")).await), vec![second.clone()]);
    assert_eq!(ids(&node.send(&of(get("/api/v1/callbacks?stage=waiting"), "o")).await), vec![first.clone()]);
    let path = format!("/api/v1/callbacks/{second}");
    assert_eq!(node.send(&of(delete(&path), "o")).await.status, 204);
    node.send(&of(delete(&path), "o")).await.assert_problem(404, "not_found");
    let claimed = node.broker.claim_callbacks(1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let path = format!("/api/v1/callbacks/{first}");
    node.send(&of(delete(&path), "o")).await.assert_problem(409, "callback_in_progress");
}

#[tokio::test]
async fn callbacks_of_another_organisation_are_not_there() {
    let node = node().await;
    let (_, id) = node.dead_callback("o", "a").await;
    let path = format!("/api/v1/callbacks/{id}");
    let unknown = "/api/v1/callbacks/00000000-0000-8000-8000-000000000000";
    for method in ["GET", "DELETE"] {
        let same = |path: &str| of(call(method, path), "p").header("X-Request-Id", "same");
        let foreign = node.send(&same(&path)).await;
        foreign.assert_problem(404, "not_found");
        assert_eq!(foreign.text(), node.send(&same(unknown)).await.text());
    }
    for path in ["/api/v1/callbacks", "/api/v1/callbacks?org_id=o"] {
        assert_eq!(ids(&node.send(&of(get(path), "p")).await), Vec::<String>::new());
    }
    for body in [json!({"ids": [id]}), json!({"all": true}), json!({"all": true, "org_id": "o"})] {
        let reply = node.send(&of(redrive(&body), "p")).await;
        assert_eq!(reply.json()["redriven"], 0, "{body}");
    }
    // A place in somebody else's list is no way in.
    let cursor = "00000000-0000-8000-8000-000000000000.6e";
    let path = format!("/api/v1/callbacks?after={cursor}");
    assert_eq!(ids(&node.send(&of(get(&path), "p")).await), Vec::<String>::new());
    assert_eq!(ids(&node.send(&of(get("/api/v1/callbacks"), "o")).await), [id]);
}

#[tokio::test]
async fn bodies_and_queries_about_callbacks_are_strict() {
    let node = node().await;
    let check = async |call: Call, status: u16, code: &str| {
        node.send(&of(call, "o")).await.assert_problem(status, code);
    };
    check(redrive(&json!({})), 422, "invalid_content").await;
    check(redrive(&json!({"ids": [], "all": true})), 422, "invalid_content").await;
    check(redrive(&json!({"all": "yes"})), 422, "invalid_content").await;
    check(redrive(&json!({"all": true, "dryrun": true})), 422, "invalid_content").await;
    check(redrive(&json!([])), 422, "invalid_content").await;
    check(redrive(&json!({"ids": vec!["x"; 1_001]})), 422, "invalid_content").await;
    check(redrive(&json!({"all": true, "org_id": ""})), 422, "invalid_content").await;
    check(get("/api/v1/callbacks?stage=leased"), 422, "invalid_content").await;
    for limit in ["0", "101", "1000000000", "-1", "x"] {
        check(get(&format!("/api/v1/callbacks?limit={limit}")), 422, "invalid_content").await;
    }
    for after in ["x", "00000000-0000-8000-8000-000000000000", "00000000-0000-8000-8000-000000000000.zz"] {
        check(get(&format!("/api/v1/callbacks?after={after}")), 400, "bad_request").await;
    }
}

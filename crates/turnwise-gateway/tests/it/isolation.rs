//! A key of one org against everything of another's: every route of the table,
//! every method. What is another's is answered as what does not exist.

use crate::client::{Call, Reply, call, post};
use crate::node::{Node, answered, body_of, filled, key, node};
use serde_json::Value;
use turnwise_gateway::routes;

/// In every text of the other org, and nowhere else.
const MARKER: &str = "marker-of-b";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Routes that name a turn elsewhere than in their path.
const NAMES_A_TURN: [&str; 2] = ["/api/v1/stream", "/api/v1/tickets"];

/// A user of the other org, and one that does not exist, of the same length.
const THEIRS: &str = "bea-7qk2";
const NOBODY: &str = "xyz-7qk2";

fn from_b(call: Call) -> Call {
    call.header("X-API-Key", "secret-b")
}

/// The other org with a turn in each state; their ids.
async fn with_turns_of_b() -> (Node, Vec<String>) {
    let node = node(|config| {
        config.keys = vec![key("a"), key("b")];
        config.ticket_secret = Some([7; 32]);
    })
    .await;
    let mut ids = Vec::new();
    for state in ["answered", "processing", "queued"] {
        let submit = post(&body_of("b", THEIRS, &format!("{MARKER} {state}")));
        let reply = node.send(&from_b(submit.header("Prefer", "respond-async"))).await;
        ids.push(reply.json()["message_id"].as_str().unwrap().to_owned());
    }
    let turn = node.claim().await;
    node.finish(&turn, answered(MARKER)).await;
    node.claim().await;
    (node, ids)
}

/// All that the other org sees of itself.
async fn state_of_b(node: &Node, ids: &[String]) -> Vec<Value> {
    let mut state = Vec::new();
    for path in
        ids.iter().map(|id| format!("/api/v1/message/{id}")).chain([format!("/api/v1/queue/{THEIRS}")])
    {
        let mut seen = node.send(&from_b(call("GET", &path))).await.json();
        blank_ages(&mut seen);
        state.push(seen);
    }
    state
}

/// What goes on by itself is not compared.
fn blank_ages(seen: &mut Value) {
    seen["oldest_waiting_seconds"] = Value::Null;
    for conversation in seen["conversations"].as_array_mut().into_iter().flatten() {
        conversation["oldest_waiting_seconds"] = Value::Null;
    }
}

/// Asks with a's key for what these ids name; the answer as text, ids and request id blanked.
async fn asked(node: &Node, method: &str, path: &str, id: &str, user: &str) -> (Reply, String) {
    let mut ask = call(method, &filled(path, id, user)).header("X-API-Key", "secret-a");
    if method == "POST" {
        let json = match path {
            "/api/v1/message" => body_of("b", user, "from a"),
            "/api/v1/tickets" => format!(r#"{{"stream":{{"user_id":"{user}","message_id":"{id}"}}}}"#),
            _ => String::new(),
        };
        let length = json.len().to_string();
        ask = ask.header("Content-Type", "application/json").header("Content-Length", &length);
        ask = ask.header("Prefer", "respond-async").wire_body(json.into_bytes());
    }
    let reply = node.send(&ask.header("X-Request-Id", "same")).await;
    let blanked = format!("{} {:?} {}", reply.status, reply.sorted_headers(), reply.text());
    (reply, blanked.replace(id, "ID").replace(user, "USER"))
}

#[tokio::test]
async fn nothing_of_another_org_can_be_told_from_what_does_not_exist() {
    let (node, ids) = with_turns_of_b().await;
    let before = state_of_b(&node, &ids).await;
    let mut refused = 0;
    for route in routes() {
        for method in METHODS {
            for id in &ids {
                // Same form, same org bits, one digit further on.
                let unknown = format!("{}{}", &id[..35], if id.ends_with('0') { '1' } else { '0' });
                let (theirs, told) = asked(&node, method, route.path, id, THEIRS).await;
                let (_, nobodys) = asked(&node, method, route.path, &unknown, NOBODY).await;
                assert_eq!(told, nobodys, "{method} {}", route.path);
                assert!(!theirs.text().contains(MARKER), "{method} {}: {}", route.path, theirs.text());
                let named = route.path.contains("{message_id}") || NAMES_A_TURN.contains(&route.path);
                if method == route.method.as_str() && named {
                    theirs.assert_problem(404, "not_found");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= 12, "three turns on each route that names one: {refused}");
    assert_eq!(state_of_b(&node, &ids).await, before, "asking left traces");
}

#[tokio::test]
async fn the_other_org_itself_reads_all_of_it() {
    let (node, ids) = with_turns_of_b().await;
    let state = state_of_b(&node, &ids).await;
    let states: Vec<_> = state.iter().map(|seen| seen["status"].as_str().unwrap_or("queue")).collect();
    assert_eq!(states, ["completed", "processing", "queued", "queue"]);
    assert!(state[0].to_string().contains(MARKER));
    assert_eq!(state[3]["is_processing"], true);
}

//! Nodes that share a Redis server.

use crate::support::{PATIENCE, Running, accepted, read, run, serve, stored, turnwise};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use turnwise_mock::{AgentConfig, Conn, FakeAgent, SseEvent};
use turnwise_testkit::servers::{Server, redis};

/// Events of the agent in one answer, and the pause between them.
const ANSWER: &str = "hello [[events=6 gap=25]]";
/// What the broker keeps of it: six parts, the whole answer, and the end.
const STORED: usize = 8;

async fn agent() -> FakeAgent {
    FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap()
}

async fn node(folder: &tempfile::TempDir, server: &Server, agent: &FakeAgent) -> Running {
    let store = redis::url(server);
    serve(folder.path(), 0, Some(&agent.base_url()), &[("TURNWISE_STORE", &store)]).await
}

fn is_whole(events: &[SseEvent]) {
    let kept = stored(events);
    assert_eq!(kept.len(), STORED, "{kept:#?}");
    assert_eq!(kept.last().unwrap().event, "done");
}

#[tokio::test]
async fn a_turn_sent_to_one_node_is_read_whole_from_another_and_after_restarts() {
    let Some(server) = redis::start() else { return };
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let mut one = node(&folder, &server, &agent).await;
    let other = node(&folder, &server, &agent).await;
    assert_eq!(one.ready["store"], redis::url(&server));
    let id = accepted(one.url(), "ann", ANSWER).await;
    let first = read(other.url(), "ann", &id, None).await;
    is_whole(&first);
    one.kill().await;
    server.restart();
    let again = read(other.url(), "ann", &id, None).await;
    assert_eq!(stored(&again), stored(&first), "a killed node and server change nothing");
    let next = accepted(other.url(), "ann", ANSWER).await;
    is_whole(&read(other.url(), "ann", &next, None).await);
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn a_server_that_does_not_write_before_it_answers_is_refused_until_that_is_accepted() {
    let Some(server) = redis::start_with(&["--appendonly", "no", "--requirepass", "hunter2"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let mut command = turnwise(folder.path());
    let output = run(command.args(["serve", "--port", "0"]).env("TURNWISE_STORE", &store)).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("appendonly no") && text.contains("relaxed"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let relaxed = [("TURNWISE_STORE", store.as_str()), ("TURNWISE_STORE_DURABILITY", "relaxed")];
    let node = serve(folder.path(), 0, None, &relaxed).await;
    assert!(!node.ready["store"].as_str().unwrap().contains("hunter2"));
    let mut conn = Conn::new(node.url());
    let health: Value = conn.get("/health").await.unwrap().json().unwrap();
    assert!(health["store_weakness"].as_str().unwrap().contains("appendonly no"), "{health}");
    let shown = run(turnwise(folder.path()).args(["status", "--url", node.url()])).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("a crash of Redis loses messages"), "{shown}");
    assert_eq!(node.terminate().await, Some(0));
}

#[tokio::test]
async fn two_nodes_are_measured_beside_one() {
    let Some(server) = redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = turnwise(folder.path());
    command.args(["bench", "nodes", "--json", "--seconds", "4", "--store", &redis::url(&server)]);
    let output = run(&mut command).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = told["rows"].as_array().unwrap();
    let rate = |id| rows.iter().find(|row| row["id"] == id).unwrap()["value"].as_f64().unwrap();
    assert!(rate("one_per_s") > 0.0 && rate("two_per_s") > 0.0, "{told}");
}

#[tokio::test]
async fn what_a_server_keeps_is_told_anew_when_it_comes_back_with_other_settings() {
    let keeps = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&keeps);
    let extra = move || match told.load(Ordering::SeqCst) {
        true => Vec::new(),
        false => vec!["--appendfsync".to_owned(), "no".to_owned()],
    };
    let Some(server) = redis::start_asking(extra) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = redis::url(&server);
    let relaxed = [("TURNWISE_STORE", store.as_str()), ("TURNWISE_STORE_DURABILITY", "relaxed")];
    let node = serve(folder.path(), 0, None, &relaxed).await;
    let mut conn = Conn::new(node.url());
    for is_kept in [true, false, true] {
        if is_kept != keeps.swap(is_kept, Ordering::SeqCst) {
            server.restart();
        }
        let told = async {
            loop {
                let health: Value = conn.get("/health").await.unwrap().json().unwrap();
                let weakness = health["store_weakness"].as_str();
                assert!(weakness.is_none_or(|what| what.contains("appendfsync no")), "{health}");
                if weakness.is_none() == is_kept {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("/health says what the server is now");
        let shown = run(turnwise(folder.path()).args(["status", "--url", node.url()])).await;
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.contains("a crash of Redis loses messages"), !is_kept, "{shown}");
    }
    assert_eq!(node.terminate().await, Some(0));
}

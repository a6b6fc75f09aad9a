//! Nodes that share a PostgreSQL database.

use crate::support::{Running, accepted, read, run, serve, stored, turnwise};
use turnwise_mock::{AgentConfig, FakeAgent, SseEvent};
use turnwise_testkit::servers::postgres::Postgres;

/// Events of the agent in one answer, and the pause between them.
const ANSWER: &str = "hello [[events=6 gap=25]]";
/// What the broker keeps of it: six parts, the whole answer, and the end.
const STORED: usize = 8;

async fn node(folder: &tempfile::TempDir, server: &Postgres, agent: &FakeAgent) -> Running {
    serve(folder.path(), 0, Some(&agent.base_url()), &[("TURNWISE_STORE", &server.url("chat"))]).await
}

fn is_whole(events: &[SseEvent]) {
    let kept = stored(events);
    assert_eq!(kept.len(), STORED, "{kept:#?}");
    assert_eq!(kept.last().unwrap().event, "done");
}

#[tokio::test]
async fn a_turn_sent_to_one_node_is_read_whole_from_another_and_after_restarts() {
    let Some(server) = Postgres::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let mut one = node(&folder, &server, &agent).await;
    let other = node(&folder, &server, &agent).await;
    let id = accepted(one.url(), "ann", ANSWER).await;
    let first = read(other.url(), "ann", &id, None).await;
    is_whole(&first);
    one.kill().await;
    server.server().restart();
    let again = read(other.url(), "ann", &id, None).await;
    assert_eq!(stored(&again), stored(&first), "a killed node and server change nothing");
    let next = accepted(other.url(), "ann", ANSWER).await;
    is_whole(&read(other.url(), "ann", &next, None).await);
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn a_server_that_does_not_write_before_it_answers_is_refused_until_that_is_accepted() {
    let Some(server) = Postgres::start_with(&["synchronous_commit=off"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = server.url("chat").replace("turnwise@", "turnwise:hunter2@");
    for (url, says) in [(store.clone(), "relaxed"), (format!("{store}&sslmode=maybe"), "sslmode")] {
        let mut command = turnwise(folder.path());
        let output = run(command.args(["serve", "--port", "0"]).env("TURNWISE_STORE", &url)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
    let relaxed = [("TURNWISE_STORE", store.as_str()), ("TURNWISE_STORE_DURABILITY", "relaxed")];
    let node = serve(folder.path(), 0, None, &relaxed).await;
    assert!(!node.ready["store"].as_str().unwrap().contains("hunter2"));
    assert_eq!(node.terminate().await, Some(0));
}

//! The commands of somebody who watches, and a timeline over a kill.

use crate::support::{Running, accepted, json_lines, read, run, serve, turnwise};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use turnwise_mock::{Conn, FakeAgent};

async fn agent() -> FakeAgent {
    FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn status_is_short_for_people_and_fails_with_the_right_code() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent().await;
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[("BROKER_API_KEY", "k")]).await;
    let status = async |more: &[&str]| {
        run(turnwise(folder.path()).args(["status", "--url", server.url()]).args(more)).await
    };
    assert_eq!(status(&[]).await.status.code(), Some(4));
    assert_eq!(status(&["--key", "wrong"]).await.status.code(), Some(4));
    assert_eq!(status(&["--key", "k"]).await.status.code(), Some(0));
    let output = run(turnwise(folder.path()).args(["status", "--url", "http://127.0.0.1:1"])).await;
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(server.terminate().await, Some(0));

    let server = serve(folder.path(), 0, None, &[]).await;
    accepted(server.url(), "alice", "hello").await;
    let output = run(turnwise(folder.path()).args(["status", "--url", server.url()])).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("degraded") && shown.contains("agent    none"), "{shown}");
    assert!(shown.contains("1 accepted"), "{shown}");
}

#[tokio::test]
async fn tail_follows_a_turn_and_ends_with_its_signal() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent().await;
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let mut command = turnwise(folder.path());
    command.args(["tail", "--json", "--user", "alice", "--url", server.url()]).stdout(Stdio::piped());
    let mut tail = command.spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = tokio::time::timeout(crate::support::PATIENCE, lines.next_line()).await;
        serde_json::from_str(&line.expect("a line in time").unwrap().expect("a line")).unwrap()
    };
    assert_eq!(next().await["ready"], true);
    accepted(server.url(), "bob", "not shown").await;
    let id = accepted(server.url(), "alice", "hello").await;
    let mut steps = Vec::new();
    for _ in 0..3 {
        let line = next().await;
        assert_eq!(line["data"]["message_id"], id);
        steps.push(line["data"]["step"].clone());
    }
    // A claim may be told before the server has heard from its store that what it claims is accepted.
    steps[..2].sort_by_key(Value::to_string);
    assert_eq!(steps, ["accepted", "claimed", "completed"]);
    let tail = Running { process: tail, ready: Value::Null };
    assert_eq!(tail.terminate().await, Some(0));
}

#[tokio::test]
async fn config_init_writes_for_this_user_alone_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let init = async || run(turnwise(folder.path()).args(["config", "init", "--json"])).await;
    let first = init().await;
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(json_lines(&first.stdout)[0]["file"], "turnwise.toml");
    let path = folder.path().join("turnwise.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let written = std::fs::read(&path).unwrap();
    assert_eq!(init().await.status.code(), Some(5));
    assert_eq!(std::fs::read(&path).unwrap(), written);
    let check = run(turnwise(folder.path()).args(["config", "check"])).await;
    assert!(check.status.success(), "{}", text(&check.stderr));
}

#[tokio::test]
async fn completions_know_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(turnwise(folder.path()).args(["completions", shell])).await;
        assert!(output.status.success(), "{shell}");
        assert!(text(&output.stdout).contains("tail"), "{shell}");
    }
}

#[tokio::test]
async fn a_timeline_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent().await;
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let id = accepted(server.url(), "alice", "hello").await;
    read(server.url(), "alice", &id, None).await;
    let path = format!("/api/v1/message/{id}");
    let timeline = async |server: &Running| -> Value {
        let turn: Value = Conn::new(server.url()).get(&path).await.unwrap().json().unwrap();
        turn["timeline"].clone()
    };
    let before = timeline(&server).await;
    let steps: Vec<_> = before.as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["accepted", "claimed", "first_event", "completed"]);
    assert_eq!(before[1]["attempt"], 1);
    let times: Vec<_> = before.as_array().unwrap().iter().map(|step| step["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{before}");
    server.kill().await;
    let server = serve(folder.path(), 0, None, &[]).await;
    assert_eq!(timeline(&server).await, before);
}

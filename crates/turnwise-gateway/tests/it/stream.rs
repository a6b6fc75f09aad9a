//! Event streams from the first event to the last, and again from anywhere.

use crate::client::{Event, Open, get};
use crate::node::{Node, answered, node};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;
use turnwise_broker::{AgentEvent, Turn, TurnError, TurnOutcome};

fn path(id: &str) -> String {
    format!("/api/v1/stream?user_id=u&message_id={id}")
}

async fn open(node: &Node, id: &str) -> Open {
    let open = get(&path(id)).open(node.address).await;
    assert_eq!(open.head.status, 200);
    open
}

async fn say(node: &Node, turn: &Turn, name: Option<&str>, data: &'static str) {
    let event = AgentEvent { name: name.map(str::to_owned), data: Bytes::from(data) };
    node.broker.append(turn, vec![event]).await.unwrap();
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

/// Without the changes of place, which are told only to readers who are there.
async fn to_the_end(stream: &mut Open) -> Vec<Event> {
    let mut events = stream.events().await;
    events.retain(|event| event.name != "position");
    events
}

#[tokio::test]
async fn a_stream_from_queued_to_done() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let mut stream = open(&node, &id).await;
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.head.header(name), Some(value));
    }
    let first = stream.event().await.unwrap();
    assert_eq!(first.name, "queued");
    assert_eq!(first.data, format!("{{\"message_id\":\"{id}\"}}"));
    let turn = node.claim().await;
    say(&node, &turn, None, r#"{"type":"status", "a":1}"#).await;
    say(&node, &turn, Some("progress"), r#"{"text":"b"}"#).await;
    say(&node, &turn, Some("done"), r#"{"forged":true}"#).await;
    node.finish(&turn, TurnOutcome::Completed { answer: None, unsaved: Vec::new() }).await;
    let events = to_the_end(&mut stream).await;
    assert_eq!(names(&events), ["processing", "message", "progress", "message", "done"]);
    assert_eq!(events[1].data, r#"{"type":"status", "a":1}"#);
    assert_eq!(events[4].data, format!("{{\"message_id\":\"{id}\"}}"));
    assert!(events[1..].iter().all(|event| event.id.is_some()));
}

#[tokio::test]
async fn a_late_reader_gets_everything_and_one_who_comes_back_the_rest() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let turn = node.claim().await;
    say(&node, &turn, None, "1").await;
    say(&node, &turn, None, "2").await;
    node.finish(&turn, answered("3")).await;
    let all = open(&node, &id).await.events().await;
    assert_eq!(names(&all), ["queued", "processing", "message", "message", "done"]);
    let seen = all[2].id.clone().unwrap();
    let rest = get(&path(&id)).header("Last-Event-ID", &seen).open(node.address).await.events().await;
    assert_eq!(rest, all[3..]);
    let rest = get(&format!("{}&after={seen}", path(&id))).open(node.address).await.events().await;
    assert_eq!(rest, all[3..]);
    let last = all[4].id.clone().unwrap();
    let over = node.send(&get(&path(&id)).header("Last-Event-ID", &last)).await;
    assert_eq!((over.status, over.text()), (204, ""));
    node.send(&get(&path(&id)).header("Last-Event-ID", "nonsense"))
        .await
        .assert_problem(422, "invalid_content");
    // What is passed over must be well formed all the same.
    node.send(&get(&format!("{}&after=nonsense", path(&id))).header("Last-Event-ID", &last))
        .await
        .assert_problem(422, "invalid_content");
}

#[tokio::test]
async fn each_end_has_its_one_event() {
    let check = async |outcome: TurnOutcome, last: &str, shows: &str| {
        let node = node(|_| {}).await;
        let id = node.submit("x").await;
        let mut stream = open(&node, &id).await;
        let turn = node.claim().await;
        node.finish(&turn, outcome).await;
        let events = stream.events().await;
        let ends = ["done", "error", "cancelled"];
        assert_eq!(events.iter().filter(|event| ends.contains(&event.name.as_str())).count(), 1);
        let end = events.last().unwrap();
        assert_eq!(end.name, last);
        assert!(end.data.contains(shows), "{}", end.data);
    };
    check(answered("yes"), "done", "message_id").await;
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    node.finish(&node.claim().await, answered("yes")).await;
    let events = open(&node, &id).await.events().await;
    let plain = events.iter().find(|event| event.name == "message").unwrap();
    assert!(plain.data.contains(r#""responses":["yes"]"#), "a plain answer is an event too");
    let error = TurnError::new("agent_timeout", 504, "too slow");
    check(TurnOutcome::Failed(error), "error", r#"{"error":"too slow","code":"agent_timeout","status":504"#)
        .await;
    check(TurnOutcome::Cancelled, "cancelled", "message_id").await;
}

#[tokio::test]
async fn many_readers_each_get_every_event() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut reader = open(&node, &id).await;
        readers.push(tokio::spawn(async move { reader.events().await }));
    }
    let turn = node.claim().await;
    for _ in 0..50 {
        say(&node, &turn, None, "{\"text\":\"more\"}").await;
    }
    node.finish(&turn, TurnOutcome::Completed { answer: None, unsaved: Vec::new() }).await;
    for reader in readers {
        let events = reader.await.unwrap();
        assert_eq!(events.iter().filter(|event| event.name == "message").count(), 50);
        assert_eq!(events.last().unwrap().name, "done");
    }
}

#[tokio::test]
async fn an_unread_stream_holds_up_nobody() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let _unread = open(&node, &id).await;
    let mut reader = open(&node, &id).await;
    let turn = node.claim().await;
    let long: &'static str = Box::leak("x".repeat(200_000).into_boxed_str());
    let sending = async {
        for _ in 0..100 {
            say(&node, &turn, None, long).await;
        }
        node.finish(&turn, TurnOutcome::Completed { answer: None, unsaved: Vec::new() }).await;
    };
    let (events, ()) =
        timeout(Duration::from_secs(30), async { tokio::join!(reader.events(), sending) }).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.data.len() == long.len()).count(), 100);
}

#[tokio::test]
async fn a_shutdown_ends_streams_so_that_they_can_be_resumed() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let mut stream = open(&node, &id).await;
    assert_eq!(stream.event().await.unwrap().name, "queued");
    node.drain.close();
    assert_eq!(names(&to_the_end(&mut stream).await), Vec::<&str>::new());
    timeout(Duration::from_secs(60), node.serving).await.unwrap().unwrap();
}

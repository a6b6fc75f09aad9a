//! Answers as streams: cut anywhere, resumed, late, and read by two.

use crate::support::{accepted, open, read, serve, stored};
use std::time::Duration;
use turnwise_mock::{AgentConfig, FakeAgent, SseEvent};

/// Events of the agent in one answer, and the pause between them.
const ANSWER: &str = "hello [[events=6 gap=25]]";
/// What the broker keeps of it: six parts, the whole answer, and the end.
const STORED: usize = 8;

async fn agent() -> FakeAgent {
    FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap()
}

fn is_whole(events: &[SseEvent]) {
    let kept = stored(events);
    assert_eq!(kept.len(), STORED, "{kept:#?}");
    assert_eq!(kept.last().unwrap().event, "done");
    let ids: std::collections::HashSet<&str> = kept.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), STORED, "every event has its own place");
    assert_eq!(events.iter().filter(|event| event.event == "done").count(), 1);
}

#[tokio::test]
async fn a_stream_cut_after_any_event_and_resumed_is_the_same() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    for cut in 1..STORED {
        let user = format!("cut-{cut}");
        let id = accepted(server.url(), &user, ANSWER).await;
        let mut seen = Vec::new();
        let mut reader = open(server.url(), &user, &id, None).await.unwrap();
        while stored(&seen).len() < cut {
            seen.push(reader.next_within(Duration::from_secs(10)).await.unwrap().expect("more is to come"));
        }
        drop(reader);
        let last = seen.iter().rev().find(|event| !event.id.is_empty()).unwrap().id.clone();
        let rest = read(server.url(), &user, &id, Some(&last)).await;
        seen.extend(rest);
        let fresh = read(server.url(), &user, &id, None).await;
        is_whole(&fresh);
        assert_eq!(stored(&seen), stored(&fresh), "cut after {cut}");
    }
}

#[tokio::test]
async fn a_finished_answer_is_replayed_from_any_place_and_not_after_its_end() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let id = accepted(server.url(), "late", ANSWER).await;
    let first = read(server.url(), "late", &id, None).await;
    is_whole(&first);
    let late = read(server.url(), "late", &id, None).await;
    assert_eq!(stored(&late), stored(&first), "a late first reader misses nothing");
    for (place, event) in stored(&first).iter().enumerate() {
        let rest = stored(&read(server.url(), "late", &id, Some(&event.id)).await);
        assert_eq!(rest, stored(&first)[place + 1..]);
    }
    let last = stored(&first).last().unwrap().id.clone();
    assert!(open(server.url(), "late", &id, Some(&last)).await.is_none(), "204 after the end");
}

#[tokio::test]
async fn a_late_first_reader_gets_everything() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let id = accepted(server.url(), "alice", ANSWER).await;
    while agent.journal().stats().answered == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_whole(&read(server.url(), "alice", &id, None).await);
}

#[tokio::test]
async fn two_readers_get_the_same() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let id = accepted(server.url(), "alice", ANSWER).await;
    let (one, two) =
        tokio::join!(read(server.url(), "alice", &id, None), read(server.url(), "alice", &id, None));
    is_whole(&one);
    assert_eq!(stored(&one), stored(&two));
}

#[tokio::test]
async fn a_restart_keeps_answers_readable() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let id = accepted(server.url(), "alice", ANSWER).await;
    let before = read(server.url(), "alice", &id, None).await;
    server.kill().await;
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    assert_eq!(stored(&read(server.url(), "alice", &id, None).await), stored(&before));
    let second = stored(&before)[1].id.clone();
    assert_eq!(stored(&read(server.url(), "alice", &id, Some(&second)).await), stored(&before)[2..]);
    assert_eq!(server.terminate().await, Some(0));
}

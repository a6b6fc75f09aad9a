//! Answers as streams: cut anywhere, resumed, late, and read by two.

use crate::support::{accepted, open, read, serve, stored, try_open};
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
            seen.push(reader.next_within(Duration::from_secs(60)).await.unwrap().expect("more is to come"));
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

/// Reads until the connection breaks or the answer ends.
async fn read_what_comes(url: String, user: String, id: String) -> Vec<SseEvent> {
    let mut seen = Vec::new();
    // The server may be killed before it takes the connection.
    let Ok(mut reader) = try_open(&url, &user, &id, None).await else { return seen };
    assert_eq!(reader.status, 200);
    while let Ok(Some(event)) = reader.next_within(Duration::from_secs(30)).await {
        seen.push(event);
    }
    seen
}

#[tokio::test]
async fn a_stream_cut_by_a_kill_and_resumed_is_the_same() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let port = u16::try_from(server.ready["port"].as_u64().unwrap()).unwrap();
    let (mut interrupted, mut whole) = (0, 0);
    for round in 0..4 {
        let mut readers = tokio::task::JoinSet::new();
        // The kill meets each in another place: before its first event, in the middle, behind its end.
        for number in 0..8 {
            let (url, user) = (server.url().to_owned(), format!("killed-{round}-{number}"));
            let id = accepted(&url, &user, &format!("hello [[delay={} events=6 gap=25]]", number * 25)).await;
            readers.spawn(async move { (user.clone(), id.clone(), read_what_comes(url, user, id).await) });
        }
        let answered = agent.journal().stats().answered;
        while agent.journal().stats().answered == answered {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().await;
        let readings = readers.join_all().await;
        server = serve(folder.path(), port, Some(&agent.base_url()), &[]).await;
        for (user, id, mut seen) in readings {
            let last = seen.iter().rev().find(|event| !event.id.is_empty()).map(|event| event.id.clone());
            seen.extend(read(server.url(), &user, &id, last.as_deref()).await);
            let fresh = read(server.url(), &user, &id, None).await;
            assert_eq!(stored(&seen), stored(&fresh), "{user}");
            match stored(&fresh).last().unwrap().event.as_str() {
                "error" => interrupted += 1,
                _ => whole += 1,
            }
        }
    }
    assert!(interrupted > 0 && whole > 0, "the kills missed: {interrupted} interrupted, {whole} whole");
    assert_eq!(server.terminate().await, Some(0));
}

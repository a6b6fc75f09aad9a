//! What each answer of an agent does to its turn, and that the next one starts.

use std::net::{SocketAddr, TcpListener};

use turnwise_broker::{BrokerConfig, TurnEvent, TurnState};
use turnwise_mock::AgentConfig;

use crate::{Stage, agent_data};

enum Expect {
    Answer,
    NoAnswer,
    Error(&'static str, u16),
}

/// Sends one message and one after it in the same conversation.
async fn check(stage: &Stage, message: &str, stream: bool, expect: Expect) {
    let what = format!("{message} stream={stream}");
    let first = stage.submit(&what, message, stream).await;
    let second = stage.submit(&what, "and then", stream).await;
    let end = stage.end(first.id).await;
    match expect {
        Expect::Answer | Expect::NoAnswer => {
            assert_eq!(end.state, TurnState::Completed, "{what}: {:?}", end.error);
            assert_eq!(end.answer.is_some(), matches!(expect, Expect::Answer), "{what}");
            assert_eq!(end.error, None, "{what}");
        }
        Expect::Error(code, status) => {
            let error = end.error.expect(&what);
            assert_eq!((error.code.as_str(), error.status), (code, status), "{what}: {}", error.detail);
            assert_eq!(end.state, TurnState::Failed, "{what}");
        }
    }
    assert_eq!(stage.end(second.id).await.state, TurnState::Completed, "the turn after {what}");
    let events = stage.events(&what, first.id).await;
    let terminals = events.iter().filter(|event| {
        matches!(event, TurnEvent::Done { .. } | TurnEvent::Error { .. } | TurnEvent::Cancelled { .. })
    });
    assert_eq!(terminals.count(), 1, "{what}: {events:?}");
}

#[tokio::test]
async fn plain_answers() {
    let stage = Stage::running(AgentConfig::default()).await;
    check(&stage, "hello", false, Expect::Answer).await;
    check(&stage, "[[delay=50]]", false, Expect::Answer).await;
    check(&stage, "[[size=300000]]", false, Expect::Answer).await;
    check(&stage, "[[hang]]", false, Expect::Error("agent_timeout", 504)).await;
    check(&stage, "[[status=400]]", false, Expect::Error("agent_rejected", 400)).await;
    check(&stage, "[[status=404]]", false, Expect::Error("agent_rejected", 404)).await;
    check(&stage, "[[status=500]]", false, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[status=503]]", false, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[status=302]]", false, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[garbage]]", false, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[cut]]", false, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[cut events=0]]", false, Expect::Error("agent_error", 502)).await;
    let verdict = stage.verdict();
    assert!(verdict.is_clean(), "{:?}", verdict.violations);
    assert_eq!(verdict.calls, 24, "one call per turn");
}

#[tokio::test]
async fn streamed_answers() {
    let stage = Stage::running(AgentConfig::default()).await;
    check(&stage, "hello", true, Expect::Answer).await;
    check(&stage, "[[events=5 gap=5]]", true, Expect::Answer).await;
    check(&stage, "[[end=named]]", true, Expect::Answer).await;
    check(&stage, "[[end=done]]", true, Expect::NoAnswer).await;
    check(&stage, "[[end=marker]]", true, Expect::NoAnswer).await;
    check(&stage, "[[end=none]]", true, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[error]]", true, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[garbage]]", true, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[status=400]]", true, Expect::Error("agent_rejected", 400)).await;
    check(&stage, "[[status=500]]", true, Expect::Error("agent_error", 502)).await;
    check(&stage, "[[events=0 hang]]", true, Expect::Error("agent_timeout", 504)).await;
    check(&stage, "[[events=2 hang]]", true, Expect::Error("agent_error", 502)).await;
    let verdict = stage.verdict();
    assert!(verdict.is_clean(), "{:?}", verdict.violations);
}

#[tokio::test]
async fn a_broken_stream_keeps_what_came() {
    let stage = Stage::running(AgentConfig::default()).await;
    for message in ["[[events=2 gap=20 cut]]", "[[events=2 gap=20 hang]]", "[[events=2 gap=20 end=none]]"] {
        check(&stage, message, true, Expect::Error("agent_error", 502)).await;
        let turn = stage.submit(message, message, true).await;
        stage.end(turn.id).await;
        let parts = agent_data(&stage.events(message, turn.id).await);
        assert_eq!(parts.len(), 2, "{message}: {parts:?}");
        assert!(parts[1].contains("part 2"), "{message}: {parts:?}");
    }
}

#[tokio::test]
async fn a_slow_stream_may_take_longer_than_the_timeout() {
    let stage = Stage::running(AgentConfig::default()).await;
    check(&stage, "[[events=8 gap=100]]", true, Expect::Answer).await;
}

#[tokio::test]
async fn a_busy_agent_is_waited_for_at_the_head() {
    let stage = Stage::running(AgentConfig::default()).await;
    for (message, stream) in
        [("[[status=503 retry_after=1 times=1]]", false), ("[[status=429 retry_after_ms=100 times=1]]", true)]
    {
        check(&stage, message, stream, Expect::Answer).await;
    }
    let log = stage.agent.journal().log();
    assert_eq!(log.attempts.values().copied().collect::<Vec<_>>(), [2, 2]);
    let mut attempts: Vec<u32> = log.calls.iter().map(|call| call.attempt).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 1, 1, 1, 2, 2]);
    assert!(stage.verdict().is_clean());
}

#[tokio::test]
async fn nobody_at_the_address_is_503() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    let closed = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    stage.config.base_url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    stage.start();
    for stream in [false, true] {
        let turn = stage.submit("u", "hello", stream).await;
        let error = stage.end(turn.id).await.error.unwrap();
        assert_eq!((error.code.as_str(), error.status), ("agent_unreachable", 503));
    }
}

#[tokio::test]
async fn a_flood_of_events_arrives_whole_and_in_order() {
    let stage = Stage::running(AgentConfig::default()).await;
    for message in ["[[events=3000]]", "[[events=300 gap=1]]"] {
        let turn = stage.submit("u", message, true).await;
        assert_eq!(stage.end(turn.id).await.state, TurnState::Completed);
        let parts = agent_data(&stage.events("u", turn.id).await);
        let count = parts.len() - 1;
        assert_eq!(count, if message.contains("gap") { 300 } else { 3000 });
        for (number, part) in parts.iter().take(count).enumerate() {
            assert!(part.contains(&format!("part {} ", number + 1)), "{part}");
        }
        assert!(parts[count].contains("\"complete\""));
    }
}

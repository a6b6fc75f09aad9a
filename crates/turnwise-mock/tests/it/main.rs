//! The fake agent over real sockets: routes, faults, journal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use turnwise_mock::{AgentConfig, CallOutcome, Conn, FakeAgent, FaultRule, Log, SseEvent};

async fn agent(config: AgentConfig) -> FakeAgent {
    FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), config).await.unwrap()
}

fn chat(message: &str) -> String {
    json!({"client_id": "web", "user_id": "u", "org": "o", "message": message, "message_type": "text"})
        .to_string()
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came about");
        tokio::task::yield_now().await;
    }
}

async fn stream(agent: &FakeAgent, message: &str) -> Result<Vec<SseEvent>, turnwise_mock::ClientError> {
    let body = Bytes::from(chat(message));
    let mut reader = Conn::new(&agent.base_url()).sse(Method::POST, "/api/v1/chat/stream", &[], body).await?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_within(Duration::from_secs(60)).await? {
        events.push(event);
    }
    Ok(events)
}

#[tokio::test]
async fn a_plain_call_is_answered_and_recorded() {
    let agent = agent(AgentConfig::default()).await;
    let mut conn = Conn::new(&agent.base_url());
    let headers = [("idempotency-key", "m1"), ("x-turnwise-attempt", "2")];
    let answer = conn.call(Method::POST, "/api/v1/chat", &headers, chat("hello").into()).await.unwrap();
    let body: Value = answer.json().unwrap();
    assert_eq!(body["responses"], json!(["You said: hello"]));
    assert_eq!(body["voice_audio_base64"], Value::Null);
    let log: Log = conn.get("/log").await.unwrap().json().unwrap();
    let call = &log.calls[0];
    assert_eq!(
        (call.message_id.as_str(), call.attempt, call.outcome),
        ("m1", 2, Some(CallOutcome::Answered))
    );
    assert_eq!(call.conversation, turnwise_mock::conversation_of_user("o", "u"));
    assert!(call.started < call.ended.unwrap());
    conn.delete("/log").await.unwrap();
    assert!(agent.journal().calls().is_empty());
    agent.stop().await;
    assert!(conn.get("/health").await.is_err());
}

#[tokio::test]
async fn a_stream_has_its_events_and_one_end() {
    let agent = agent(AgentConfig::default()).await;
    let events = stream(&agent, "hi [[events=4 gap=1]]").await.unwrap();
    assert_eq!(events.len(), 5);
    let last: Value = serde_json::from_str(&events[4].data).unwrap();
    assert_eq!(last["type"], "complete");
    assert!(last["response"]["responses"][0].as_str().unwrap().starts_with("You said"));
    assert_eq!(stream(&agent, "[[events=0 end=marker]]").await.unwrap()[0].data, "[DONE]");
    assert_eq!(stream(&agent, "[[events=0 end=named]]").await.unwrap()[0].event, "complete");
    assert!(stream(&agent, "[[events=2 cut]]").await.is_err());
    assert_eq!(agent.journal().stats().broken, 1);
}

#[tokio::test]
async fn faults_strike_as_planned() {
    let rule = FaultRule { every: 5, fault: "status=500".into() };
    let agent =
        agent(AgentConfig { faults: vec![rule], api_key: Some("k".into()), ..AgentConfig::default() }).await;
    let mut conn = Conn::new(&agent.base_url()).with_header("authorization", "Bearer k");
    for (message, status) in [
        ("[[status=503 retry_after=7 times=2]]", 503),
        ("[[status=503 retry_after=7 times=2]]", 503),
        ("[[status=503 retry_after=7 times=2]]", 200),
        ("[[status=429 retry_after_ms=50]]", 429),
        ("every fifth", 500),
        ("[[garbage]]", 200),
    ] {
        let answer = conn.post("/api/v1/chat", chat(message)).await.unwrap();
        assert_eq!(answer.status, status, "{message}");
        if status == 503 {
            assert_eq!(answer.header("retry-after"), "7");
        }
        if status == 429 {
            assert_eq!(answer.json::<Value>().unwrap()["retry_after_ms"], 50);
        }
    }
    assert!(conn.post("/api/v1/chat", chat("[[cut]]")).await.is_err());
    let mut stranger = Conn::new(&agent.base_url());
    assert_eq!(stranger.post("/api/v1/chat", chat("x")).await.unwrap().status, 401);
    let wrong =
        AgentConfig { faults: vec![FaultRule { every: 1, fault: "bogus".into() }], ..AgentConfig::default() };
    assert!(FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), wrong).await.is_err());
}

#[tokio::test]
async fn a_caller_who_leaves_and_an_overlap_are_seen() {
    let agent = agent(AgentConfig { slots: Some(1), ..AgentConfig::default() }).await;
    let mut first = Conn::new(&agent.base_url());
    let mut hanging = tokio::task::JoinSet::new();
    hanging.spawn(async move { first.post("/api/v1/chat", chat("[[hang]]")).await });
    until(|| agent.journal().stats().in_flight == 1).await;
    let mut second = Conn::new(&agent.base_url());
    let refused = second.post("/api/v1/chat", chat("too many")).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    hanging.shutdown().await;
    until(|| agent.journal().stats().abandoned == 1).await;
    assert_eq!(agent.journal().stats().overlaps, 1);
}

//! Log lines of the whole program: JSON, related by ids, and nothing of what
//! people said or who they are.

use crate::support::{PATIENCE, Running, turnwise};
use http::Method;
use serde_json::Value;
use std::fs::File;
use turnwise_mock::{Conn, FakeAgent};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Parts of what must never be in a line.
const PRIVATE: [&str; 6] =
    ["a-secret-text", "a-private-user", "a-private-org", "a-private-client", "a-private-chat", "a-key"];

#[tokio::test]
async fn json_logs_relate_request_message_and_trace_and_say_nothing_private() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let log = folder.path().join("log");
    let mut command = turnwise(folder.path());
    command.args(["serve", "--port", "0", "--json"]).stderr(File::create(&log).unwrap());
    command.env("TURNWISE_LOG_FORMAT", "json").env("LOG_LEVEL", "DEBUG");
    command.env("BROKER_API_KEY", "a-key").env("WORKER_BASE_URL", agent.base_url());
    command.env("WORKER_API_KEY", "a-key-of-the-agent");
    let server = Running::start(&mut command).await;
    let body = r#"{"user_id":"a-private-user","org_id":"a-private-org","client_id":"a-private-client",
        "chat_type":"group","chat_id":"a-private-chat","message":"a-secret-text"}"#;
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("x-request-id", "request-7"), ("traceparent", &traceparent), ("x-api-key", "a-key")];
    let mut conn = Conn::new(server.url());
    let send = conn.call(Method::POST, "/api/v1/message", &headers, body.into());
    let answer = tokio::time::timeout(PATIENCE, send).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
    let id = answer.json::<Value>().unwrap()["message_id"].as_str().unwrap().to_owned();
    let refused = [("x-request-id", "request-8"), ("x-api-key", "a-key-that-is-wrong")];
    conn.call(Method::GET, "/api/v1/queue/a-private-user", &refused, "".into()).await.unwrap();
    assert_eq!(server.terminate().await, Some(0));

    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    let line = |what: &str| {
        let is = |line: &&Value| line["message"] == what;
        lines.iter().find(is).unwrap_or_else(|| panic!("no line {what:?} in {text}"))
    };
    let request = line("a request was answered");
    assert_eq!(request["request_id"], "request-7");
    assert_eq!(request["message_id"], id.as_str());
    assert_eq!(request["trace_id"], TRACE);
    assert_eq!((&request["route"], &request["status"]), (&"/api/v1/message".into(), &200.into()));
    let turn = line("turn answered");
    assert_eq!(turn["message_id"], id.as_str());
    assert_eq!(turn["trace_id"], TRACE);
    assert!(turn["wait_ms"].is_u64() && turn["ms"].is_u64(), "{turn}");
    let refused = lines.iter().find(|line| line["request_id"] == "request-8").unwrap();
    assert_eq!((&refused["code"], &refused["status"]), (&"invalid_key".into(), &403.into()));
    for private in PRIVATE {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

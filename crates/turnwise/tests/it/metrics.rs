//! `/metrics` of the whole program: what it names, and that nothing from
//! outside becomes a label.

use crate::page::Page;
use crate::support::{Running, accepted, read, serve};
use http::Method;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use turnwise_mock::{Conn, FakeAgent};

/// Requests with ids of their own.
const IDS: usize = 10_000;
/// Clients that send them.
const CLIENTS: usize = 8;

async fn page(url: &str) -> Page {
    let answer = Conn::new(url).get("/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    let kind = answer.headers.get("content-type").unwrap().to_str().unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Page::read(std::str::from_utf8(&answer.body).unwrap())
}

async fn with_agent(folder: &std::path::Path) -> (Running, FakeAgent) {
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    (serve(folder, 0, Some(&agent.base_url()), &[]).await, agent)
}

#[tokio::test]
async fn metrics_name_exactly_what_the_list_says_and_count_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _agent) = with_agent(folder.path()).await;
    let id = accepted(server.url(), "alice", "hello").await;
    assert!(!read(server.url(), "alice", &id, None).await.is_empty());
    let page = page(server.url()).await;
    let list = page.list();
    assert_eq!(list, include_str!("metrics.txt"), "the page has:\n{list}");
    let is = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(page.value(name, labels), Some(expected), "{name} {labels:?}");
    };
    is("turnwise_turns_accepted_total", &[], 1.0);
    is("turnwise_turns_ended_total", &[("outcome", "completed")], 1.0);
    is("turnwise_turns_ended_total", &[("outcome", "agent_error")], 0.0);
    is("turnwise_turn_wait_seconds_count", &[], 1.0);
    is("turnwise_turn_run_seconds_count", &[], 1.0);
    is("turnwise_agent_calls_total", &[("answer", "answered")], 1.0);
    is("turnwise_agent_calls_in_flight", &[], 0.0);
    is("turnwise_store_condition", &[("condition", "open")], 1.0);
    let post = [("route", "/api/v1/message"), ("method", "POST"), ("status", "2xx")];
    is("turnwise_http_requests_total", &post, 1.0);
    assert!(page.value("turnwise_store_commit_seconds_count", &[]) >= Some(2.0));
    assert!(page.value("process_resident_memory_bytes", &[]) > Some(1e6));
    assert!(page.value("turnwise_stream_events_total", &[]) >= Some(3.0));
}

/// Ids as they come from outside, in every place that takes one.
async fn visit(conn: &mut Conn, number: usize, word: &str) {
    let id = format!("{word}-{number:x}");
    let message = format!("{number:08x}-0000-8000-8000-{number:012x}");
    let (method, path) = match number % 6 {
        0 => (Method::POST, "/api/v1/message".to_owned()),
        1 => (Method::GET, format!("/api/v1/queue/{id}?org_id={id}")),
        2 => (Method::GET, format!("/api/v1/message/{message}")),
        3 => (Method::DELETE, format!("/api/v1/message/{message}")),
        4 => (Method::GET, format!("/api/v1/stream?user_id={id}&message_id={message}")),
        _ => (Method::GET, format!("/{id}/{id}")),
    };
    let body = match number % 6 {
        0 => format!(r#"{{"user_id":"{id}","org_id":"{id}","client_id":"{id}","message":"x"}}"#),
        _ => String::new(),
    };
    let headers = [("prefer", "respond-async"), ("x-request-id", id.as_str()), ("x-api-key", id.as_str())];
    conn.call(method, &path, &headers, body.into()).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_ids_from_outside_add_no_series_to_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[("TURNWISE_STORE", "memory")]).await;
    let url = server.url().to_owned();
    let mut conn = Conn::new(&url);
    for number in 0..6 {
        visit(&mut conn, number, "known").await;
    }
    page(&url).await;
    let before: BTreeSet<String> = page(&url).await.series();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut conn = Conn::new(&url);
        clients.spawn(async move {
            for number in (client..IDS).step_by(CLIENTS) {
                visit(&mut conn, number, "tenant").await;
            }
        });
    }
    clients.join_all().await;
    let text = Conn::new(&url).get("/metrics").await.unwrap().body;
    assert!(!String::from_utf8_lossy(&text).contains("tenant"), "an id from outside became a label");
    let page = page(&url).await;
    assert_eq!(page.series(), before);
    let posts = IDS.div_ceil(6) + 1;
    assert_eq!(page.value("turnwise_turns_accepted_total", &[]), Some(posts as f64));
}

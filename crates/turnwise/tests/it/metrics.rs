//! `/metrics` of the whole program: what it names, and that nothing from
//! outside becomes a label.

use crate::page::Page;
use crate::support::{PATIENCE, Running, accepted, read, serve, submit_for};
use http::Method;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use turnwise_mock::{Answering, CallbackReceiver, Conn, FakeAgent};
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::{Server, redis};

/// Requests with ids of their own.
const IDS: usize = 10_000;
/// Clients that send them.
const CLIENTS: usize = 8;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn page(url: &str) -> Page {
    let answer = Conn::new(url).get("/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    let kind = answer.headers.get("content-type").unwrap().to_str().unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Page::read(std::str::from_utf8(&answer.body).unwrap())
}

async fn with_agent(folder: &std::path::Path) -> (Running, FakeAgent) {
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let env =
        [("TURNWISE_CALLBACKS_SECRET", SECRET), ("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1")];
    (serve(folder, 0, Some(&agent.base_url()), &env).await, agent)
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

/// What a node with this store tells: what an engine on a server counts in the place of the folder's words.
fn expected_of_server() -> String {
    let (mut list, mut is_told) = (String::new(), false);
    for line in include_str!("metrics.txt").lines() {
        match ["commit_seconds", "commit_operations", "live_bytes", "condition"]
            .iter()
            .any(|word| line.contains(&format!(" turnwise_store_{word}")))
        {
            true if is_told => {}
            true => {
                list += include_str!("metrics_server.txt");
                is_told = true;
            }
            false => list += &format!("{line}\n"),
        }
    }
    list
}

/// Asks for the page until it says what is waited for.
async fn page_when(url: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    let asked = async {
        loop {
            let page = page(url).await;
            if is_so(&page) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the page says so")
}

/// A turn, then the store's server killed and started again, as the page tells it.
async fn an_engine_counts(store: &str, server: &Server) {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let env = [("TURNWISE_STORE", store), ("TURNWISE_CALLBACKS_SECRET", SECRET)];
    let node = serve(folder.path(), 0, Some(&agent.base_url()), &env).await;
    let id = accepted(node.url(), "alice", "hello").await;
    assert!(!read(node.url(), "alice", &id, None).await.is_empty());
    let told = page(node.url()).await;
    let list = told.list();
    assert_eq!(list, expected_of_server(), "the page has:\n{list}");
    let times = |page: &Page, operation| {
        let labels = [("operation", operation)];
        page.value("turnwise_store_operation_seconds_count", &labels).expect("it is on the list")
    };
    for operation in ["enqueue", "claim", "settle", "read"] {
        assert!(times(&told, operation) >= 1.0, "{operation}");
    }
    assert!(told.value("turnwise_store_connection_wait_seconds_count", &[]) >= Some(4.0));
    assert_eq!(told.value("turnwise_store_losses_total", &[]), Some(0.0));
    let errors = |page: &Page| page.value("turnwise_store_errors_total", &[("kind", "unavailable")]);
    let state = |page: &Page, state| page.value("turnwise_store_connections", &[("state", state)]).unwrap();
    assert!(state(&told, "in_use") + state(&told, "idle") >= 1.0);
    let before = told.value("turnwise_store_reconnects_total", &[]);
    server.kill();
    let away = page_when(node.url(), |page| {
        let failed = page.value("turnwise_store_connects_failed_total", &[]) > Some(0.0);
        failed && errors(page) > errors(&told) && state(page, "idle") + state(page, "in_use") == 0.0
    });
    away.await;
    server.restart();
    let back = page_when(node.url(), |page| {
        let again = page.value("turnwise_store_reconnects_total", &[]) > before;
        again && page.value("turnwise_store_up", &[]) == Some(1.0)
    });
    let back = back.await;
    assert_eq!(back.value("turnwise_store_losses_total", &[]), Some(0.0), "nothing was lost");
    assert_eq!(node.terminate().await, Some(0));
}

#[tokio::test]
async fn redis_counts_operations_errors_and_connections() {
    let Some(server) = redis::start() else { return };
    an_engine_counts(&redis::url(&server), &server).await;
}

#[tokio::test]
async fn postgres_counts_operations_errors_and_connections() {
    let Some(server) = Postgres::start() else { return };
    an_engine_counts(&server.url("counted"), server.server()).await;
}

/// One callback is taken when it comes again, the other is refused.
#[tokio::test]
async fn callbacks_are_counted_by_what_became_of_them_and_stand_in_the_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _agent) = with_agent(folder.path()).await;
    let answering: Answering = Arc::new(|before, one| match one.user_id.as_str() {
        "bob" => http::StatusCode::GONE,
        _ if before.iter().any(|it| it.message_id == one.message_id) => http::StatusCode::OK,
        _ => http::StatusCode::INTERNAL_SERVER_ERROR,
    });
    let address = ([127, 0, 0, 1], 0).into();
    let receiver = CallbackReceiver::start(address, Some(SECRET), answering).await.unwrap();
    let mut conn = Conn::new(server.url());
    let hook = receiver.url("/");
    let mut steps = Vec::new();
    for user in ["alice", "bob"] {
        let (_, told) = submit_for(&mut conn, user, "hello", None, Some(&hook)).await.unwrap();
        let path = format!("/api/v1/message/{}", told["message_id"].as_str().unwrap());
        let wait = async {
            loop {
                let turn: Value = conn.get(&path).await.unwrap().json().unwrap();
                let callback = turn["callback"]["status"].as_str().unwrap().to_owned();
                if callback == "delivered" || callback == "dead" {
                    return turn;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let turn = tokio::time::timeout(PATIENCE, wait).await.expect("the callback is over");
        let timeline = turn["timeline"].as_array().unwrap().clone();
        let times: Vec<&str> = timeline.iter().map(|step| step["at"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{turn}");
        let last = timeline.iter().rev().take(3).rev();
        steps.extend(last.map(|step| (step["step"].as_str().unwrap().to_owned(), step["attempt"].clone())));
    }
    let step = |name: &str, attempt: Value| (name.to_owned(), attempt);
    let end = || [step("completed", Value::Null), step("callback_queued", Value::Null)];
    let [first, second] = [end(), end()];
    let delivered = step("callback_delivered", 2.into());
    let dead = step("callback_dead", 1.into());
    let expected: Vec<_> = first.into_iter().chain([delivered]).chain(second).chain([dead]).collect();
    assert_eq!(steps, expected);
    let wait = async {
        // What is held is counted once a second.
        loop {
            let page = page(server.url()).await;
            if page.value("turnwise_callbacks", &[("stage", "dead")]) == Some(1.0) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let page = tokio::time::timeout(PATIENCE, wait).await.expect("the dead one is counted");
    let is = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(page.value(name, labels), Some(expected), "{name} {labels:?}");
    };
    is("turnwise_callback_tries_total", &[("outcome", "delivered")], 1.0);
    is("turnwise_callback_tries_total", &[("outcome", "again")], 1.0);
    is("turnwise_callback_tries_total", &[("outcome", "dead")], 1.0);
    is("turnwise_callbacks_again_total", &[("reason", "status_5xx")], 1.0);
    is("turnwise_callbacks_given_up_total", &[("reason", "refused")], 1.0);
    is("turnwise_callbacks", &[("stage", "waiting")], 0.0);
    is("turnwise_callbacks_in_flight", &[], 0.0);
    is("turnwise_oldest_waiting_callback_seconds", &[], 0.0);
    is("turnwise_callback_try_seconds_count", &[], 3.0);
    is("turnwise_callback_delivery_seconds_count", &[], 1.0);
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

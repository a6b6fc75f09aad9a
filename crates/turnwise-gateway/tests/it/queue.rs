//! The queue of a user, and the probes.

use crate::client::{get, post};
use crate::node::{answered, body, body_of, node, node_on, node_with};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::BrokerConfig;
use turnwise_core::Store;
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;
use turnwise_testkit::faulty::{Fault, FaultyStore, Op};

#[tokio::test]
async fn a_queue_counts_without_the_one_in_progress() {
    let node = node(|_| {}).await;
    let queue = async || node.send(&get("/api/v1/queue/u")).await.json();
    let unknown = node.send(&get("/api/v1/queue/nobody%2Fat%20all")).await.json();
    assert_eq!(unknown["user_id"], "nobody/at all");
    let zeros = json!({"queue_length":0,"is_processing":false,"current_message_id":null,
        "oldest_waiting_seconds":null,"conversations":[],"user_id":"nobody/at all"});
    assert_eq!(unknown, zeros);
    node.submit("1").await;
    node.submit("2").await;
    assert_eq!(queue().await["queue_length"], 2);
    let turn = node.claim().await;
    let now = queue().await;
    assert_eq!((&now["queue_length"], &now["is_processing"]), (&json!(1), &json!(true)));
    assert_eq!(now["current_message_id"], turn.id.to_string());
    assert!(now["oldest_waiting_seconds"].is_f64());
    assert_eq!(now["conversations"][0]["chat_type"], "private");
    node.finish(&turn, answered("1")).await;
    assert_eq!(queue().await["is_processing"], false);
}

#[tokio::test]
async fn the_health_of_a_node() {
    let check = async |agent: Option<bool>, status: &str| {
        let node = node(|config| config.agent = Arc::new(move || agent)).await;
        let health = node.send(&get("/health")).await;
        let expected = json!({"status":status,"redis_connected":true,"active_queues":0,
            "messages_processing":0,"worker_connected":agent == Some(true)});
        assert_eq!((health.status, health.json()), (200, expected));
        let ready = node.send(&get("/readyz")).await;
        assert_eq!((ready.status, ready.json()), (200, json!({"status":"ready"})));
    };
    check(Some(true), "healthy").await;
    check(Some(false), "degraded").await;
    check(None, "degraded").await;
    let node = node(|_| {}).await;
    assert_eq!(node.send(&get("/livez")).await.json(), json!({"status":"live"}));
    let mut verbose = node.send(&get("/readyz?verbose")).await.json();
    assert!(verbose["store_ms"].take().is_number(), "{verbose}");
    let checks = verbose["checks"].take();
    assert_eq!(verbose, json!({"status":"ready","store":"ok","agent":"ok","store_ms":null,"checks":null}));
    let names: Vec<&str> = checks.as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["ping", "write_read", "pub_sub", "queue"]);
}

#[tokio::test]
async fn an_org_with_too_many_turns_is_told_so_and_others_are_not() {
    let config = BrokerConfig { org_turns_waiting_max: 2, ..BrokerConfig::default() };
    let node = node_with(config, |_| {}).await;
    let send = |org: &str, user: &str| post(&body_of(org, user, "hi")).header("Prefer", "respond-async");
    for user in ["ann", "bob"] {
        assert_eq!(node.send(&send("a", user)).await.status, 200);
    }
    let refused = node.send(&send("a", "eve")).await;
    refused.assert_problem(429, "queue_depth_exceeded");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(node.send(&send("b", "eve")).await.status, 200);
}

#[tokio::test]
async fn so_many_organisations_and_no_more() {
    let config = BrokerConfig { orgs_max: 2, orgs_asked_max: 1, ..BrokerConfig::default() };
    let node = node_with(config, |_| {}).await;
    let send = |org: &str| {
        let named = body("hi").replace(r#""org_id":"o""#, &format!(r#""org_id":"{org}""#));
        post(&named).header("Prefer", "respond-async")
    };
    for org in ["a", "b", "a"] {
        assert_eq!(node.send(&send(org)).await.status, 200);
    }
    let refused = node.send(&send("c")).await;
    refused.assert_problem(422, "invalid_content");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/org_id");
    assert_eq!(node.send(&get("/api/v1/queue/u?org_id=a")).await.json()["queue_length"], 2);
    let unnamed = node.send(&get("/api/v1/queue/u")).await;
    unnamed.assert_problem(422, "invalid_content");
    assert_eq!(unnamed.json()["errors"][0]["pointer"], "?org_id");
}

#[tokio::test]
async fn a_node_whose_store_fails_a_check_is_not_ready_until_it_passes() {
    let store = FaultyStore::new(MemoryStore::new(system_clock()));
    let node = node_on(Arc::clone(&store) as Arc<dyn Store>, BrokerConfig::default(), |_| {}).await;
    let (broker, shutdown) = (node.broker.clone(), CancellationToken::new());
    let checking = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { broker.run_checks(shutdown).await }
    });
    let until = async |status: u16| loop {
        let ready = node.send(&get("/readyz?verbose")).await;
        if ready.status == status {
            return ready;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    store.fail(&[Op::Append], Fault::Refused);
    let refused = until(503).await;
    refused.assert_problem(503, "not_ready");
    assert!(refused.json()["detail"].as_str().unwrap().contains("write_read"), "{}", refused.json());
    store.recover();
    let ready = until(200).await.json();
    let write_read = &ready["checks"][1];
    assert!(write_read["failed"].as_u64() >= Some(1) && write_read["latency_ms"].is_number(), "{ready}");
    shutdown.cancel();
    checking.await.unwrap();
}

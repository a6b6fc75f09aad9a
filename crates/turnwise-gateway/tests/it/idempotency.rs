//! `Idempotency-Key`: the client's id for a message, in a header.

use crate::client::{Call, Reply, post};
use crate::node::{Node, answered, body, body_of, key, node};

fn with_key(json: &str, key: &str) -> Call {
    post(json).header("Prefer", "respond-async").header("Idempotency-Key", key)
}

fn id(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["message_id"].as_str().unwrap().to_owned()
}

async fn waiting(node: &Node) -> u64 {
    node.send(&crate::client::get("/api/v1/queue/u")).await.json()["queue_length"].as_u64().unwrap()
}

#[tokio::test]
async fn an_idempotency_key_is_one_turn_in_every_state_of_it() {
    let node = node(|_| {}).await;
    let first = id(&node.send(&with_key(&body("x"), "k")).await);
    // While it waits, while it runs and when it is over: never a second one.
    assert_eq!(id(&node.send(&with_key(&body("x"), "k")).await), first);
    let turn = node.claim().await;
    let running = node.send(&with_key(&body("x"), "k")).await;
    assert_eq!((id(&running), running.json()["status"].as_str()), (first.clone(), Some("processing")));
    let waits = node.start(with_key(&body("x"), "k").header("Prefer", ""));
    node.finish(&turn, answered("y")).await;
    let joined = waits.await.unwrap();
    assert_eq!((id(&joined), joined.json()["status"].as_str()), (first.clone(), Some("completed")));
    let over = node.send(&with_key(&body("x"), "k")).await;
    assert_eq!((id(&over), over.json()["status"].as_str()), (first, Some("completed")));
    assert_eq!(waiting(&node).await, 0);
}

#[tokio::test]
async fn an_idempotency_key_with_other_content_is_refused() {
    let node = node(|_| {}).await;
    let first = id(&node.send(&with_key(&body("x"), "k")).await);
    let other = node.send(&with_key(&body("y"), "k")).await;
    other.assert_problem(422, "idempotency_conflict");
    assert_eq!(other.json()["message_id"], first.as_str());
    assert_eq!(waiting(&node).await, 1);
}

#[tokio::test]
async fn an_idempotency_key_that_is_none_is_refused() {
    let node = node(|_| {}).await;
    for wrong in ["x".repeat(257), "x".repeat(10_000), "\u{e9}".to_owned(), "a\tb".to_owned()] {
        node.send(&with_key(&body("x"), &wrong)).await.assert_problem(400, "bad_request");
    }
    assert_eq!(waiting(&node).await, 0);
    id(&node.send(&with_key(&body("x"), &"x".repeat(256))).await);
}

#[tokio::test]
async fn an_idempotency_key_of_another_org_is_another_key() {
    let node = node(|config| config.keys = vec![key("o"), key("p")]).await;
    let of = |org: &str| with_key(&body_of(org, "u", "x"), "k").header("X-API-Key", &format!("secret-{org}"));
    let (own, theirs) = (id(&node.send(&of("o")).await), id(&node.send(&of("p")).await));
    assert_ne!(own, theirs);
    let other = with_key(&body_of("p", "u", "y"), "k").header("X-API-Key", "secret-p");
    let conflict = node.send(&other).await;
    conflict.assert_problem(422, "idempotency_conflict");
    assert!(!conflict.text().contains(&own));
}

#[tokio::test]
async fn header_and_client_message_id_are_one_and_the_same() {
    let node = node(|_| {}).await;
    let named = body("x").replace("\"web\"", "\"web\",\"client_message_id\":\"k\"");
    let first = id(&node.send(&with_key(&body("x"), "k")).await);
    assert_eq!(id(&node.send(&post(&named).header("Prefer", "respond-async")).await), first);
    assert_eq!(id(&node.send(&with_key(&named, "k")).await), first);
    let differ = node.send(&with_key(&named, "l")).await;
    differ.assert_problem(422, "invalid_content");
    assert_eq!(differ.json()["errors"][0]["pointer"], "/client_message_id");
    assert_eq!(waiting(&node).await, 1);
}

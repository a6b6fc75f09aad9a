//! Tickets: a browser reads one stream without a key in its hands.

use crate::client::{Call, Reply, call, get, post};
use crate::node::{Node, answered, body, key, node};
use turnwise_gateway::{ApiKey, Scope};

async fn locked() -> Node {
    let reader = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::ConversationsRead], ..key("r") };
    node(|config| {
        config.keys = vec![key("o"), key("p"), reader];
        config.ticket_secret = Some([7; 32]);
    })
    .await
}

async fn submitted(node: &Node, text: &str) -> String {
    let submit = post(&body(text)).header("Prefer", "respond-async").header("X-API-Key", "secret-o");
    node.send(&submit).await.json()["message_id"].as_str().unwrap().to_owned()
}

fn asks(key: &str, json: &str) -> Call {
    let asks = call("POST", "/api/v1/tickets").header("Content-Type", "application/json");
    let asks = asks.header("Content-Length", &json.len().to_string()).wire_body(json.as_bytes().to_vec());
    asks.header("X-API-Key", key)
}

fn stream_of(user: &str, id: &str) -> String {
    format!(r#"{{"stream":{{"user_id":"{user}","message_id":"{id}"}}}}"#)
}

async fn ticket(node: &Node, key: &str, id: &str) -> String {
    let reply = node.send(&asks(key, &stream_of("u", id))).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.json()["first_use_seconds"], 30);
    assert_eq!(reply.json()["lifetime_seconds"], 900);
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

fn path(user: &str, id: &str, ticket: &str) -> String {
    format!("/api/v1/stream?user_id={user}&message_id={id}&ticket={ticket}")
}

async fn refused(node: &Node, path: &str) -> Reply {
    let reply = node.send(&get(path)).await;
    reply.assert_problem(403, "invalid_ticket");
    reply
}

#[tokio::test]
async fn a_ticket_reads_its_stream_again_and_again_to_the_end() {
    let node = locked().await;
    let id = submitted(&node, "x").await;
    let ticket = ticket(&node, "secret-r", &id).await;
    let path = path("u", &id, &ticket);
    let mut stream = get(&path).open(node.address).await;
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.event().await.unwrap().name, "queued");
    let mut again = get(&path).open(node.address).await;
    let turn = node.claim().await;
    node.finish(&turn, answered("y")).await;
    let mut events = again.events().await;
    let begun = events.iter().find(|event| event.id.is_some()).cloned().unwrap();
    let last = events.pop().unwrap();
    assert_eq!(last.name, "done");
    assert_ne!(begun, last);
    assert_eq!(stream.events().await.pop().unwrap(), last);
    // Its end was read: it opens nothing afresh. A reader that lost the last words
    // may have them again; one that has them is told to stop.
    refused(&node, &path).await;
    let lost = get(&path).header("Last-Event-ID", &begun.id.unwrap());
    assert_eq!(lost.open(node.address).await.events().await.pop().unwrap(), last);
    refused(&node, &path).await;
    let over = get(&path).header("Last-Event-ID", &last.id.unwrap());
    assert_eq!(node.send(&over).await.status, 204);
    refused(&node, &path).await;
}

#[tokio::test]
async fn a_ticket_opens_nothing_else() {
    let node = locked().await;
    let (id, other) = (submitted(&node, "x").await, submitted(&node, "y").await);
    let ticket = ticket(&node, "secret-o", &id).await;
    refused(&node, &path("u", &other, &ticket)).await;
    refused(&node, &path("v", &id, &ticket)).await;
    refused(&node, &path("u", &id, "turnwise_tk_0")).await;
    // The first of two counts, for the ticket as for the stream.
    let twice = format!("{}&message_id={other}", path("u", &id, &ticket));
    let mut stream = get(&twice).open(node.address).await;
    assert!(stream.event().await.unwrap().data.contains(&id));
    refused(&node, &format!("{}&message_id={id}", path("u", &other, &ticket))).await;
    // It is no key.
    for elsewhere in [format!("/api/v1/message/{id}"), "/api/v1/queue/u".to_owned()] {
        node.send(&get(&format!("{elsewhere}?ticket={ticket}"))).await.assert_problem(401, "missing_key");
        node.send(&get(&elsewhere).header("X-API-Key", &ticket)).await.assert_problem(403, "invalid_key");
    }
}

#[tokio::test]
async fn tickets_are_given_for_what_the_key_may_read() {
    let node = locked().await;
    let id = submitted(&node, "x").await;
    node.send(&asks("", &stream_of("u", &id))).await.assert_problem(401, "missing_key");
    let foreign = node.send(&asks("secret-p", &stream_of("u", &id)).header("X-Request-Id", "same")).await;
    foreign.assert_problem(404, "not_found");
    let unknown = stream_of("u", "00000000-0000-8000-8000-000000000000");
    let unknown = node.send(&asks("secret-p", &unknown).header("X-Request-Id", "same")).await;
    assert_eq!(foreign.text(), unknown.text());
    node.send(&asks("secret-o", &stream_of("v", &id))).await.assert_problem(404, "not_found");
    node.send(&asks("secret-o", &stream_of("u", "x"))).await.assert_problem(404, "not_found");
    for wrong in ["{}", "[]", r#"{"stream":{"user_id":"u"}}"#, r#"{"stream":"u"}"#, r#"{"streams":{}}"#] {
        node.send(&asks("secret-o", wrong)).await.assert_problem(422, "invalid_content");
    }
    let more = stream_of("u", &id).replacen('{', r#"{"ttl":1,"#, 1);
    node.send(&asks("secret-o", &more)).await.assert_problem(422, "invalid_content");
    node.send(&asks("secret-o", "x")).await.assert_problem(400, "not_json");
}

#[tokio::test]
async fn a_ticket_ends_with_the_key_that_asked_for_it() {
    let node = locked().await;
    let id = submitted(&node, "x").await;
    let path = path("u", &id, &ticket(&node, "secret-r", &id).await);
    let mut stream = get(&path).open(node.address).await;
    assert_eq!(stream.event().await.unwrap().name, "queued");
    node.keys.exchange(vec![key("o")]);
    while stream.event().await.is_some() {}
    refused(&node, &path).await;
}

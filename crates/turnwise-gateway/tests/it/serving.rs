//! The serving loop: request ids, limits of heads and connections, the drain.

use crate::client::{get, post};
use crate::node::{body, node};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let node = node(|_| {}).await;
    let kept = node.send(&get("/livez").header("X-Request-Id", "abc-1")).await;
    assert_eq!(kept.header("x-request-id"), Some("abc-1"));
    let made = node.send(&get("/livez").header("X-Request-Id", "a\"b c")).await;
    assert!(made.header("x-request-id").is_some_and(|id| !id.contains('"')));
    node.send(&get("/none").header("X-Request-Id", "abc-2")).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_node_without_the_role_gateway_answers_monitors_only() {
    let node = node(|config| config.serves_conversations = false).await;
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        assert_eq!(node.send(&get(path)).await.status, 200, "{path}");
    }
    for request in [post(&body("hello")), get("/api/v1/queue/ann"), get("/none")] {
        let reply = node.send(&request).await;
        reply.assert_problem(404, "not_found");
        assert_eq!(reply.json()["detail"], "this node has no role gateway: ask another node");
    }
}

#[tokio::test]
async fn heads_have_a_size() {
    let node = node(|_| {}).await;
    let reply = node.send(&get("/livez").header("X-Long", &"x".repeat(200_000))).await;
    reply.assert_problem(431, "headers_too_large");
    let mut many = get("/livez");
    for number in 0..100 {
        many = many.header(&format!("X-{number}"), "x");
    }
    node.send(&many).await.assert_problem(431, "headers_too_large");
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_ends_with_the_node() {
    let node = node(|_| {}).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let mut buffer = vec![0; 4096];
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 OK"));
    }
    node.drain.close();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    timeout(Duration::from_secs(60), node.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(node.address).await.is_err());
}

//! A fault in a handler is that request's problem and nobody else's.

use crate::client::get;
use crate::node::{answered, node};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_panic_in_a_handler_is_a_problem_and_is_counted() {
    // `/health` asks for the agent's state.
    let fault = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&fault);
    let node = node(|config| {
        config.agent = Arc::new(move || match armed.load(Ordering::SeqCst) {
            true => panic!("a fault, made for this test"),
            false => Some(true),
        });
    })
    .await;
    let id = node.submit("x").await;
    fault.store(true, Ordering::SeqCst);
    for count in 1..=3 {
        let reply = node.send(&get("/health")).await;
        reply.assert_problem(500, "internal");
        assert!(!reply.text().contains("made for this test"), "{}", reply.text());
        assert_eq!(node.counters.panics(), count);
    }
    let turn = node.claim().await;
    node.finish(&turn, answered("fine")).await;
    let shown = node.send(&get(&format!("/api/v1/message/{id}"))).await.json();
    assert_eq!(shown["status"], "completed", "conversations go on: {shown}");
}

#[tokio::test]
async fn the_connection_of_a_panic_goes_on() {
    let node = node(|config| config.agent = Arc::new(|| panic!("a fault, made for this test"))).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let wire = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\
                GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(wire.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 500 ") && text.contains("HTTP/1.1 200 "), "{text}");
}

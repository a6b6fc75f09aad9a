//! More connections than there are places for.

use crate::client::get;
use crate::node::{Node, node};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A connection of this address of the machine.
async fn connect_from(node: &Node, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse::<SocketAddr>().unwrap()).unwrap();
    socket.connect(node.address).await.unwrap()
}

async fn ask(mut stream: TcpStream) -> String {
    stream.write_all(LIVEZ).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer and an end, no reset");
    text
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_so_and_closed() {
    let node = node(|config| config.connections_max = 2).await;
    let held = [connect_from(&node, "127.0.0.1").await, connect_from(&node, "127.0.0.1").await];
    node.until(|counters| counters.connections() == 2).await;
    for _ in 0..3 {
        let reply = node.send(&get("/livez")).await;
        reply.assert_problem(503, "overloaded");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(node.counters.crowded(), 3);
    drop(held);
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(node.send(&get("/livez")).await.status, 200);
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_others() {
    let node = node(|config| config.connections_per_address_max = 2).await;
    let first = connect_from(&node, "127.0.0.2").await;
    let _second = connect_from(&node, "127.0.0.2").await;
    node.until(|counters| counters.connections() == 2).await;
    let third = ask(connect_from(&node, "127.0.0.2").await).await;
    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("retry-after: 1"), "{third}");
    let other = ask(connect_from(&node, "127.0.0.3").await).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    for _ in 0..3 {
        let proxy = ask(connect_from(&node, "127.0.0.1").await).await;
        assert!(proxy.starts_with("HTTP/1.1 200 "), "not counted: {proxy}");
    }
    drop(first);
    node.until(|counters| counters.connections() == 1).await;
    let again = ask(connect_from(&node, "127.0.0.2").await).await;
    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
}

#[tokio::test]
async fn a_crowd_that_says_nothing_holds_no_more_than_its_places() {
    let node = node(|config| config.connections_max = 1).await;
    let held = connect_from(&node, "127.0.0.1").await;
    node.until(|counters| counters.connections() == 1).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(connect_from(&node, "127.0.0.1").await);
    }
    node.until(|counters| counters.crowded() == 100).await;
    assert!(node.counters.connections() <= 65, "{:?}", node.counters);
    // They are let go without having asked anything.
    node.until(|counters| counters.connections() == 1).await;
    drop((held, crowd));
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(node.send(&get("/livez")).await.status, 200);
}

//! Bytes on a socket: what no well-behaved client sends gets one answer and
//! the end of its connection; whatever follows it is never read as a request.

mod table;

use crate::client::get;
use crate::node::{Node, node};
use std::time::Duration;
use table::{Expect, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Would be stored if anybody took it for a request.
const SMUGGLED: &str = "POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\n\
    Content-Type: application/json\r\nContent-Length: 71\r\n\r\n\
    {\"user_id\":\"smuggled\",\"org_id\":\"o\",\"client_id\":\"web\",\"message\":\"hello\"}";
const FOLLOWING: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn exchange(node: &Node, bytes: &[u8], following: &str) -> String {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(&[bytes, following.as_bytes()].concat()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    read.expect("the connection is closed").expect("in order, not by a reset");
    String::from_utf8(answer).unwrap()
}

fn assert_refused(name: &str, status: u16, answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{name}: {answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    assert_eq!(statuses(answer), [status], "{name}: {answer}");
    let header = |wanted: &str| head.lines().find_map(|line| line.strip_prefix(wanted)).map(str::trim);
    assert_eq!(header("content-type:"), Some("application/problem+json"), "{name}: {answer}");
    assert_eq!(header("connection:"), Some("close"), "{name}: {answer}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{name}: {body}"));
    assert_eq!(problem["status"], status, "{name}: {problem}");
    assert_eq!(problem["request_id"].as_str(), header("x-request-id:"), "{name}: {answer}");
}

/// The answers on one connection, by their statuses.
fn statuses(answer: &str) -> Vec<u16> {
    answer.split("HTTP/1.").skip(1).filter_map(|part| part.split(' ').nth(1)?.parse().ok()).collect()
}

#[tokio::test]
async fn malformed_requests_are_refused_and_nothing_after_them_is_read() {
    let rows: Vec<Row> = table::rows();
    let refused = rows.iter().filter(|row| matches!(row.expect, Expect::Refused(_))).count();
    assert!(refused >= 100, "{refused} rows");
    let node = node(|_| {}).await;
    for row in &rows {
        match row.expect {
            Expect::Refused(status) => {
                let answer = exchange(&node, &row.bytes, SMUGGLED).await;
                assert_refused(&row.name, status, &answer);
            }
            Expect::Answered(first) => {
                let answer = exchange(&node, &row.bytes, FOLLOWING).await;
                assert_eq!(statuses(&answer), [first, 200], "{}: {answer}", row.name);
            }
            Expect::Last(status) => {
                let answer = exchange(&node, &row.bytes, SMUGGLED).await;
                assert_eq!(statuses(&answer), [status], "{}: {answer}", row.name);
            }
        }
    }
    let queue = node.send(&get("/api/v1/queue/smuggled")).await.json();
    assert_eq!(queue["queue_length"], 0, "something was taken for a request: {queue}");
}

#[tokio::test]
async fn what_is_refused_above_would_be_stored_by_itself() {
    let node = node(|_| {}).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(SMUGGLED.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let queue = node.send(&get("/api/v1/queue/smuggled")).await.json();
    assert_eq!(queue["queue_length"], 1);
}

#[tokio::test]
async fn an_earlier_request_is_answered_before_the_refusal() {
    let node = node(|_| {}).await;
    let bytes = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
    let answer = exchange(&node, bytes.as_bytes(), SMUGGLED).await;
    assert_eq!(statuses(&answer), [200, 400], "{answer}");
    assert_eq!(node.counters.refused(), 1);
}

#[tokio::test]
async fn requests_that_come_byte_by_byte_are_the_same_requests() {
    let node = node(|_| {}).await;
    let chunked = "POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\n\
        Transfer-Encoding: chunked\r\n\r\n2;x=y\r\n{\"\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let plain = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let wire = [plain, chunked, SMUGGLED, plain, FOLLOWING].concat();
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.split();
    let sending = async {
        for byte in wire.as_bytes() {
            write.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut answer = String::new();
    let ((), read) = tokio::join!(sending, read.read_to_string(&mut answer));
    read.unwrap();
    assert_eq!(statuses(&answer), [200, 400, 200, 200, 200], "{answer}");
}

//! Clients that send or read slower than anybody has patience for.

use crate::client::{Open, get, post};
use crate::node::{Node, allow_files, answered, body, node};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
/// Heads that trickle at once.
const TRICKLES: usize = 1_000;

/// Announces a body of so many bytes and waits until the node reads it.
async fn announce(node: &Node, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let head = format!(
        "POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {bytes}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..], b"HTTP/1.1 100 Continue\r\n\r\n"[..]);
    stream
}

#[tokio::test]
async fn a_body_has_a_total_time_however_steadily_it_trickles() {
    let node = node(|config| config.body_time_max = Duration::from_millis(300)).await;
    let stream = announce(&node, 1_000_000).await;
    let (read, mut write) = stream.into_split();
    let mut trickle = tokio::task::JoinSet::new();
    trickle.spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while write.write_all(b" ").await.is_ok() {
            beat.tick().await;
        }
    });
    let mut read = tokio::io::BufReader::new(read);
    let mut text = String::new();
    let answer = async {
        while !text.contains("request_timeout") {
            assert!(read.read_line(&mut text).await.unwrap() > 0, "{text}");
        }
    };
    timeout(PATIENCE, answer).await.expect("the node does not wait for the whole body");
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("content-type: application/problem+json"), "{text}");
}

#[tokio::test]
async fn who_announces_much_and_sends_little_takes_nothing_from_others() {
    let node = node(|_| {}).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(announce(&node, 40_000_000).await);
    }
    for stream in &mut slow {
        stream.write_all(&vec![b' '; 100_000]).await.unwrap();
    }
    let large = body("hi").replacen('{', &format!("{{{}", " ".repeat(3_000_000)), 1);
    let reply = node.send(&post(&large).header("Prefer", "respond-async")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(slow.len(), 40);
}

#[tokio::test]
async fn a_body_comes_whole_whatever_its_length() {
    let node = node(|config| config.body_bytes_max = 2_000_000).await;
    for length in [10, 65_000, 66_000, 300_000, 1_900_000] {
        let text = "x".repeat(length);
        node.submit(&text).await;
        let turn = node.claim().await;
        assert!(turn.request.windows(text.len()).any(|part| part == text.as_bytes()), "{length}");
        node.finish(&turn, answered("ok")).await;
        let chunked = post("").header("Content-Length", "").header("Transfer-Encoding", "chunked");
        let whole = body(&text);
        let mut wire = Vec::new();
        for part in whole.as_bytes().chunks(50_000) {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let reply = node.send(&chunked.header("Prefer", "respond-async").wire_body(wire)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let turn = node.claim().await;
        assert!(turn.request.windows(text.len()).any(|part| part == text.as_bytes()), "{length}");
        node.finish(&turn, answered("ok")).await;
    }
}

/// Asks for `path` on the node's only connection and never reads the answer.
async fn never_read(node: &Node, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(node.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_connection() {
    let node = node(|config| {
        config.write_stall_max = Duration::from_millis(200);
        config.connections_max = 1;
    })
    .await;
    let id = node.submit("m").await;
    let turn = node.claim().await;
    // More than the buffers of both sides hold.
    node.finish(&turn, answered(&"x".repeat(24_000_000))).await;
    let paths = [format!("/api/v1/message/{id}"), format!("/api/v1/stream?user_id=u&message_id={id}")];
    for (stalled, path) in (1..).zip(paths) {
        let deaf = never_read(&node, &path).await;
        node.until(|counters| counters.stalled() == stalled && counters.connections() == 0).await;
        assert_eq!(node.send(&get("/livez")).await.status, 200, "the place is free again: {path}");
        drop(deaf);
    }
    let mut patient: Open =
        get(&format!("/api/v1/stream?user_id=u&message_id={id}")).open(node.address).await;
    assert_eq!(patient.events().await.last().unwrap().name, "done", "who reads gets everything");
}

/// Opens a connection and sends this.
async fn begin(node: &Node, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// What comes until the node closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the node closes");
    read.expect("in order, not by a reset");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_thousand_heads_that_trickle_end_with_408_and_delay_nobody() {
    allow_files();
    let node = node(|config| config.head_time_max = Duration::from_secs(2)).await;
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..TRICKLES {
        let stream = begin(&node, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
        slow.spawn(async move {
            let (mut read, mut write) = stream.into_split();
            let mut beat = tokio::time::interval(Duration::from_millis(100));
            let mut text = String::new();
            let trickle = async {
                loop {
                    beat.tick().await;
                    if number % 2 == 0 || write.write_all(b"x").await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                read = read.read_to_string(&mut text) => read.map(|_| ()).expect("no reset"),
                () = trickle => {}
            }
            text
        });
    }
    for _ in 0..20 {
        assert_eq!(node.send(&get("/livez")).await.status, 200, "others are served meanwhile");
    }
    let answers = timeout(PATIENCE, slow.join_all()).await.expect("all of them end");
    assert_eq!(answers.len(), TRICKLES);
    for text in answers {
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("request_timeout"), "{text}");
    }
}

#[tokio::test]
async fn silence_ends_a_connection_without_a_word() {
    let node = node(|config| {
        config.head_time_max = Duration::from_secs(1);
        config.keep_alive_max = Duration::from_secs(1);
    })
    .await;
    let mut silent = begin(&node, b"").await;
    assert_eq!(until_closed(&mut silent).await, "", "nothing was asked");
    let mut idle = begin(&node, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let text = until_closed(&mut idle).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "nothing after the answer: {text}");
}

#[tokio::test]
async fn a_request_may_come_later_than_a_head_may_take() {
    let node = node(|config| config.head_time_max = Duration::from_secs(1)).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = begin(&node, request).await;
    let mut buffer = vec![0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stream.write_all(request).await.unwrap();
    let length = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..length].starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_pause_in_a_body_ends_with_408() {
    let node = node(|config| config.body_idle_max = Duration::from_millis(200)).await;
    let mut stream = announce(&node, 1_000_000).await;
    stream.write_all(b"{").await.unwrap();
    let text = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("request_timeout"), "{text}");
}

#[tokio::test]
async fn who_is_refused_by_announced_length_reads_why_although_it_sends_on() {
    let node = node(|config| config.body_bytes_max = 1_024).await;
    let head = b"POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n";
    let stream = begin(&node, head).await;
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        let piece = vec![b' '; 64 * 1024];
        for _ in 0..200 {
            write.write_all(&piece).await.expect("the node reads on for a while");
        }
    };
    let mut text = String::new();
    let ((), read) = tokio::join!(sending, read.read_to_string(&mut text));
    read.unwrap();
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("body_too_large"), "{text}");
}

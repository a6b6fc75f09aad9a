//! Readers of streams that stop, or nearly: they hold little, delay nobody,
//! are dropped, and can go on where they were.

use crate::client::{Call, Event, get, post};
use crate::node::{Node, allow_files, answered, body, body_of, key, node};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnwise_broker::{AgentEvent, Turn};

const STOPPED: usize = 1_000;
const READING: usize = 20;
const EVENTS: usize = 1_000;
const EVENT_BYTES: usize = 4_000;
/// What one stopped reader may hold of the stream's four million bytes.
const HELD_EACH_MAX: usize = 400 * 1024;
/// Long enough for everybody on a busy machine who reads at all.
const STALL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

fn path(id: &str) -> String {
    format!("/api/v1/stream?user_id=u&message_id={id}")
}

/// Asks for a stream with little room for it, and reads nothing.
async fn stopped(node: &Node, id: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(node.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path(id));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn speak(node: &Node, turn: &Turn, events: usize) {
    let filling = "x".repeat(EVENT_BYTES);
    for first in (0..events).step_by(50) {
        let event =
            |n| AgentEvent { name: None, data: Bytes::from(format!("{{\"n\":{n},\"x\":\"{filling}\"}}")) };
        node.broker.append(turn, (first..first + 50).map(event).collect()).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// The number an event of ours carries.
fn number(event: &Event) -> Option<usize> {
    let data: serde_json::Value = serde_json::from_str(&event.data).ok()?;
    data["n"].as_u64()?.try_into().ok()
}

fn numbers(events: &[Event]) -> Vec<usize> {
    events.iter().filter_map(number).collect()
}

/// Bytes of this process's memory that are in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// What waits for a reader that was dropped, and the last whole event's id and number in it.
async fn left_over(mut stream: TcpStream) -> (usize, Option<(String, usize)>) {
    let mut bytes = Vec::new();
    // It may end in a reset; what came before that counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it was dropped");
    let text = String::from_utf8_lossy(&bytes);
    let mut last = None;
    for block in text.split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        let n = field("data: {\"n\":").and_then(|data| data.split(',').next()?.parse().ok());
        let whole = block.ends_with("\"}");
        if let (Some(id), Some(n), true) = (field("id: "), n, whole) {
            last = Some((id, n));
        }
    }
    (bytes.len(), last)
}

#[tokio::test]
async fn a_thousand_readers_that_stop_delay_nobody_and_hold_little() {
    allow_files();
    let node = node(|config| config.write_stall_max = STALL).await;
    let id = node.submit("x").await;
    let turn = node.claim().await;
    let before = resident();
    let mut deaf = Vec::new();
    for _ in 0..STOPPED {
        deaf.push(stopped(&node, &id).await);
    }
    let mut reading = JoinSet::new();
    for _ in 0..READING {
        let stream = get(&path(&id)).open(node.address).await;
        reading.spawn(async move {
            let mut stream = stream;
            stream.events().await
        });
    }
    node.until(|counters| counters.connections() == (STOPPED + READING) as u64).await;
    speak(&node, &turn, EVENTS).await;
    assert_eq!(node.send(&get("/livez")).await.status, 200);
    let held = resident().saturating_sub(before);
    assert!(held < STOPPED * HELD_EACH_MAX, "{} KiB for each stopped reader", held / STOPPED / 1_024);
    node.finish(&turn, answered("over")).await;
    let all = timeout(PATIENCE, reading.join_all()).await.expect("who reads gets everything");
    for events in &all {
        assert_eq!(numbers(events), (0..EVENTS).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap().name, "done");
    }
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(node.counters.stalled(), STOPPED as u64);
    for stream in deaf.into_iter().take(5) {
        let (bytes, last) = left_over(stream).await;
        assert!(bytes < HELD_EACH_MAX, "{bytes} bytes waited for one who did not read");
        let (after, n) = last.expect("some events came before it stopped");
        let rest = get(&path(&id)).header("Last-Event-ID", &after).open(node.address).await.events().await;
        assert_eq!(numbers(&rest), (n + 1..EVENTS).collect::<Vec<_>>());
        assert_eq!(rest.last().unwrap().name, "done");
    }
}

#[tokio::test]
async fn one_of_a_hundred_that_reads_byte_by_byte_is_dropped_and_the_others_are_not() {
    let node = node(|config| config.write_stall_max = STALL).await;
    let id = node.submit("x").await;
    let turn = node.claim().await;
    let slow = stopped(&node, &id).await;
    let mut reading = JoinSet::new();
    for _ in 0..99 {
        let stream = get(&path(&id)).open(node.address).await;
        reading.spawn(async move {
            let mut stream = stream;
            stream.events().await
        });
    }
    let (mut read, _write) = slow.into_split();
    let mut sipping = JoinSet::new();
    sipping.spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        let mut byte = [0];
        while read.read(&mut byte).await.is_ok_and(|length| length > 0) {
            beat.tick().await;
        }
    });
    speak(&node, &turn, EVENTS / 5).await;
    node.finish(&turn, answered("over")).await;
    for events in timeout(PATIENCE, reading.join_all()).await.expect("the others get everything") {
        assert_eq!(numbers(&events), (0..EVENTS / 5).collect::<Vec<_>>());
    }
    node.until(|counters| counters.stalled() == 1 && counters.connections() == 0).await;
    sipping.abort_all();
}

/// Asks on a connection with little room, and reads the head of the answer only.
async fn begun(node: &Node, path: &str) -> (u16, TcpStream) {
    begun_with(node, path, "").await
}

async fn begun_with(node: &Node, path: &str, fields: &str) -> (u16, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(node.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    (std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(), stream)
}

#[tokio::test]
async fn long_answers_that_wait_for_slow_readers_have_one_bound() {
    let node = node(|config| config.answers_bytes_max = 3_000_000).await;
    let id = node.submit("x").await;
    let turn = node.claim().await;
    node.finish(&turn, answered(&"x".repeat(2_000_000))).await;
    let shown = format!("/api/v1/message/{id}");
    let (status, slow) = begun(&node, &shown).await;
    assert_eq!(status, 200);
    let refused = node.send(&get(&shown)).await;
    refused.assert_problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(node.send(&get("/health")).await.status, 200, "short answers need no room");
    // A stream ends before the long event, with its place: who comes back gets it.
    let events = get(&path(&id)).open(node.address).await.events().await;
    assert!(events.iter().all(|event| event.name != "done"), "{} events", events.len());
    drop(slow);
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(node.send(&get(&shown)).await.status, 200);
    let events = get(&path(&id)).open(node.address).await.events().await;
    assert_eq!(events.last().unwrap().name, "done");
}

#[tokio::test]
async fn a_stored_turn_is_never_called_not_stored_for_want_of_room() {
    let node = node(|config| config.answers_bytes_max = 3_000_000).await;
    let first = node.submit("x").await;
    let turn = node.claim().await;
    node.finish(&turn, answered(&"x".repeat(2_000_000))).await;
    let (status, slow) = begun(&node, &format!("/api/v1/message/{first}")).await;
    assert_eq!(status, 200);
    let submit = post(&body("y"));
    let work = async {
        let turn = node.claim().await;
        node.finish(&turn, answered(&"y".repeat(2_000_000))).await;
    };
    let (reply, ()) = tokio::join!(node.send(&submit), work);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = reply.json();
    assert_eq!((&told["status"], &told["queue_position"]), (&"queued".into(), &1.into()), "{told}");
    assert!(told["responses"].is_null() && told["expires_at"].is_string(), "{told}");
    drop(slow);
    node.until(|counters| counters.connections() == 0).await;
    let shown = node.send(&get(&format!("/api/v1/message/{}", told["message_id"].as_str().unwrap()))).await;
    assert_eq!(shown.json()["status"], "completed");
}

#[tokio::test]
async fn one_keys_slow_readers_leave_room_for_others() {
    let node = node(|config| {
        config.keys = vec![key("a"), key("b")];
        config.answers_bytes_max = 8_500_000;
    })
    .await;
    let mut paths = Vec::new();
    for org in ["a", "b"] {
        let submit = post(&body_of(org, "u", "x"));
        let submit = submit.header("Prefer", "respond-async").header("X-API-Key", &format!("secret-{org}"));
        let reply = node.send(&submit).await;
        let turn = node.claim().await;
        node.finish(&turn, answered(&"x".repeat(2_000_000))).await;
        paths.push(format!("/api/v1/message/{}", reply.json()["message_id"].as_str().unwrap()));
    }
    let (status, slow) = begun_with(&node, &paths[0], "X-API-Key: secret-a\r\n").await;
    assert_eq!(status, 200);
    node.send(&get(&paths[0]).header("X-API-Key", "secret-a")).await.assert_problem(503, "overloaded");
    assert_eq!(node.send(&get(&paths[1]).header("X-API-Key", "secret-b")).await.status, 200);
    drop(slow);
}

#[tokio::test]
async fn a_key_has_so_many_streams_and_others_find_room() {
    let node = node(|config| {
        config.keys = vec![key("o"), key("p")];
        config.streams_per_key_max = 2;
        config.streams_max = 3;
    })
    .await;
    let own = |org: &str, call: Call| call.header("X-API-Key", &format!("secret-{org}"));
    let mut paths = Vec::new();
    for org in ["o", "p"] {
        let sent = own(org, post(&body_of(org, "u", "x")).header("Prefer", "respond-async"));
        let id = node.send(&sent).await.json()["message_id"].as_str().unwrap().to_owned();
        paths.push(format!("/api/v1/stream?user_id=u&message_id={id}"));
    }
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(own("o", get(&paths[0])).open(node.address).await);
    }
    node.send(&own("o", get(&paths[0]))).await.assert_problem(429, "rate_limited");
    let other = own("p", get(&paths[1])).open(node.address).await;
    let refused = node.send(&own("p", get(&paths[1]))).await;
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("5"));
    // Whoever leaves makes room, and reading without a stream needs none.
    assert_eq!(node.send(&own("o", get("/api/v1/queue/u"))).await.status, 200);
    drop(open.pop());
    let again = async {
        loop {
            let stream = own("o", get(&paths[0])).open(node.address).await;
            if stream.head.status == 200 {
                break stream;
            }
        }
    };
    let again = timeout(Duration::from_secs(20), again).await.expect("a place is free again");
    drop((other, again));
}

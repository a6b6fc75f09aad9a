//! WebSockets over two nodes on one Redis: who is connected to one gets what
//! comes in at the other, and goes on there when his node is killed.

use crate::support::{PATIENCE, Running, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use turnwise_testkit::servers::redis;

const EVENTS: u64 = 30;

struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// A connection in org o with this query, past its first frame.
    async fn connect(node: &Running, query: &str) -> Socket {
        let address = node.url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /ws/connect?org_id=o&{query} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        let mut socket = Socket { stream };
        assert_eq!(socket.next().await["type"], "connected");
        socket
    }

    async fn send(&mut self, frame: &Value) {
        let text = frame.to_string();
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("short frames only");
        // A mask of zeros is one, too.
        let mut bytes = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        bytes.extend(text.bytes());
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next text; pings are passed over.
    async fn next(&mut self) -> Value {
        loop {
            let read = async {
                let (opcode, short) =
                    (self.stream.read_u8().await.unwrap() & 0x0f, self.stream.read_u8().await.unwrap());
                let length = if short == 126 { self.stream.read_u16().await.unwrap() } else { short.into() };
                let mut payload = vec![0; length.into()];
                self.stream.read_exact(&mut payload).await.unwrap();
                (opcode, payload)
            };
            let (opcode, payload) = timeout(PATIENCE, read).await.expect("a frame comes");
            if opcode == 1 {
                let frame: Value = serde_json::from_slice(&payload).unwrap();
                if frame["type"] != "ping" {
                    return frame;
                }
            }
        }
    }

    /// The next frame of this type; others are passed over.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            assert_ne!(frame["type"], "error", "{frame}");
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    async fn publish(&mut self, n: u64) {
        let topic = format!("t.{}", n % 3);
        self.send(&json!({ "type": "publish", "topic": topic, "event_type": "said", "data": n })).await;
        self.next_of("published").await;
    }

    /// The next events' numbers, and the last one's place.
    async fn take(&mut self, count: u64) -> (Vec<u64>, Value) {
        let (mut numbers, mut place) = (Vec::new(), Value::Null);
        for _ in 0..count {
            let event = self.next_of("message").await;
            numbers.push(event["data"].as_u64().unwrap());
            place = event["place"].clone();
        }
        (numbers, place)
    }
}

#[tokio::test]
async fn two_nodes_on_redis_are_one_for_their_connections() {
    let Some(server) = redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = redis::url(&server);
    let mut one = serve(folder.path(), 0, None, &[("TURNWISE_STORE", &store)]).await;
    let other = serve(folder.path(), 0, None, &[("TURNWISE_STORE", &store)]).await;
    let mut reader = Socket::connect(&one, "").await;
    reader.send(&json!({ "type": "subscribe", "topics": ["t.*"] })).await;
    reader.next_of("subscribed").await;
    let (mut here, mut there) = (Socket::connect(&one, "").await, Socket::connect(&other, "").await);
    for n in 0..EVENTS {
        if n % 3 == 0 { here.publish(n).await } else { there.publish(n).await }
    }
    let (numbers, place) = reader.take(EVENTS).await;
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    // An agent at one node hears from an agent at the other, and its answer finds back.
    let (mut ann, mut bob) =
        (Socket::connect(&one, "agent_id=ann").await, Socket::connect(&other, "agent_id=bob").await);
    for socket in [&mut ann, &mut bob] {
        socket.send(&json!({ "type": "presence" })).await;
        assert_eq!(socket.next_of("presence").await["online"], true);
    }
    ann.send(&json!({ "type": "request", "to_agent": "bob", "content": 1, "timeout": 60 })).await;
    let request = bob.next_of("message").await;
    let id = &request["data"]["message_id"];
    bob.send(&json!({ "type": "reply", "message_id": id, "content": 2 })).await;
    let reply = ann.next_of("reply").await;
    assert_eq!((&reply["content"], &reply["from_agent"]), (&json!(2), &json!("bob")));
    bob.send(&json!({ "type": "ack", "message_id": id })).await;
    assert_eq!(bob.next_of("settled").await["status"], "done");
    // His node is gone: he goes on at the other.
    one.kill().await;
    for n in EVENTS..2 * EVENTS {
        there.publish(n).await;
    }
    let mut reader = Socket::connect(&other, "").await;
    reader.send(&json!({ "type": "resume", "topic": "t.*", "after": place })).await;
    reader.next_of("subscribed").await;
    assert_eq!(reader.take(EVENTS).await.0, (EVENTS..2 * EVENTS).collect::<Vec<_>>());
    assert_eq!(other.terminate().await, Some(0));
}

//! A WebSocket client at the level of bytes: it sends what it is told to, also
//! what no good one would.

use crate::client::{Call, call};
use crate::node::Node;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
const PATIENCE: Duration = Duration::from_secs(60);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.opcode, TEXT, "{self:?}");
        serde_json::from_slice(&self.payload).unwrap()
    }

    /// Code and reason of a close frame.
    pub(super) fn closed(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        match self.payload.as_slice() {
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8(reason.to_vec()).unwrap())
            }
            _ => (0, String::new()),
        }
    }
}

pub(super) struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The handshake of org o with this query.
pub(super) fn handshake(query: &str) -> Call {
    call("GET", &format!("/ws/connect?{query}"))
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// A connection in org o, past its `connected` frame.
pub(super) async fn connect(node: &Node) -> Socket {
    connect_as(node, &handshake("org_id=o")).await
}

pub(super) async fn connect_as(node: &Node, call: &Call) -> Socket {
    let mut socket = open(node, call).await;
    let connected = socket.json().await;
    assert_eq!(connected["type"], "connected", "{connected}");
    socket
}

/// A connection whose handshake was answered with 101.
pub(super) async fn open(node: &Node, call: &Call) -> Socket {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let head = call.bytes_with(node.address, "Upgrade");
    stream.write_all(&head).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(answer.contains("\r\nupgrade: websocket\r\n") && answer.contains("\r\nconnection: upgrade\r\n"));
    assert!(!answer.contains("sec-websocket-extensions") && !answer.contains("sec-websocket-protocol"));
    Socket { stream, read: Vec::new() }
}

/// A frame of a client, with nothing checked.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

impl Socket {
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The same, where the server may be gone already.
    pub(super) async fn try_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub(super) async fn text(&mut self, text: &str) {
        self.bytes(&frame(0x80 | TEXT, text.as_bytes())).await;
    }

    pub(super) async fn send(&mut self, json: &Value) {
        self.text(&json.to_string()).await;
    }

    /// Sends, and answers what comes next.
    pub(super) async fn ask(&mut self, json: &Value) -> Value {
        self.send(json).await;
        self.json().await
    }

    /// The next frame; none when the server has closed the connection.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        let next = async {
            loop {
                if let Some(frame) = self.whole_frame() {
                    return Some(frame);
                }
                if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a frame comes, or the end")
    }

    fn whole_frame(&mut self) -> Option<Frame> {
        let (first, second) = (*self.read.first()?, *self.read.get(1)?);
        // Of a server: whole, no extension, no mask.
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "{first:x} {second:x}");
        let (length, from) = match second {
            126 => (u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()) as usize, 4),
            127 => (u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (short as usize, 2),
        };
        assert!(from == 2 || length > 125 && (from == 4 || length > 0xffff), "the shortest form");
        let payload = self.read.get(from..from + length)?.to_vec();
        self.read.drain(..from + length);
        Some(Frame { opcode: first & 0x0f, payload })
    }

    /// The next text, as JSON.
    pub(super) async fn json(&mut self) -> Value {
        self.frame().await.expect("a frame").json()
    }

    /// Code and reason of the close frame that comes next, after which the connection ends.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        let closed = self.frame().await.expect("a close frame").closed();
        // Answered as a client does.
        self.try_bytes(&frame(0x80 | CLOSE, &closed.0.to_be_bytes())).await;
        assert_eq!(self.frame().await, None, "nothing follows a close frame");
        closed
    }
}

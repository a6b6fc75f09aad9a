//! A client of `/ws/connect` (RFC 6455): with errors for a server that may be gone, and without for one that is there.

use crate::support::{PATIENCE, Running};
use serde_json::{Value, json};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
/// Bytes of a payload whose length fits in the second byte of its frame.
const SHORT_MAX: u8 = 125;

pub(crate) struct Socket {
    stream: BufReader<TcpStream>,
}

impl Socket {
    /// A connection in org o with this query, past its first frame.
    pub(crate) async fn try_connect(url: &str, query: &str) -> io::Result<Socket> {
        let address = url.strip_prefix("http://").expect("servers of tests speak http");
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let head = format!(
            "GET /ws/connect?org_id=o&{query} HTTP/1.1\r\nHost: {address}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        let mut socket = Socket { stream };
        let first = socket.try_next().await?;
        if first["type"] != "connected" {
            return Err(io::Error::other(first.to_string()));
        }
        Ok(socket)
    }

    pub(crate) async fn try_send(&mut self, frame: &Value) -> io::Result<()> {
        let text = frame.to_string();
        let length = u8::try_from(text.len()).ok().filter(|length| *length <= SHORT_MAX);
        // A mask of zeros is one, too.
        let mut bytes = vec![0x80 | TEXT, 0x80 | length.expect("short frames only"), 0, 0, 0, 0];
        bytes.extend(text.bytes());
        self.stream.write_all(&bytes).await
    }

    /// The next text. Pings are answered and passed over; a close is an error.
    pub(crate) async fn try_next(&mut self) -> io::Result<Value> {
        loop {
            let (opcode, payload) = timeout(PATIENCE, self.frame()).await??;
            match opcode {
                TEXT => {
                    let frame: Value = serde_json::from_slice(&payload)?;
                    if frame["type"] != "ping" {
                        return Ok(frame);
                    }
                    self.try_send(&json!({ "type": "pong" })).await?;
                }
                CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let opcode = self.stream.read_u8().await? & 0x0f;
        let length = match self.stream.read_u8().await? {
            126 => self.stream.read_u16().await?.into(),
            127 => self.stream.read_u64().await?,
            short => short.into(),
        };
        let mut payload = vec![0; usize::try_from(length).expect("a payload fits in memory")];
        self.stream.read_exact(&mut payload).await?;
        Ok((opcode, payload))
    }

    pub(crate) async fn connect(node: &Running, query: &str) -> Socket {
        Socket::try_connect(node.url(), query).await.unwrap()
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.try_send(frame).await.unwrap();
    }

    /// The next frame of this type; others are passed over.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.try_next().await.unwrap();
            assert_ne!(frame["type"], "error", "{frame}");
            if frame["type"] == kind {
                return frame;
            }
        }
    }
}

//! The least that speaks WebSocket (RFC 6455) to a server that is measured.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client's request has beside its Host.
pub(super) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Bytes of the head of an answer, and of a frame.
const BYTES_MAX: usize = 64 * 1024;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
/// Its payload's length is in the two bytes behind it, or in the eight.
const LENGTH_IN_TWO: u8 = 126;
const LENGTH_IN_EIGHT: u8 = 127;

/// A connection to `/ws/connect`.
pub(super) struct Socket {
    stream: TcpStream,
    read: BytesMut,
}

impl Socket {
    /// With this query, past its first frame.
    pub(super) async fn connect(server: SocketAddr, query: &str) -> io::Result<Socket> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut socket = Socket { stream, read: BytesMut::new() };
        let head = format!("GET /ws/connect?{query} HTTP/1.1\r\nHost: {server}\r\n{UPGRADE}\r\n");
        socket.stream.write_all(head.as_bytes()).await?;
        let end = loop {
            if let Some(end) = memchr::memmem::find(&socket.read, b"\r\n\r\n") {
                break end + b"\r\n\r\n".len();
            }
            if socket.read.len() > BYTES_MAX {
                return Err(unexpected(&socket.read));
            }
            socket.more().await?;
        };
        let answer = socket.read.split_to(end);
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            return Err(unexpected(&answer));
        }
        socket.next_of("connected").await?;
        Ok(socket)
    }

    pub(super) async fn send(&mut self, frame: &Value) -> io::Result<()> {
        self.stream.write_all(&masked(&frame.to_string())).await
    }

    /// The next frame of this type. Pings are answered, others are passed over; an error is one here, too.
    pub(super) async fn next_of(&mut self, kind: &str) -> io::Result<Value> {
        loop {
            let frame = self.next().await?;
            match frame.get("type").and_then(Value::as_str) {
                Some(own) if own == kind => return Ok(frame),
                Some("ping") => self.send(&serde_json::json!({ "type": "pong" })).await?,
                Some("error") => return Err(unexpected(frame.to_string().as_bytes())),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> io::Result<Value> {
        loop {
            match frame(&mut self.read)? {
                None => self.more().await?,
                Some((TEXT, payload)) => return Ok(serde_json::from_slice(&payload)?),
                Some((CLOSE, payload)) => return Err(unexpected(&payload)),
                Some(_) => {}
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn unexpected(what: &[u8]) -> io::Error {
    io::Error::other(format!("the server said: {}", String::from_utf8_lossy(what)))
}

/// Takes a server's frame out of what was read, once it is whole: its opcode and its payload.
fn frame(read: &mut BytesMut) -> io::Result<Option<(u8, Bytes)>> {
    let mut head = read.as_ref();
    let (Ok(first), Ok(short)) = (head.try_get_u8(), head.try_get_u8()) else { return Ok(None) };
    let length = match short {
        LENGTH_IN_TWO => head.try_get_u16().map(u64::from),
        LENGTH_IN_EIGHT => head.try_get_u64(),
        short => Ok(short.into()),
    };
    let Ok(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= BYTES_MAX);
    let length = length.ok_or_else(|| unexpected(b"a frame that is too long"))?;
    if head.len() < length {
        return Ok(None);
    }
    read.advance(read.len() - head.len());
    Ok(Some((first & 0x0f, read.split_to(length).freeze())))
}

/// A client's text frame (RFC 6455, section 5.2); with a mask of zeros its bytes stay as they are.
pub(super) fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match u8::try_from(text.len()) {
        Ok(length) if length < LENGTH_IN_TWO => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | LENGTH_IN_TWO);
            frame.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where it is wrong")]

    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x80 | TEXT];
            match length {
                0..126 => bytes.push(u8::try_from(length).unwrap()),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(vec![b'x'; length]);
            for cut in [0, 1, 2, bytes.len() - 1].into_iter().filter(|cut| *cut < bytes.len()) {
                assert_eq!(frame(&mut bytes.get(..cut).unwrap().into()).unwrap(), None, "{length} {cut}");
            }
            let mut read = BytesMut::from(bytes.as_slice());
            read.extend_from_slice(b"next");
            let (opcode, payload) = frame(&mut read).unwrap().unwrap();
            assert_eq!((opcode, payload.len(), read.as_ref()), (TEXT, length, b"next".as_slice()));
        }
        assert!(frame(&mut [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0].as_slice().into()).is_err());
    }
}

//! The least that speaks HTTP/1.1 to a server that is measured: what the client costs is missing from the server's
//! rate on the same processors.

use super::cycle::Wrong;
use bytes::{Buf, Bytes, BytesMut};
use std::io::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Headers of an answer.
const HEADERS_MAX: usize = 64;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One connection, kept alive.
pub(super) struct Wire {
    authority: String,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    read: BytesMut,
}

impl Wire {
    pub(super) fn new(url: &str) -> Wire {
        let authority = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Wire { authority, stream: None, out: Vec::new(), read: BytesMut::new() }
    }

    /// The status and the body of the answer.
    pub(super) async fn post(&mut self, path: &str, body: &[u8]) -> Result<(u16, Bytes), Wrong> {
        self.exchange(path, body).await.map_err(|error| error.to_string())
    }

    async fn exchange(&mut self, path: &str, body: &[u8]) -> std::io::Result<(u16, Bytes)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.authority).await?;
                stream.set_nodelay(true)?;
                self.stream.insert(stream)
            }
        };
        self.out.clear();
        write!(
            self.out,
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.authority,
            body.len()
        )?;
        self.out.extend_from_slice(body);
        stream.write_all(&self.out).await?;
        loop {
            if let Some((status, head, length)) = head(&self.read)? {
                if self.read.len() >= head + length {
                    self.read.advance(head);
                    return Ok((status, self.read.split_to(length).freeze()));
                }
                self.read.reserve(head + length - self.read.len());
            }
            if stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The status, the bytes of the head and those of the body, once the head is whole.
fn head(read: &[u8]) -> std::io::Result<Option<(u16, usize, usize)>> {
    let wrong = |what: &str| std::io::Error::other(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = answer.parse(read).map_err(|error| wrong(&error.to_string()))?
    else {
        return Ok(None);
    };
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = length.filter(|length| *length <= ANSWER_BYTES_MAX).ok_or_else(|| wrong("no length"))?;
    Ok(Some((answer.code.unwrap_or(0), bytes, length)))
}

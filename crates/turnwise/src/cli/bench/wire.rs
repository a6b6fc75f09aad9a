//! The least that speaks HTTP/1.1 to a server that is measured: what the client costs is missing from the server's
//! rate on the same processors.

use super::cycle::Wrong;
use bytes::{Buf, Bytes, BytesMut};
use std::io::Write as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
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
        write_post(&mut self.out, &self.authority, path, body)?;
        stream.write_all(&self.out).await?;
        next_answer(stream, &mut self.read).await
    }
}

/// Appends a request.
pub(super) fn write_post(out: &mut Vec<u8>, authority: &str, path: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        out,
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    out.extend_from_slice(body);
    Ok(())
}

/// The status and the body of the next answer; what was read of those behind it stays in `read`.
pub(super) async fn next_answer(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
) -> std::io::Result<(u16, Bytes)> {
    loop {
        if let Some((status, head, length)) = head(read)? {
            if read.len() >= head + length {
                read.advance(head);
                return Ok((status, read.split_to(length).freeze()));
            }
            read.reserve(head + length - read.len());
        }
        if stream.read_buf(read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
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

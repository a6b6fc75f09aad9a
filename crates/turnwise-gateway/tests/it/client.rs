//! A small HTTP/1.1 client that can also send what a good one would not.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A request to be sent on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub(crate) fn get(path: &str) -> Call {
    call("GET", path)
}

pub(crate) fn delete(path: &str) -> Call {
    call("DELETE", path)
}

/// A POST of JSON to the message route.
pub(crate) fn post(body: &str) -> Call {
    with_json("POST", "/api/v1/message", body)
}

/// A request with JSON.
pub(crate) fn with_json(method: &str, path: &str, body: &str) -> Call {
    let mut with_json = call(method, path).header("Content-Type", "application/json");
    with_json.body = body.as_bytes().to_vec();
    let length = with_json.body.len().to_string();
    with_json.header("Content-Length", &length)
}

/// A POST of JSON to another route.
pub(crate) fn post_to(path: &str, body: &str) -> Call {
    let mut post = call("POST", path).header("Content-Type", "application/json");
    post.body = body.as_bytes().to_vec();
    post.header("Content-Length", &body.len().to_string())
}

pub(crate) fn call(method: &str, path: &str) -> Call {
    Call { line: format!("{method} {path} HTTP/1.1"), headers: Vec::new(), body: Vec::new() }
}

impl Call {
    /// Sets a header; an empty value removes it.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Replaces the body as it goes over the wire, without touching the headers.
    pub(crate) fn wire_body(mut self, body: Vec<u8>) -> Call {
        self.body = body;
        self
    }

    fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        self.bytes_with(address, "close")
    }

    /// The same with this in `Connection`.
    pub(crate) fn bytes_with(&self, address: SocketAddr, connection: &str) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            text += &format!("Host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Connection: {connection}\r\n\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(&self, address: SocketAddr) -> Reply {
        let mut open = self.open(address).await;
        let mut body = Vec::new();
        while let Some(piece) = open.piece().await {
            body.extend_from_slice(&piece);
        }
        Reply { body, ..open.head }
    }

    /// Sends it and reads the head of the answer.
    pub(crate) async fn open(&self, address: SocketAddr) -> Open {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(&self.bytes(address)).await;
        Open::read(stream).await
    }

    /// Sends it and goes away.
    pub(crate) async fn abandon(&self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&self.bytes(address)).await.unwrap();
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    pub(crate) fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// All but the date, which goes on.
    pub(crate) fn sorted_headers(&self) -> Vec<(&str, &str)> {
        let kept = self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
        let mut headers: Vec<_> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.sort_unstable();
        headers
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// It is a problem with this status and code, whole as the API promises.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for key in ["type", "title", "detail", "hint"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {problem}");
        }
        assert!(problem["retryable"].is_boolean());
    }
}

/// An answer whose body is still coming.
pub(crate) struct Open {
    pub(crate) head: Reply,
    stream: BufReader<TcpStream>,
    left: Option<usize>,
    chunked: bool,
    text: String,
    /// Seen so far.
    pub(crate) comments: Vec<String>,
    /// The last id, of an event or of a place in between: what a reader resumes from.
    pub(crate) last_id: Option<String>,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Open {
    async fn read(stream: TcpStream) -> Open {
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream).await.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = line(&mut stream).await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let head = Reply { status, headers, body: Vec::new() };
        let chunked = head.header("transfer-encoding") == Some("chunked");
        let left = head.header("content-length").map(|length| length.parse().unwrap());
        let left = if status == 204 { Some(0) } else { left };
        Open { head, stream, left, chunked, text: String::new(), comments: Vec::new(), last_id: None }
    }

    /// The next piece of the body.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        let size = if self.chunked {
            usize::from_str_radix(&line(&mut self.stream).await, 16).ok()?
        } else {
            self.left.take()?
        };
        let mut piece = vec![0; size];
        self.stream.read_exact(&mut piece).await.ok()?;
        if self.chunked {
            line(&mut self.stream).await;
        }
        (size > 0).then_some(piece)
    }

    /// The next event; comments and `retry` are passed over. None at the end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            let event = self.block().await?;
            if event.name != "none" {
                return Some(event);
            }
        }
    }

    /// The first place to resume from, which a stream over topics tells before any event.
    pub(crate) async fn place(&mut self) -> String {
        while self.last_id.is_none() {
            let block = self.block().await.unwrap();
            assert_eq!(block.name, "none", "an event came first");
        }
        self.last_id.clone().unwrap()
    }

    /// What stands before the next empty line: an event, or one named `none` for whatever else it is.
    async fn block(&mut self) -> Option<Event> {
        while !self.text.contains("\n\n") {
            let piece = self.piece().await?;
            self.text += std::str::from_utf8(&piece).unwrap();
        }
        let (block, rest) = self.text.split_once("\n\n").unwrap();
        let mut event = Event { id: None, name: "none".to_owned(), data: String::new() };
        for line in block.lines() {
            let field =
                line.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value)));
            match field {
                Some(("", comment)) => self.comments.push(comment.to_owned()),
                Some(("id", id)) => {
                    event.id = Some(id.to_owned());
                    self.last_id.clone_from(&event.id);
                }
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data += data,
                _ => {}
            }
        }
        self.text = rest.to_owned();
        Some(event)
    }

    /// Every event until the stream ends.
    pub(crate) async fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    let _ = stream.read_line(&mut line).await;
    line.trim_end().to_owned()
}

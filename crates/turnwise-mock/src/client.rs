//! A small HTTP/1 client: one kept-alive connection, JSON calls, an SSE reader.
//!
//! Shared by `demo`, `bench` and the tests. Its SSE parser is deliberately
//! strict: it takes only what the API promises (LF, one space, one-line data).

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes of one event, or of one line that is not finished yet.
pub const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an answer that is no stream, though one was asked for: it says why.
pub const REFUSAL_BYTES_MAX: usize = 1024 * 1024;
/// It has come to its end by then.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug)]
pub struct ClientError(String);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClientError {}

fn failed(what: &str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> ClientError + '_ {
    move |error| ClientError(format!("{what}: {error}"))
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError(format!("not the JSON expected: {error}")))
    }

    /// One header as text, or "".
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// One connection that is opened when needed and kept alive. One call at a time.
pub struct Conn {
    authority: String,
    headers: HeaderMap,
    live: Option<Live>,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    driver: JoinSet<()>,
}

impl Live {
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let mut answer = pin!(self.sender.send_request(request));
        let sent = tokio::select! {
            biased;
            sent = &mut answer => Some(sent),
            _ = self.driver.join_next() => None,
        };
        // A request that is handed over in the moment in which the driver ends can stay in the channel between them,
        // which lives as long as the sender: nobody would ever answer it. One that was taken has its answer by now.
        let sent = match sent {
            Some(sent) => sent,
            None => tokio::select! {
                biased;
                sent = &mut answer => sent,
                () = std::future::ready(()) => return Err(ClientError("the connection ended".into())),
            },
        };
        sent.map_err(|error| failed("the call")(error.into()))
    }
}

impl Conn {
    /// A connection to a base URL (`http://host:port`) or `host:port`.
    #[must_use]
    pub fn new(base: &str) -> Conn {
        let authority = base.strip_prefix("http://").unwrap_or(base);
        let authority = authority.split('/').next().unwrap_or(authority).to_owned();
        Conn { authority, headers: HeaderMap::new(), live: None }
    }

    /// Sends this header with every call. Not for text from outside.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Conn {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Sends one request and reads the whole answer.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let (parts, body) = self.send(method, path, headers, body).await?.into_parts();
        let body =
            body.collect().await.map_err(|error| failed("reading the answer")(error.into()))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// DELETE.
    pub async fn delete(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.call(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// POST with a JSON body.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Answer, ClientError> {
        self.call(Method::POST, path, &[], body.into()).await
    }

    /// Sends a request and reads its answer event by event. The connection
    /// belongs to the reader from then on.
    pub async fn sse(
        mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<SseReader, ClientError> {
        let response = self.send(method, path, headers, body).await?;
        Ok(SseReader {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            _conn: self,
        })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            path.parse().map_err(|error: http::uri::InvalidUri| failed("the path")(error.into()))?;
        let own = request.headers_mut();
        own.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|error| failed("a header")(error.into()))?;
            own.insert(HeaderName::from_static(name), value);
        }
        let host =
            HeaderValue::from_str(&self.authority).map_err(|error| failed("the host")(error.into()))?;
        own.insert(header::HOST, host);
        own.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let sent = self.live().await?.exchange(request).await;
        if sent.is_err() {
            self.live = None;
        }
        sent
    }

    async fn live(&mut self) -> Result<&mut Live, ClientError> {
        let usable = match &mut self.live {
            Some(live) => live.sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.live = None;
        }
        if self.live.is_none() {
            self.live = Some(connect(&self.authority).await?);
        }
        self.live.as_mut().ok_or_else(|| ClientError("no connection".into()))
    }
}

async fn connect(authority: &str) -> Result<Live, ClientError> {
    let socket = TcpStream::connect(authority).await.map_err(|error| failed("connecting")(error.into()))?;
    socket.set_nodelay(true).map_err(|error| failed("connecting")(error.into()))?;
    let (sender, driver) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed("connecting")(error.into()))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Its error comes out of the call that was waiting.
        let _ = driver.await;
    });
    Ok(Live { sender, driver: tasks })
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// `id:`, empty when absent.
    pub id: String,
    /// `event:`, empty when absent.
    pub event: String,
    /// `data:`.
    pub data: String,
}

/// Reads the events of one answer.
pub struct SseReader {
    /// The status of the answer; only 200 has events.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    /// Bytes at the front of the buffer known to hold no blank line.
    searched: usize,
    _conn: Conn,
}

impl SseReader {
    /// The next event, or none when the stream ended in order. Comments and
    /// `retry:` are passed over.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, ClientError> {
        self.next_heard(None).await
    }

    /// As `next`, and an error when not even a comment came for so long: a
    /// server that is there, and the way to it, are never silent that long.
    pub async fn next_unless_silent(&mut self, limit: Duration) -> Result<Option<SseEvent>, ClientError> {
        self.next_heard(Some(limit)).await
    }

    async fn next_heard(&mut self, silence_max: Option<Duration>) -> Result<Option<SseEvent>, ClientError> {
        loop {
            while let Some(block) = self.take_block() {
                if let Some(event) = parse_block(&block)? {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(ClientError("an event is too large".into()));
            }
            let frame = match silence_max {
                None => self.body.frame().await,
                Some(limit) => tokio::time::timeout(limit, self.body.frame())
                    .await
                    .map_err(|_| ClientError("the stream went silent".into()))?,
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| failed("reading the stream")(error.into()))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// As `next`, and an error when no event came within `limit`, comments or not.
    pub async fn next_within(&mut self, limit: Duration) -> Result<Option<SseEvent>, ClientError> {
        tokio::time::timeout(limit, self.next()).await.map_err(|_| ClientError("no event in time".into()))?
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Result<Vec<SseEvent>, ClientError> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// The rest of an answer that is no stream of events; see `status`.
    pub async fn whole(&mut self) -> Result<Bytes, ClientError> {
        let read = async {
            let read = Limited::new(&mut self.body, REFUSAL_BYTES_MAX).collect().await;
            read.map(Collected::to_bytes).map_err(failed("reading the answer"))
        };
        tokio::time::timeout(REFUSAL_TIME_MAX, read)
            .await
            .map_err(|_| ClientError("the answer did not end in time".into()))?
    }

    fn take_block(&mut self) -> Option<Bytes> {
        let unseen = self.buffer.get(self.searched..).unwrap_or(&[]);
        let Some(end) = unseen.windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len().saturating_sub(1);
            return None;
        };
        let end = end + self.searched;
        self.searched = 0;
        let block = self.buffer.split_to(end + 2).freeze();
        Some(block.slice(..end))
    }
}

fn parse_block(block: &[u8]) -> Result<Option<SseEvent>, ClientError> {
    let text = std::str::from_utf8(block).map_err(|error| failed("an event")(error.into()))?;
    let mut event = SseEvent::default();
    let mut has_data = false;
    for line in text.split('\n') {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match name {
            "id" => value.clone_into(&mut event.id),
            "event" => value.clone_into(&mut event.event),
            "data" | "data:" if !has_data => {
                value.clone_into(&mut event.data);
                has_data = true;
            }
            "retry" => {}
            _ if line.starts_with(':') || line.is_empty() => {}
            _ => {
                return Err(ClientError(format!("a line the API does not promise: {line:?}")));
            }
        }
    }
    Ok(has_data.then_some(event))
}

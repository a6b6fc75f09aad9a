//! The public API from a client's side: submit a message, follow its stream
//! through dropped connections and restarts. Used by `send`, `demo` and `bench`.

use crate::failure::{Exit, Failure};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use turnwise_mock::{Conn, SseEvent, SseReader};

/// Pause before the first repeat; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(25);
/// Longest pause between two repeats.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A stream without even a heartbeat for so long is dead: the server sends one every 15 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Where the server is and which key it wants.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    base: String,
    key: Option<String>,
}

/// A message to submit.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) org: &'a str,
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    pub(crate) text: &'a str,
    /// Makes a repeat harmless.
    pub(crate) client_message_id: Option<&'a str>,
}

impl Server {
    /// A server by its URL.
    pub(crate) fn new(url: &str, key: Option<String>) -> Result<Server, Failure> {
        let is_http = url.parse::<http::Uri>().ok().is_some_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_http {
            return Err(Failure::new(Exit::Usage, "wrong URL", format!("{url} is not an http:// URL"))
                .hint("for example http://127.0.0.1:8000; TLS is left to a proxy"));
        }
        Ok(Server { base: url.trim_end_matches('/').to_owned(), key })
    }

    /// A connection that carries the key.
    pub(crate) fn conn(&self) -> Conn {
        let conn = Conn::new(&self.base);
        match &self.key {
            Some(key) => conn.with_header("x-api-key", key),
            None => conn,
        }
    }

    /// Submits a message to be read by stream; answers its id. A server that
    /// cannot be reached or is not ready is asked again until `patience` is over.
    pub(crate) async fn submit(
        &self,
        conn: &mut Conn,
        message: &Message<'_>,
        patience: Duration,
    ) -> Result<String, Failure> {
        let body = body_of(message);
        let started = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let sent = conn
                .call(Method::POST, "/api/v1/message", &[("prefer", "respond-async")], body.clone().into())
                .await;
            let failure = match sent {
                Ok(answer) if answer.status.is_success() => {
                    let parsed: Value = answer.json().map_err(|error| strange(&error))?;
                    return match parsed.get("message_id").and_then(Value::as_str) {
                        Some(id) => Ok(id.to_owned()),
                        None => Err(strange(&"an answer without message_id")),
                    };
                }
                Ok(answer) => {
                    let failure = Failure::of_answer(answer.status.as_u16(), &answer.body);
                    let again = matches!(answer.status.as_u16(), 429 | 500 | 503);
                    if !again || message.client_message_id.is_none() {
                        return Err(failure);
                    }
                    failure
                }
                Err(error) => self.unreachable(&error),
            };
            if started.elapsed() >= patience || message.client_message_id.is_none() {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Follows a turn's stream from its start.
    pub(crate) fn follow(&self, user: &str, id: &str, patience: Duration) -> Follow {
        let path = format!("/api/v1/stream?user_id={}&message_id={}", percent(user), percent(id));
        Follow { server: self.clone(), path, last_id: String::new(), live: None, over: false, patience }
    }

    /// What the server answers to a GET, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(&mut self.conn(), Method::GET, path, bytes::Bytes::new()).await
    }

    /// What the server answers on a connection that is kept, as JSON; null when it has nothing to say.
    pub(crate) async fn call(
        &self,
        conn: &mut Conn,
        method: Method,
        path: &str,
        body: bytes::Bytes,
    ) -> Result<Value, Failure> {
        let answer = conn.call(method, path, &[], body).await.map_err(|error| self.unreachable(&error))?;
        match answer.status.as_u16() {
            204 => Ok(Value::Null),
            200..=299 => answer.json().map_err(|error| strange(&error)),
            status => Err(Failure::of_answer(status, &answer.body)),
        }
    }

    /// A stream of events that has no end.
    pub(crate) async fn events(&self, path: &str) -> Result<SseReader, Failure> {
        let reader = self.stream(path, &[]).await?;
        if reader.status == http::StatusCode::OK { Ok(reader) } else { Err(refused(reader).await) }
    }

    /// Asks for a stream; whatever the answer, its head is there.
    async fn stream(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<SseReader, Failure> {
        let opening = self.conn().sse(Method::GET, path, headers, bytes::Bytes::new());
        match tokio::time::timeout(SILENCE_MAX, opening).await {
            Ok(opened) => opened.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&"nothing came back in time")),
        }
    }

    pub(crate) fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(Exit::Unreachable, "the server does not answer", format!("{}: {error}", self.base))
            .hint("start one with `turnwise serve --mock-agent`, or name it with --url")
    }
}

fn body_of(message: &Message<'_>) -> String {
    let mut body = json!({
        "user_id": message.user, "org_id": message.org, "client_id": message.client, "message": message.text,
    });
    if let (Some(id), Some(object)) = (message.client_message_id, body.as_object_mut()) {
        object.insert("client_message_id".into(), id.into());
    }
    body.to_string()
}

/// What an answer says that is no stream.
async fn refused(mut reader: SseReader) -> Failure {
    let body = reader.whole().await.unwrap_or_default();
    Failure::of_answer(reader.status.as_u16(), &body)
}

fn strange(what: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, "the server's answer is strange", what.to_string())
}

/// A stream that is opened again, from the last event seen, whenever it breaks.
pub(crate) struct Follow {
    server: Server,
    path: String,
    last_id: String,
    live: Option<SseReader>,
    over: bool,
    patience: Duration,
}

impl Follow {
    /// The next event, or none after the one that ends the turn.
    pub(crate) async fn next(&mut self) -> Result<Option<SseEvent>, Failure> {
        let mut broken_since: Option<Instant> = None;
        let mut pause = PAUSE_FIRST;
        while !self.over {
            let failure = match self.live.as_mut() {
                Some(reader) => match reader.next_unless_silent(SILENCE_MAX).await {
                    Ok(Some(event)) => {
                        self.note(&event);
                        return Ok(Some(event));
                    }
                    Ok(None) => self.server.unreachable(&"the stream ended early"),
                    Err(error) => self.server.unreachable(&error),
                },
                None => match self.open().await? {
                    None => continue,
                    Some(failure) => failure,
                },
            };
            self.live = None;
            let since = *broken_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.patience {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(None)
    }

    /// Drops the connection; the next event comes over a new one.
    pub(crate) fn disconnect(&mut self) {
        self.live = None;
    }

    /// Opens the stream. A failure that may pass is the value, one that stays is the error.
    async fn open(&mut self) -> Result<Option<Failure>, Failure> {
        let headers: &[(&'static str, &str)] = &[("last-event-id", &self.last_id)];
        let headers = if self.last_id.is_empty() { &[] } else { headers };
        match self.server.stream(&self.path, headers).await {
            Ok(reader) if reader.status == http::StatusCode::NO_CONTENT => self.over = true,
            Ok(reader) if reader.status == http::StatusCode::OK => self.live = Some(reader),
            Ok(reader) if matches!(reader.status.as_u16(), 429 | 500 | 503) => {
                return Ok(Some(refused(reader).await));
            }
            Ok(reader) => return Err(refused(reader).await),
            Err(failure) => return Ok(Some(failure)),
        }
        Ok(None)
    }

    fn note(&mut self, event: &SseEvent) {
        if !event.id.is_empty() {
            self.last_id.clone_from(&event.id);
        }
        self.over = is_terminal(&event.event);
    }
}

/// Exactly one of these ends every stream.
pub(crate) fn is_terminal(event: &str) -> bool {
    matches!(event, "done" | "error" | "cancelled")
}

/// Percent-encodes a value for a query string (RFC 3986, unreserved characters stay).
pub(crate) fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    /// A server that answers each connection with these bytes, then says nothing more.
    async fn then_silent(said: &'static [u8]) -> (Server, tokio::task::JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4096]).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut socket, said).await.unwrap();
                open.push(socket);
            }
        });
        (server, tasks)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_silent_is_given_up() {
        const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\nevent: queued\nid: 1-0\ndata: {}\n\n";
        let (server, _tasks) = then_silent(BEGUN).await;
        let mut tail = server.events("/api/v1/tail").await.unwrap();
        assert_eq!(tail.next_unless_silent(SILENCE_MAX).await.unwrap().unwrap().event, "queued");
        assert!(tail.next_unless_silent(SILENCE_MAX).await.is_err());
        let mut follow = server.follow("u", "m", Duration::ZERO);
        assert_eq!(follow.next().await.unwrap().unwrap().event, "queued");
        assert!(follow.next().await.is_err());
        let (server, _tasks) = then_silent(b"").await;
        assert!(server.events("/api/v1/tail").await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_the_first_answer() {
        const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: 62\r\n\r\n{\"code\":\"invalid_key\",\"status\":403,\"detail\":\"Invalid API key\"}";
        let (server, _tasks) = then_silent(REFUSED).await;
        let refused = server.events("/api/v1/tail").await.err().unwrap();
        assert!(refused.detail.contains("Invalid API key"), "{refused:?}");
        let refused = server.follow("u", "m", Duration::ZERO).next().await.err().unwrap();
        assert!(refused.detail.contains("Invalid API key"), "{refused:?}");
    }

    #[test]
    fn queries_carry_any_id() {
        assert_eq!(percent("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(percent("group:1+2/ü="), "group%3A1%2B2%2F%C3%BC%3D");
    }
}

//! A streaming agent whose events say when they left it, and a reader that
//! compares: what the way through the server adds to every event.

use super::load::{histogram, note, text};
use crate::client::{Message, Server};
use crate::failure::{Exit, Failure};
use bytes::Bytes;
use futures_util::stream;
use hdrhistogram::Histogram;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use turnwise_mock::{Conn, SseEvent};

/// Events of one answer.
const EVENTS: u32 = 20;
/// Pause before each.
const GAP: Duration = Duration::from_millis(10);
/// How long a stream may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Events =
    StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Streams events whose times are microseconds since `epoch`.
pub(super) async fn answer(
    request: Request<Incoming>,
    epoch: Instant,
) -> Result<Response<Events>, hyper::Error> {
    request.into_body().collect().await?;
    let events = stream::unfold(0, move |sent| async move {
        if sent > EVENTS {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(GAP).await;
        }
        let at = epoch.elapsed().as_micros();
        let text = match sent {
            EVENTS => "data: {\"type\":\"complete\",\"response\":{\"responses\":[\"end\"],\"response_language\":\"en\",\"voice_audio_base64\":null}}\n\n".to_owned(),
            _ => format!("data: {{\"type\":\"progress\",\"text\":\"part\",\"left_us\":{at}}}\n\n"),
        };
        Some((Ok(Frame::data(Bytes::from(text))), sent + 1))
    });
    let mut response = Response::new(StreamBody::new(Box::pin(events) as _));
    let kind = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What readers saw.
pub(crate) struct StreamTimes {
    /// From the request to the first event.
    pub(crate) first: Histogram<u64>,
    /// From the agent to the reader, the first event.
    pub(crate) first_way: Histogram<u64>,
    /// From the agent to the reader, every event.
    pub(crate) event: Histogram<u64>,
}

impl StreamTimes {
    fn new() -> StreamTimes {
        StreamTimes { first: histogram(), first_way: histogram(), event: histogram() }
    }

    /// Takes one event in, of a request sent at `started` if it may be the first.
    fn take(&mut self, event: &SseEvent, epoch: Instant, started: &mut Option<Instant>) {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let Some(left) = data.get("left_us").and_then(Value::as_u64) else { return };
        let now = u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let way = Duration::from_micros(now.saturating_sub(left));
        note(&mut self.event, way);
        if let Some(started) = started.take() {
            note(&mut self.first, started.elapsed());
            note(&mut self.first_way, way);
        }
    }
}

/// Streams from the agent itself, one after the other.
pub(crate) async fn direct(url: &str, until: Instant, epoch: Instant) -> Result<StreamTimes, Failure> {
    let mut times = StreamTimes::new();
    let body = serde_json::json!({"client_id": "bench", "user_id": "u", "message": text(), "org": "bench"})
        .to_string();
    while Instant::now() < until {
        let mut started = Some(Instant::now());
        let opened = Conn::new(url).sse(Method::POST, "/api/v1/chat/stream", &[], body.clone().into()).await;
        let mut reader = opened.map_err(|error| broken(&error))?;
        while let Some(event) = reader.next_within(PATIENCE).await.map_err(|error| broken(&error))? {
            times.take(&event, epoch, &mut started);
        }
    }
    Ok(times)
}

/// Streams through the server: submit, then read, one after the other.
pub(crate) async fn through(server: &Server, until: Instant, epoch: Instant) -> Result<StreamTimes, Failure> {
    let mut times = StreamTimes::new();
    let mut conn = server.conn();
    let text = text();
    let message =
        Message { org: "bench", user: "stream", client: "bench", text: &text, client_message_id: None };
    while Instant::now() < until {
        let mut started = Some(Instant::now());
        let id = server.submit(&mut conn, &message, Duration::ZERO).await?;
        let mut reader = server.follow(message.user, &id, Duration::ZERO);
        while let Some(event) = reader.next().await? {
            if event.event == "error" {
                return Err(Failure::new(Exit::Failure, "a streamed turn failed", event.data));
            }
            times.take(&event, epoch, &mut started);
        }
    }
    Ok(times)
}

fn broken(error: &turnwise_mock::ClientError) -> Failure {
    Failure::new(Exit::Unreachable, "a stream broke", error.to_string())
}

//! Reading a stream as it grows: a page when there is one (`live=long-poll`),
//! or all that comes (`live=sse`).

use super::read::{NOT_KEPT, bytes_of, with_page};
use super::request::ReadRequest;
use super::{CURSOR, Refused, SSE_ENCODING, Target, UP_TO_DATE, tell_end};
use crate::app::App;
use crate::auth::Caller;
use crate::limits::{CURSOR_INTERVAL, CURSOR_STEPS_MAX, LONG_POLL_MAX, STREAM_SSE_TIME};
use crate::sse::live::{Live, Shown};
use crate::sse::stream::{counted, seat};
use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use futures_util::StreamExt;
use futures_util::stream;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use turnwise_broker::{BrokerError, StreamPage, StreamReader};

/// What answers about the same place share for a while, so that caches between can join readers. A reader that
/// brings one back gets a later one: it is not sent in circles.
fn cursor(app: &App, brought: Option<u64>) -> u64 {
    let seconds = u64::try_from(app.broker.now().0).unwrap_or(0) / 1_000_000;
    let now = seconds / CURSOR_INTERVAL.as_secs();
    match brought.filter(|brought| *brought >= now) {
        Some(brought) => brought + 1 + RandomState::new().hash_one(brought) % CURSOR_STEPS_MAX,
        None => now,
    }
}

/// `live=long-poll`.
pub(super) async fn long_poll(
    app: &Arc<App>,
    caller: &Caller,
    target: &Target,
    request: &ReadRequest,
) -> Result<Response, Refused> {
    let _seat = seat(app, caller)?;
    let until = Instant::now() + LONG_POLL_MAX;
    let mut reader = match app.broker.follow_stream(&target.org, &target.name, request.from).await? {
        Ok(reader) => reader,
        Err(refusal) => return Err(Refused::of(&refusal)),
    };
    let revoked = caller.revoked();
    let mut is_over = false;
    loop {
        let page = match reader.page().await? {
            Ok(page) => page,
            Err(refusal) => return Err(Refused::of(&refusal)),
        };
        if !page.pieces.is_empty() || !page.up_to_date {
            let mut response = with_page(&page);
            response.headers_mut().insert(CURSOR, HeaderValue::from(cursor(app, request.cursor)));
            return Ok(response);
        }
        if is_over || page.view.closed {
            return Ok(nothing(app, &page, request.cursor));
        }
        tokio::select! {
            biased;
            () = app.drain.is_closing() => is_over = true,
            () = revoked.cancelled() => is_over = true,
            waited = timeout_at(until, reader.changed()) => is_over = waited.is_err(),
        }
    }
}

/// Nothing came.
fn nothing(app: &App, page: &StreamPage, brought: Option<u64>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    tell_end(headers, page.next, page.is_end());
    headers.insert(UP_TO_DATE, HeaderValue::from_static("true"));
    headers.insert(CURSOR, HeaderValue::from(cursor(app, brought)));
    headers.insert(CACHE_CONTROL, NOT_KEPT);
    response
}

/// `live=sse`.
pub(super) async fn sse(
    app: &Arc<App>,
    caller: &Caller,
    target: &Target,
    request: &ReadRequest,
) -> Result<Response, Refused> {
    let seat = seat(app, caller)?;
    let mut reader = match app.broker.follow_stream(&target.org, &target.name, request.from).await? {
        Ok(reader) => reader,
        Err(refusal) => return Err(Refused::of(&refusal)),
    };
    let first = match reader.page().await? {
        Ok(page) => page,
        Err(refusal) => return Err(Refused::of(&refusal)),
    };
    let is_text = first.view.is_json() || is_text(&first.view.content_type);
    let following = Following {
        app: Arc::clone(app),
        reader,
        next: Some(first),
        is_first: true,
        is_text,
        cursor: request.cursor,
        until: Instant::now() + STREAM_SSE_TIME,
    };
    let events = stream::unfold(Some(following), Following::step).boxed();
    let events = counted(app, seat, events);
    let room = app.answers.of_key(&caller.holder().answers);
    let lot = RandomState::new().hash_one(&target.name);
    let live = Live::new(lot, events, room, app.drain.closing(), caller.revoked()).endless();
    let mut response = crate::sse::response(Body::new(live));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !is_text {
        headers.insert(SSE_ENCODING, HeaderValue::from_static("base64"));
    }
    Ok(response)
}

fn is_text(content_type: &str) -> bool {
    content_type.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}

/// A reader, page after page.
struct Following {
    app: Arc<App>,
    reader: StreamReader,
    /// A page that was read already.
    next: Option<StreamPage>,
    is_first: bool,
    is_text: bool,
    cursor: Option<u64>,
    until: Instant,
}

impl Following {
    /// The next that is to be told; nothing more once the stream, the time, or the stream's life is over.
    async fn step(this: Option<Following>) -> Option<(Result<Told, BrokerError>, Option<Following>)> {
        let mut this = this?;
        let page = match this.next_page().await {
            Ok(page) => page?,
            Err(error) => return Some((Err(error), None)),
        };
        this.is_first = false;
        let told = Told {
            is_last: page.is_end(),
            is_text: this.is_text,
            cursor: cursor(&this.app, this.cursor),
            page,
        };
        let next = (!told.is_last).then_some(this);
        Some((Ok(told), next))
    }

    async fn next_page(&mut self) -> Result<Option<StreamPage>, BrokerError> {
        loop {
            let page = match self.next.take() {
                Some(page) => page,
                None => match self.reader.page().await? {
                    Ok(page) => page,
                    Err(_) => return Ok(None),
                },
            };
            if self.is_first || !page.pieces.is_empty() || page.is_end() {
                return Ok(Some(page));
            }
            if page.up_to_date && timeout_at(self.until, self.reader.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }
}

/// A page, and where it leads.
struct Told {
    page: StreamPage,
    is_last: bool,
    is_text: bool,
    cursor: u64,
}

impl Shown for Told {
    fn write(self, out: &mut BytesMut) -> bool {
        if !self.page.pieces.is_empty() {
            let bytes = bytes_of(&self.page);
            out.put_slice(b"event: data\n");
            match self.is_text {
                true => lines(out, &bytes),
                false => lines(out, STANDARD.encode(&bytes).as_bytes()),
            }
            out.put_slice(b"\n");
        }
        let mut control = Map::new();
        control.insert("streamNextOffset".to_owned(), self.page.next.to_string().into());
        if self.is_last {
            control.insert("streamClosed".to_owned(), true.into());
        } else {
            control.insert("streamCursor".to_owned(), self.cursor.to_string().into());
        }
        if self.page.up_to_date {
            control.insert("upToDate".to_owned(), true.into());
        }
        out.put_slice(b"event: control\ndata:");
        out.put_slice(Value::Object(control).to_string().as_bytes());
        out.put_slice(b"\n\n");
        self.is_last
    }
}

/// Data of any lines, each as one of the event's.
fn lines(out: &mut BytesMut, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        // The first space behind the colon is none of the data's.
        out.put_slice(if line.starts_with(b" ") { b"data: " } else { b"data:" });
        out.put_slice(line);
        out.put_slice(b"\n");
        match behind.strip_prefix(b"\r\n").or(behind.get(1..)) {
            Some(behind) => rest = behind,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gets_out_of_its_event() {
        let check = |text: &str, expected: &str| {
            let mut out = BytesMut::new();
            lines(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text:?}");
        };
        check("plain", "data:plain\n");
        check(" a\nb", "data:  a\ndata:b\n");
        check("a\r\n\r\nevent: x\rdata: y\n", "data:a\ndata:\ndata:event: x\ndata:data: y\ndata:\n");
    }
}

//! Event streams: their bytes, and the route that serves them.

pub(crate) mod encoder;
pub(crate) mod live;
pub(crate) mod stream;
pub(crate) mod subscribe;
pub(crate) mod tail;
pub(crate) mod turn;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

/// What a stream's events are sent in; no proxy is to keep or gather them.
pub(crate) fn response(events: Body) -> Response {
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

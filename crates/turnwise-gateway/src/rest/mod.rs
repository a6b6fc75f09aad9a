//! Routes that answer JSON, a file per resource.

pub(crate) mod bus;
pub(crate) mod callbacks;
pub(crate) mod cloudevent;
pub(crate) mod health;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod publication;
pub(crate) mod query;
pub(crate) mod queue;
pub(crate) mod queues;
pub(crate) mod retention;
pub(crate) mod rules;
pub(crate) mod status;
pub(crate) mod submission;
pub(crate) mod tickets;
pub(crate) mod topics;

use crate::error::Failure;
use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use rules::Errors;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use std::time::Duration;
use turnwise_api::Code;

/// Room for most answers without growing.
const BODY_BYTES_TYPICAL: usize = 1_024;

/// Seconds for people, to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

/// A 200 with this value as JSON; never to be cached, for it is private or soon old.
pub(crate) fn json(value: &impl Serialize) -> Result<Response, Failure> {
    json_bytes(value).map(json_response)
}

/// The same of a body that is written already.
pub(crate) fn json_response(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of that.
pub(crate) fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::with_capacity(BODY_BYTES_TYPICAL);
    serde_json::to_writer(&mut body, value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Failure::new(Code::Internal, "The answer could not be written")
    })?;
    Ok(body)
}

/// The same for a form that is an object: a list of what is in it is none.
pub(crate) fn strict_object<'b, T: Deserialize<'b>>(
    body: &'b [u8],
    must: &'static str,
) -> Result<T, Failure> {
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    if is_list && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        let mut errors = Errors::default();
        errors.add("", must);
        return Err(Failure::invalid(Code::InvalidContent, errors.0));
    }
    strict(body, must)
}

/// A body of just this form; `must` says what that is.
pub(crate) fn strict<'b, T: Deserialize<'b>>(body: &'b [u8], must: &'static str) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => {
            let mut errors = Errors::default();
            errors.add("", must);
            Failure::invalid(Code::InvalidContent, errors.0)
        }
        Category::Eof | Category::Syntax | Category::Io => {
            Failure::new(Code::NotJson, "The body is not JSON")
        }
    })
}

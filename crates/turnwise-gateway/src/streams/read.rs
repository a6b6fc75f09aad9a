//! `GET` and `HEAD /streams/{path}`.

use super::live;
use super::request::{Live, ReadRequest};
use super::{EXPIRES_AT, Refused, TTL, Target, UP_TO_DATE, content_type, finished, tell_end, text};
use crate::app::App;
use crate::auth::Caller;
use crate::rest::query::Parameters;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode, Uri};
use std::sync::Arc;
use turnwise_api::Rfc3339;
use turnwise_broker::{StreamFrom, StreamPage};

/// At the end of a stream, what was read once is asked for again: more may have come.
const AT_THE_END: HeaderValue = HeaderValue::from_static("private, no-cache");
/// What stands before the end never changes.
const BEFORE_THE_END: HeaderValue =
    HeaderValue::from_static("private, max-age=60, stale-while-revalidate=300");
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    finished(match method {
        Method::HEAD => looked_at(&app, &caller, path, &uri).await,
        _ => answered(&app, &caller, path, &headers, &uri).await,
    })
}

async fn looked_at(
    app: &App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
) -> Result<Response, Refused> {
    let target = Target::of(app, caller, path, &Parameters::of(uri)?)?;
    let view = match app.broker.stream(&target.org, &target.name).await? {
        Ok(view) => view,
        Err(refusal) => return Err(Refused::of(&refusal)),
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(&view));
    headers.insert(CACHE_CONTROL, NOT_KEPT);
    tell_end(headers, view.next, view.closed);
    if let Some(ttl) = view.ttl_s {
        headers.insert(TTL, HeaderValue::from(ttl));
    }
    if let Some(at) = view.expires_at {
        headers.insert(EXPIRES_AT, text(Rfc3339(at.0)));
    }
    Ok(response)
}

async fn answered(
    app: &Arc<App>,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, Refused> {
    let parameters = Parameters::of(uri)?;
    let target = Target::of(app, caller, path, &parameters)?;
    let request = ReadRequest::of(&parameters)?;
    match request.live {
        Live::No => {}
        Live::LongPoll => return live::long_poll(app, caller, &target, &request).await,
        Live::Sse => return live::sse(app, caller, &target, &request).await,
    }
    let page = match app.broker.read_stream(&target.org, &target.name, request.from).await? {
        Ok(page) => page,
        Err(refusal) => return Err(Refused::of(&refusal)),
    };
    if request.from == StreamFrom::Now {
        let mut response = with_page(&page);
        response.headers_mut().insert(CACHE_CONTROL, NOT_KEPT);
        return Ok(response);
    }
    let etag = etag(&page);
    let is_same = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    });
    let mut response = with_page(&page);
    if is_same {
        response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        tell(response.headers_mut(), &page);
    }
    response.headers_mut().insert(ETAG, text(etag));
    Ok(response)
}

/// Differs when the answer does.
fn etag(page: &StreamPage) -> String {
    let end = if page.is_end() { ":end" } else { "" };
    format!("\"{:016x}:{}:{}{end}\"", page.view.id, page.start, page.next)
}

fn tell(headers: &mut HeaderMap, page: &StreamPage) {
    tell_end(headers, page.next, page.is_end());
    if page.up_to_date {
        headers.insert(UP_TO_DATE, HeaderValue::from_static("true"));
    }
    headers.insert(CACHE_CONTROL, if page.up_to_date { AT_THE_END } else { BEFORE_THE_END });
}

/// A page as an answer.
pub(super) fn with_page(page: &StreamPage) -> Response {
    let mut response = Response::new(Body::from(bytes_of(page)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(&page.view));
    tell(headers, page);
    response
}

/// The bytes of a page as readers get them.
pub(super) fn bytes_of(page: &StreamPage) -> Bytes {
    let is_json = page.view.is_json();
    if let ([only], false) = (page.pieces.as_slice(), is_json) {
        return only.clone();
    }
    let length: usize = page.pieces.iter().map(|piece| piece.len() + 1).sum();
    let mut bytes = BytesMut::with_capacity(length + 2);
    if is_json {
        bytes.extend_from_slice(b"[");
    }
    for (nth, piece) in page.pieces.iter().enumerate() {
        if is_json && nth > 0 {
            bytes.extend_from_slice(b",");
        }
        bytes.extend_from_slice(piece);
    }
    if is_json {
        bytes.extend_from_slice(b"]");
    }
    bytes.freeze()
}

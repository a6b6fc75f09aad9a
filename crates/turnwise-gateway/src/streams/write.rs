//! `PUT`, `POST` and `DELETE /streams/{path}`.

use super::{
    PRODUCER_EPOCH, PRODUCER_SEQ, Refused, Target, address, bad, content_type, finished, request, tell_end,
};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::limits::STREAM_APPEND_BYTES_MAX;
use crate::rest::query::Parameters;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use turnwise_broker::{
    StreamAppend, StreamAppended, StreamCreated, StreamDeleted, StreamProducer, StreamRequest,
};

/// `PUT`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    finished(created(&app, &caller, path, request).await)
}

/// `POST`.
pub(crate) async fn append(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    finished(appended(&app, &caller, path, request).await)
}

/// `DELETE`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Response {
    finished(deleted(&app, &caller, path, &uri).await)
}

/// An answer without a body.
fn answer(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn created(
    app: &App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    app.require_serving()?;
    let target = Target::of(app, caller, path, &Parameters::of(&head.uri)?)?;
    body::require_plain(&head.headers)?;
    let (ttl_s, expires_at) = request::time(&head.headers)?;
    let stream = StreamRequest {
        content_type: request::content_type(&head.headers)?,
        ttl_s,
        expires_at,
        closed: request::closes(&head.headers)?,
        fork: request::fork(&head.headers)?,
        body: body::read_at_most(app, body, STREAM_APPEND_BYTES_MAX).await?.bytes,
    };
    let (status, view) = match app.broker.create_stream(&target.org, &target.name, stream).await? {
        StreamCreated::New(view) => (StatusCode::CREATED, view),
        StreamCreated::Known(view) => (StatusCode::OK, view),
        StreamCreated::Refused(refusal) => return Err(Refused::of(&refusal)),
    };
    let mut response = answer(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(&view));
    tell_end(headers, view.next, view.closed);
    if status == StatusCode::CREATED
        && let Ok(address) = HeaderValue::try_from(address(&head.headers, &head.uri))
    {
        headers.insert(LOCATION, address);
    }
    Ok(response)
}

async fn appended(
    app: &App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    app.require_serving()?;
    let target = Target::of(app, caller, path, &Parameters::of(&head.uri)?)?;
    body::require_plain(&head.headers)?;
    let producer = request::producer(&head.headers)?;
    let close = request::closes(&head.headers)?;
    let seq = request::seq(&head.headers)?;
    let content_type = request::content_type(&head.headers)?;
    let body = body::read_at_most(app, body, STREAM_APPEND_BYTES_MAX).await?.bytes;
    if body.is_empty() && !close {
        return Err(bad("There is nothing to append: send bytes, or Stream-Closed: true").into());
    }
    let content_type = match content_type {
        Some(content_type) => content_type,
        None if body.is_empty() => String::new(),
        None => return Err(bad("Content-Type must be the stream's own").into()),
    };
    let has_body = !body.is_empty();
    let append = StreamAppend { content_type, body, producer: producer.clone(), seq, close };
    let mut response;
    match app.broker.append_to_stream(&target.org, &target.name, append).await? {
        StreamAppended::Done { next, closed } => {
            let is_news = producer.is_some() && has_body;
            response = answer(if is_news { StatusCode::OK } else { StatusCode::NO_CONTENT });
            tell_end(response.headers_mut(), next, closed);
            let seq = producer.as_ref().map(|producer| producer.seq);
            tell_producer(response.headers_mut(), producer.as_ref(), seq);
        }
        StreamAppended::Repeat { next, closed, seq } => {
            response = answer(StatusCode::NO_CONTENT);
            tell_end(response.headers_mut(), next, closed);
            tell_producer(response.headers_mut(), producer.as_ref(), Some(seq));
        }
        StreamAppended::Refused(refusal) => return Err(Refused::of(&refusal)),
    }
    Ok(response)
}

fn tell_producer(headers: &mut HeaderMap, producer: Option<&StreamProducer>, seq: Option<u64>) {
    if let (Some(producer), Some(seq)) = (producer, seq) {
        headers.insert(PRODUCER_EPOCH, HeaderValue::from(producer.epoch));
        headers.insert(PRODUCER_SEQ, HeaderValue::from(seq));
    }
}

async fn deleted(
    app: &App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
) -> Result<Response, Refused> {
    app.require_serving()?;
    let target = Target::of(app, caller, path, &Parameters::of(uri)?)?;
    match app.broker.delete_stream(&target.org, &target.name).await? {
        StreamDeleted::Done => Ok(answer(StatusCode::NO_CONTENT)),
        StreamDeleted::Refused(refusal) => Err(Refused::of(&refusal)),
    }
}

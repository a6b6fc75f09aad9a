//! What is noted of a request once the head of its answer is ready: counts,
//! and one line in the log. Names no organisation, user or conversation.

use crate::app::App;
use crate::error::Told;
use crate::span::Begun;
use crate::trace;
use axum::extract::MatchedPath;
use axum::response::Response;
use http::{HeaderValue, Method, Request};
use tokio::time::Instant;
use turnwise_core::MessageId;

/// Left with a response: the turn it is about.
#[derive(Clone, Copy)]
pub(crate) struct About(pub(crate) MessageId);

/// What a request looked like when it came.
pub(crate) struct Arrived {
    at: Instant,
    method: Method,
    traceparent: Option<HeaderValue>,
    span: Option<Begun>,
}

impl Arrived {
    /// Its trace goes on from here: what is left in its head is where this server's part of it is.
    pub(crate) fn now<B>(app: &App, request: &mut Request<B>) -> Arrived {
        let span = Begun::with(app.config.spans.as_ref(), request.headers_mut());
        Arrived {
            span,
            at: Instant::now(),
            method: request.method().clone(),
            traceparent: request.headers().get(trace::TRACEPARENT).cloned(),
        }
    }
}

/// Counts the request and writes its line: a warning if this server or what it
/// needs failed, else for who looks closely.
pub(crate) fn answered(
    app: &App,
    arrived: &Arrived,
    request_id: &HeaderValue,
    response: &mut Response,
    told: Option<&Told>,
) {
    let template = response.extensions_mut().remove::<MatchedPath>();
    let route = template.as_ref().map(MatchedPath::as_str);
    let (status, took) = (response.status(), arrived.at.elapsed());
    app.counts.answered(route, &arrived.method, status, took);
    if let Some(told) = told {
        app.counts.problem(told.code);
    }
    let about = response.extensions_mut().remove::<About>();
    if let (Some(span), Some(route)) = (&arrived.span, route) {
        span.end(&arrived.method, route, status, took, about.map(|About(id)| id), told);
    }
    let failed = status.is_server_error();
    if !failed && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let about = about.map(|About(id)| id.to_string());
    let message_id = about.as_deref().or(told.and_then(|told| told.message_id.as_deref()));
    let place = arrived.traceparent.as_ref().and_then(trace::read);
    let trace_id = place.map(|place| format!("{:032x}", place.trace));
    let trace_id = trace_id.as_deref();
    let request_id = request_id.to_str().unwrap_or_default();
    let (method, route) = (arrived.method.as_str(), route.unwrap_or("none"));
    let code = told.map(|told| told.code.name());
    let (status, ms) = (status.as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if failed {
        tracing::warn!(request_id, message_id, trace_id, method, route, status, code, ms, "a request failed");
    } else {
        tracing::debug!(
            request_id,
            message_id,
            trace_id,
            method,
            route,
            status,
            code,
            ms,
            "a request was answered"
        );
    }
}

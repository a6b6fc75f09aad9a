//! What stands before the routes while no key is configured: only loopback
//! names, and no web pages from elsewhere (DNS rebinding, cross-site
//! requests). Also the CORS headers of the origins that are listed.

use crate::app::App;
use crate::error::Failure;
use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderValue,
    ORIGIN, VARY,
};
use http::uri::Authority;
use http::{Method, Request, StatusCode};
use turnwise_api::Code;

const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, \
                               Producer-Epoch, Producer-Id, Producer-Seq, Stream-Closed, Stream-Expires-At, \
                               Stream-Fork-Offset, Stream-Fork-Sub-Offset, Stream-Forked-From, Stream-Seq, \
                               Stream-TTL, Traceparent, X-API-Key, X-Request-Id";

/// What a page may read of an answer's head.
const EXPOSED_HEADERS: &str = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, ETag, Location, \
                               Producer-Epoch, Producer-Expected-Seq, Producer-Received-Seq, Producer-Seq, \
                               Stream-Closed, Stream-Cursor, Stream-Expires-At, Stream-Next-Offset, \
                               Stream-SSE-Data-Encoding, Stream-TTL, Stream-Up-To-Date";

/// Refuses what could be a web page that tricks a browser on this machine.
pub(crate) fn check<B>(app: &App, request: &Request<B>) -> Result<(), Failure> {
    if !app.config.loopback || !app.keys.is_open() {
        return Ok(());
    }
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let named = host.or(request.uri().authority().map(Authority::as_str));
    let forged = request.uri().host().is_some_and(|name| !is_loopback(name));
    let loopback =
        named.and_then(|text| text.parse::<Authority>().ok()).is_some_and(|a| is_loopback(a.host()));
    if forged || !loopback {
        return Err(Failure::new(Code::HostForbidden, "The Host header must name the loopback interface"));
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let same = origin.to_str().ok().and_then(|o| o.strip_prefix("http://")).is_some_and(|o| Some(o) == named);
    if same || is_listed(app, origin) {
        return Ok(());
    }
    Err(Failure::new(Code::OriginForbidden, "Requests from web pages of this origin are refused"))
}

/// Refuses web pages of another origin that is not listed, whether or not keys are configured: a browser lets every
/// page open WebSockets to everywhere.
pub(crate) fn require_known_origin<B>(app: &App, request: &Request<B>) -> Result<(), Failure> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let named = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let bare = |origin: &'_ [u8]| {
        let bare = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
        bare.is_some_and(|bare| Some(bare) == named)
    };
    if bare(origin.as_bytes()) || is_listed(app, origin) {
        return Ok(());
    }
    Err(Failure::new(Code::OriginForbidden, "WebSockets of web pages of this origin are refused"))
}

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_listed(app: &App, origin: &HeaderValue) -> bool {
    app.config.cors_origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
}

/// The answer to a listed origin's question what it may send.
pub(crate) fn preflight<B>(app: &App, request: &Request<B>) -> Option<Response> {
    let origin = request.headers().get(ORIGIN)?;
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || !is_listed(app, origin) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(response)
}

/// The origin to let read the answer, if it is a listed one.
pub(crate) fn listed_origin<B>(app: &App, request: &Request<B>) -> Option<HeaderValue> {
    if app.config.cors_origins.is_empty() {
        return None;
    }
    request.headers().get(ORIGIN).filter(|origin| is_listed(app, origin)).cloned()
}

/// Lets a listed origin's page read the answer.
pub(crate) fn expose(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

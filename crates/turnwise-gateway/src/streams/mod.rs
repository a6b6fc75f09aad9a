//! `/streams/{path}`: the open Durable Streams protocol, for the clients that
//! others publish. Its statuses and headers are the protocol's; what went
//! wrong is told as everywhere.

mod live;
pub(crate) mod read;
mod request;
pub(crate) mod write;

use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{STREAM_NAME_BYTES_MAX, STREAM_ORG_USUAL};
use crate::rest::query::{self, Parameters};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use turnwise_api::Code;
use turnwise_broker::{StreamOffset, StreamRefusal, StreamView};

/// Before the names of streams.
const ROOT: &str = "/streams/";

const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
const TTL: HeaderName = HeaderName::from_static("stream-ttl");
const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
const SEQ: HeaderName = HeaderName::from_static("stream-seq");
const SSE_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
const FORKED_FROM: HeaderName = HeaderName::from_static("stream-forked-from");
const FORK_OFFSET: HeaderName = HeaderName::from_static("stream-fork-offset");
const FORK_SUB_OFFSET: HeaderName = HeaderName::from_static("stream-fork-sub-offset");
const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
const PRODUCER_EXPECTED: HeaderName = HeaderName::from_static("producer-expected-seq");
const PRODUCER_RECEIVED: HeaderName = HeaderName::from_static("producer-received-seq");
const SAME_ORIGIN_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which stream a request is about.
struct Target {
    org: String,
    name: String,
}

impl Target {
    fn of(
        app: &App,
        caller: &Caller,
        path: Result<Path<String>, PathRejection>,
        parameters: &Parameters,
    ) -> Result<Target, Failure> {
        let Ok(Path(name)) = path else { return Err(bad("The path must be UTF-8, percent-encoded")) };
        let name = checked(&name)?;
        let is_usual = app.keys.is_open() && !parameters.has("org_id");
        let org = if is_usual { STREAM_ORG_USUAL.to_owned() } else { query::org(caller, parameters)? };
        Ok(Target { org, name })
    }
}

/// A stream's name by the rules.
fn checked(name: &str) -> Result<String, Failure> {
    let is_dots = name.split('/').any(|part| matches!(part, "." | ".."));
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX || is_dots || name.chars().any(char::is_control)
    {
        return Err(bad(format!(
            "The name of a stream has 1 to {STREAM_NAME_BYTES_MAX} bytes, no control characters, and no `.` or `..` \
             between slashes"
        )));
    }
    Ok(name.to_owned())
}

/// A request that the protocol answers with 400.
fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Code::BadRequest, detail)
}

/// What every answer about a stream has.
fn finished(answer: Result<Response, Refused>) -> Response {
    let mut response = answer.unwrap_or_else(Refused::into_response);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(SAME_ORIGIN_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// What went wrong, and what the protocol tells of it in headers.
struct Refused(Failure, HeaderMap);

impl<F: Into<Failure>> From<F> for Refused {
    fn from(failure: F) -> Refused {
        Refused(failure.into(), HeaderMap::new())
    }
}

impl Refused {
    fn of(refusal: &StreamRefusal) -> Refused {
        let mut headers = HeaderMap::new();
        let code = match refusal {
            StreamRefusal::NotFound => Code::NotFound,
            StreamRefusal::Gone | StreamRefusal::OffsetGone => Code::StreamGone,
            StreamRefusal::BadOffset(_) | StreamRefusal::BadFork(_) | StreamRefusal::EpochBegin => {
                Code::BadRequest
            }
            StreamRefusal::Differs(_)
            | StreamRefusal::NameKept
            | StreamRefusal::SourceGone
            | StreamRefusal::ContentType(_) => Code::StreamConflict,
            StreamRefusal::Closed(next) => {
                headers.insert(CLOSED, TRUE);
                headers.insert(NEXT_OFFSET, text(next));
                Code::StreamClosed
            }
            StreamRefusal::NotJson | StreamRefusal::NoValues => Code::NotJson,
            StreamRefusal::Seq => Code::SequenceConflict,
            StreamRefusal::StaleEpoch { epoch } => {
                headers.insert(PRODUCER_EPOCH, HeaderValue::from(*epoch));
                Code::ProducerFenced
            }
            StreamRefusal::SeqGap { expected, received } => {
                headers.insert(PRODUCER_EXPECTED, HeaderValue::from(*expected));
                headers.insert(PRODUCER_RECEIVED, HeaderValue::from(*received));
                Code::SequenceConflict
            }
            StreamRefusal::ProducersFull | StreamRefusal::ForksFull | StreamRefusal::StreamsFull => {
                Code::StreamLimit
            }
            StreamRefusal::TooLong => Code::BodyTooLarge,
        };
        Refused(Failure::new(code, refusal.to_string()), headers)
    }

    fn into_response(self) -> Response {
        let Refused(failure, headers) = self;
        let mut response = failure.into_response();
        response.headers_mut().extend(headers);
        response
    }
}

/// What has only letters and digits of ASCII.
fn text(value: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// Tells where a stream ends, and whether for good.
fn tell_end(headers: &mut HeaderMap, next: StreamOffset, closed: bool) {
    headers.insert(NEXT_OFFSET, text(next));
    if closed {
        headers.insert(CLOSED, TRUE);
    }
}

fn content_type(view: &StreamView) -> HeaderValue {
    // It came in a header.
    HeaderValue::try_from(view.content_type.as_str()).unwrap_or(HeaderValue::from_static("text/plain"))
}

/// The whole address of what a request asked for.
fn address(headers: &HeaderMap, uri: &Uri) -> String {
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = named("host").or(uri.authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
    let scheme = named("x-forwarded-proto").filter(|it| matches!(*it, "http" | "https")).unwrap_or("http");
    let path = uri.path_and_query().map_or(ROOT, http::uri::PathAndQuery::as_str);
    format!("{scheme}://{host}{path}")
}

//! Trace context as in W3C Trace Context, version 00; what is not is dropped.

use http::{HeaderMap, HeaderValue};
use turnwise_metrics::Place;

/// The header.
pub(crate) const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// Where a client was when it asked, if it says so.
pub(crate) fn of(headers: &HeaderMap) -> Option<Place> {
    headers.get(TRACEPARENT).and_then(read)
}

/// The place that a header's value names.
pub(crate) fn read(value: &HeaderValue) -> Option<Place> {
    Place::of_header(value.to_str().ok()?)
}

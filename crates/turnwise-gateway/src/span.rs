//! A request as a span: where it is in its trace, and what is told of it at its end.

use crate::error::Told;
use crate::methods::{METHODS, known};
use crate::trace;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::MessageId;
use turnwise_metrics::{Place, Span, SpanKind, SpanValue, Spans};

/// Routes whose requests are told of: those of people, not those of probes and scrapers.
const TRACED: &str = "/api/";
/// OpenTelemetry's word for a method without a name.
const OTHER_METHOD: &str = "_OTHER";

/// A request whose span has begun.
pub(crate) struct Begun {
    spans: Arc<dyn Spans>,
    place: Place,
    parent: Option<u64>,
}

impl Begun {
    /// Begins it if somebody wants to know, and leaves its place in the head: there begins what the request causes.
    pub(crate) fn with(spans: Option<&Arc<dyn Spans>>, headers: &mut HeaderMap) -> Option<Begun> {
        let spans = Arc::clone(spans?);
        let parent = trace::of(headers);
        let place = spans.below(parent);
        headers.insert(trace::TRACEPARENT, HeaderValue::try_from(place.header()).ok()?);
        Some(Begun { spans, place, parent: parent.map(|parent| parent.span) })
    }

    /// The head of its answer is ready.
    pub(crate) fn end(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
        about: Option<MessageId>,
        told: Option<&Told>,
    ) {
        if !route.starts_with(TRACED) {
            return;
        }
        let method = known(method).and_then(|at| METHODS.get(at)).copied().unwrap_or(OTHER_METHOD);
        let word = |text: &str| SpanValue::Word(text.to_owned().into());
        let mut attributes = vec![
            ("http.request.method", SpanValue::Word(method.into())),
            ("http.route", word(route)),
            ("http.response.status_code", SpanValue::Number(status.as_u16().into())),
        ];
        attributes.extend(about.map(|id| ("turnwise.message_id", SpanValue::Word(id.to_string().into()))));
        attributes.extend(told.map(|told| ("error.type", word(told.code.name()))));
        self.spans.ended(Span {
            name: format!("{method} {route}").into(),
            kind: SpanKind::Server,
            place: self.place,
            parent: self.parent,
            took,
            ended_ago: Duration::ZERO,
            failed: status.is_server_error(),
            attributes,
        });
    }
}

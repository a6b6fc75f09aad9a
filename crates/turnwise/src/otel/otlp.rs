//! Spans as OTLP has them in JSON (opentelemetry-proto 1.x, `ExportTraceServiceRequest`): ids in hex, 64-bit numbers
//! as texts, kinds and codes as numbers.

use super::Ended;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_metrics::{SpanKind, SpanValue};

/// `STATUS_CODE_ERROR`; what did not fail has none.
const FAILED: u8 = 2;

/// The body of one request.
pub(super) fn request(batch: &[Ended]) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "turnwise"}},
            {"key": "service.version", "value": {"stringValue": version}},
        ]},
        "scopeSpans": [{
            "scope": {"name": "turnwise", "version": version},
            "spans": batch.iter().map(one).collect::<Vec<_>>(),
        }],
    }]});
    body.to_string().into()
}

fn one(Ended { span, at }: &Ended) -> Value {
    let nanos = |time: Duration| time.as_nanos().to_string();
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    };
    let attribute = |(key, value): &(&'static str, SpanValue)| match value {
        SpanValue::Word(word) => json!({"key": key, "value": {"stringValue": word}}),
        SpanValue::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
    };
    json!({
        "traceId": format!("{:032x}", span.place.trace),
        "spanId": format!("{:016x}", span.place.span),
        "parentSpanId": span.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(at.saturating_sub(span.took)),
        "endTimeUnixNano": nanos(*at),
        "attributes": span.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "status": if span.failed { json!({"code": FAILED}) } else { json!({}) },
    })
}

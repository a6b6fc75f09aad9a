//! The readers of what clients send, for the fuzz targets alone.

use crate::auth::KeyRing;
use crate::prefer::Preference;
use crate::rest::bus;
use crate::rest::publication::{Mode, Publications};
use crate::rest::query::Parameters;
use crate::rest::queues::{send, settle};
use crate::rest::{rules, submission};
use crate::scope::Access;
use crate::sse::encoder;
use crate::trace;
use crate::ws::framing::{self, Incoming};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use std::time::Duration;
use turnwise_broker::{BusSend, BusTo, CallbackRules, Publication, Submission, WorkMessage, WorkSettlement};
use turnwise_core::Timestamp;
use turnwise_metrics::Place;

/// Reads a message's body; refused, it has a status and a number of named errors.
///
/// # Errors
/// When it is refused.
pub fn submission_of(body: &[u8], headers: &HeaderMap) -> Result<Submission, (u16, usize)> {
    let keys = KeyRing::new(Vec::new());
    let caller = keys.caller(headers, Access::Write).map_err(|failure| failure.facts())?;
    let rules = CallbackRules { accepted: true, attempts_max: 12, ..CallbackRules::default() };
    submission::parse(body, headers, &caller, &rules).map_err(|failure| failure.facts())
}

/// Reads messages for a queue; refused, they have a status and a number of named errors.
///
/// # Errors
/// When they are refused.
pub fn queue_messages_of(body: &Bytes, now: Timestamp) -> Result<Vec<WorkMessage>, (u16, usize)> {
    let around = send::Around { now, idempotency_key: None, traceparent: None };
    let read = send::messages(body, &around).map_err(|failure| failure.facts());
    read.map(|(messages, _)| messages)
}

/// Reads ends of leases; refused, they have a status and a number of named errors.
///
/// # Errors
/// When they are refused.
pub fn queue_settlements_of(body: &[u8]) -> Result<Vec<WorkSettlement>, (u16, usize)> {
    let read = settle::settlements(body).map_err(|failure| failure.facts());
    read.map(|(settlements, _)| settlements)
}

/// Reads a message of an agent, and how long its answer is waited for; refused, it has a status and a number of named
/// errors.
///
/// # Errors
/// When it is refused.
pub fn bus_message_of(body: &Bytes, to: BusTo) -> Result<(BusSend, Option<Duration>), (u16, usize)> {
    let read = bus::send::message(body, to, None).map_err(|failure| failure.facts());
    read.map(|asked| (asked.send, asked.wait))
}

/// Reads ends of deliveries; refused, they have a status and a number of named errors.
///
/// # Errors
/// When they are refused.
pub fn bus_settlements_of(body: &[u8]) -> Result<usize, (u16, usize)> {
    let read = bus::inbox::settlements(body).map_err(|failure| failure.facts());
    read.map(|(settlements, _)| settlements.len())
}

fn with(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
    Some(headers)
}

/// Reads `Prefer`; nothing if it cannot be a header.
#[must_use]
pub fn preference_of(value: &[u8]) -> Option<(bool, Option<Duration>)> {
    let preference = Preference::of(&with("prefer", value)?);
    Some((preference.respond_async, preference.wait))
}

/// Reads `traceparent`.
#[must_use]
pub fn traceparent_of(value: &[u8]) -> Option<String> {
    trace::of(&with("traceparent", value)?).map(Place::header)
}

/// Reads a query string.
#[must_use]
pub fn parameters_of(query: &[u8]) -> Option<Vec<(String, String)>> {
    let uri = Uri::try_from([b"/x?", query].concat()).ok()?;
    Parameters::of(&uri).ok().map(|parameters| parameters.0)
}

/// Whether a recording is taken.
#[must_use]
pub fn audio_is_right(text: &str) -> bool {
    rules::audio(text).is_none()
}

/// Writes one of the agent's events for a reader.
pub fn agent_event(out: &mut BytesMut, id: &str, name: Option<&str>, data: &[u8]) {
    encoder::agent_event(out, &id, name, data);
}

/// Reads the body of a publish, and its head; refused, it has a status and a number of named errors.
///
/// # Errors
/// When it is refused.
pub fn publications_of(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Publication>, (u16, usize)> {
    let read = Mode::of(headers).and_then(|mode| mode.read(headers, body));
    match read.map_err(|failure| failure.facts())? {
        Publications::One(event) => Ok(vec![event]),
        Publications::Many(events) => Ok(events),
    }
}

/// Reads what a WebSocket client sends, so many bytes at a time: what it was, with its payload, and the code that it
/// is refused with.
#[must_use]
pub fn web_socket_of(
    bytes: &[u8],
    message_bytes_max: usize,
    step: usize,
) -> (Vec<(&'static str, Vec<u8>)>, Option<u16>) {
    let mut reader = framing::Reader::new(message_bytes_max);
    let mut seen = Vec::new();
    for piece in bytes.chunks(step.clamp(1, bytes.len().max(1))) {
        let mut rest = piece;
        while !rest.is_empty() {
            match reader.read(&mut rest) {
                Ok(None) => {}
                Ok(Some(Incoming::Text(text))) => seen.push(("text", text.to_vec())),
                Ok(Some(Incoming::Ping(payload))) => seen.push(("ping", payload.to_vec())),
                Ok(Some(Incoming::Pong)) => seen.push(("pong", Vec::new())),
                Ok(Some(Incoming::Close(code))) => {
                    seen.push(("close", code.map(u16::to_be_bytes).into_iter().flatten().collect()));
                }
                Err(broken) => return (seen, Some(broken.code.number())),
            }
        }
    }
    (seen, None)
}

/// Whether a pattern of topics is taken.
#[must_use]
pub fn pattern_is_right(text: &str) -> bool {
    rules::topic_pattern(text).is_none()
}

/// Writes an event of a topic for a reader.
pub fn topic_event(out: &mut BytesMut, id: &str, event_type: &str, data: &[u8]) {
    encoder::topic_event(out, &id, event_type, data);
}

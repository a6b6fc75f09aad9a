//! What goes into the tables and comes out: bodies as bytes that SQL only keeps, and what SQL has to look at as
//! JSON beside them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use turnwise_core::{
    Dedup, Effect, Headers, Name, NewEvent, NewMessage, Outcome, Receipt, Result, Settlement, StoreError,
};

/// What a body's first byte says. On disk: never reuse a number.
const VERSION: u8 = 1;

/// Messages and events in the order of the call, and their bodies beside them.
#[derive(Default)]
pub(super) struct Bodies(pub(super) Vec<Vec<u8>>);

/// Where a body is: beside the call, from 1, or inside, where it is stored with what is around it.
#[derive(Serialize)]
#[serde(untagged)]
enum Body {
    Beside(usize),
    Inside(String),
}

#[derive(Serialize)]
struct DedupShape {
    dk: String,
    dc: String,
    dw: i64,
}

#[derive(Serialize)]
struct NameShape<'a> {
    o: &'a str,
    t: u8,
    n: &'a str,
}

/// A message, an event, or one of these as an effect. The letters are those of `sql/30_put.sql`.
#[derive(Serialize)]
pub(super) struct Item<'a> {
    #[serde(flatten)]
    name: NameShape<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<u8>,
    b: Body,
    #[serde(flatten)]
    dedup: Option<DedupShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    a: Vec<Item<'a>>,
    /// Where it stands in its batch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<usize>,
}

/// A receipt, and how its lease ends.
#[derive(Serialize)]
pub(super) struct Held<'a> {
    #[serde(flatten)]
    name: NameShape<'a>,
    s: u64,
    i: u64,
    v: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    f: Vec<Item<'a>>,
}

/// A message to be removed.
#[derive(Serialize)]
pub(super) struct Removal<'a> {
    pub(super) s: u64,
    pub(super) i: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) f: Vec<Item<'a>>,
}

/// The JSON of a list.
pub(super) fn json<T: Serialize>(items: &[T]) -> Result<String> {
    serde_json::to_string(items)
        .map_err(|error| StoreError::Invalid(format!("it cannot be written: {error}")))
}

fn name_shape(name: &Name) -> NameShape<'_> {
    NameShape { o: name.org(), t: name.kind() as u8, n: name.name() }
}

pub(super) fn micros(length: std::time::Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// Which half of the store a dedup key belongs to.
#[derive(Clone, Copy)]
enum Scope {
    Queue = 0,
    Topic = 1,
}

fn dedup_shape(scope: Scope, name: &Name, dedup: &Dedup) -> DedupShape {
    let mut hasher = Sha256::new();
    for part in [name.org().as_bytes(), name.name().as_bytes()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update([scope as u8, name.kind() as u8]);
    hasher.update(&dedup.key);
    DedupShape {
        dk: STANDARD.encode(hasher.finalize()),
        dc: STANDARD.encode(dedup.content_hash),
        dw: micros(dedup.window),
    }
}

/// Puts a body beside the call, or inside when there is no place beside it.
fn body(bytes: Vec<u8>, bodies: Option<&mut Bodies>) -> Body {
    match bodies {
        Some(Bodies(all)) => {
            all.push(bytes);
            Body::Beside(all.len())
        }
        None => Body::Inside(STANDARD.encode(bytes)),
    }
}

/// A message.
fn message<'a>(new: &'a NewMessage, bodies: Option<&mut Bodies>) -> Item<'a> {
    Item {
        name: name_shape(&new.queue),
        e: None,
        b: body(message_body(&new.headers, &new.payload), bodies),
        dedup: new.dedup.as_ref().map(|dedup| dedup_shape(Scope::Queue, &new.queue, dedup)),
        k: new.key.as_ref().map(|key| STANDARD.encode(&key.0)),
        p: Some(new.priority.0),
        m: Some(new.max_attempts),
        // As an id keeps it.
        i: Some(turnwise_core::MessageId::new(0, new.nonce).nonce()),
        d: new.deliver_at.map(|at| at.0),
        x: new.expires_at.map(|at| at.0),
        l: new.lane_max,
        u: None,
        a: new.at_end.iter().map(|last| effect(last, None)).collect(),
        y: None,
    }
}

/// A message of a batch that is given in another order.
pub(super) fn message_at<'a>(at: usize, new: &'a NewMessage, bodies: &mut Bodies) -> Item<'a> {
    Item { y: Some(at + 1), ..message(new, Some(bodies)) }
}

/// What a message's end brings, as it is stored.
pub(super) fn at_end(new: &NewMessage) -> Result<Option<String>> {
    if new.at_end.is_empty() {
        return Ok(None);
    }
    let items: Vec<_> = new.at_end.iter().map(|last| effect(last, None)).collect();
    json(&items).map(Some)
}

/// An event of a batch.
pub(super) fn event<'a>(new: &'a NewEvent, bodies: Option<&mut Bodies>) -> Item<'a> {
    Item {
        name: name_shape(&new.topic),
        e: None,
        b: body(event_body(&new.event_type, &new.data), bodies),
        dedup: new.dedup.as_ref().map(|dedup| dedup_shape(Scope::Topic, &new.topic, dedup)),
        k: None,
        p: None,
        m: None,
        i: None,
        d: None,
        x: None,
        l: None,
        u: new.keep_until.map(|until| until.0),
        a: Vec::new(),
        y: None,
    }
}

fn effect<'a>(effect: &'a Effect, bodies: Option<&mut Bodies>) -> Item<'a> {
    match effect {
        Effect::Enqueue(new) => Item { e: Some(0), ..message(new, bodies) },
        Effect::Publish(new) => Item { e: Some(1), ..event(new, bodies) },
    }
}

/// Effects of a step.
pub(super) fn effects<'a>(effects: &'a [Effect], bodies: &mut Bodies) -> Vec<Item<'a>> {
    effects.iter().map(|one| effect(one, Some(&mut *bodies))).collect()
}

/// A lease.
pub(super) fn receipt(receipt: &Receipt) -> Held<'_> {
    Held {
        name: name_shape(&receipt.queue),
        s: receipt.id.seq(),
        i: receipt.id.nonce(),
        v: receipt.token.0.cast_signed(),
        c: None,
        w: None,
        r: None,
        f: Vec::new(),
    }
}

/// The end of a lease.
pub(super) fn settlement<'a>(settlement: &'a Settlement, bodies: &mut Bodies) -> Held<'a> {
    let text = |reason: &String| Some(STANDARD.encode(reason));
    let (c, w, r) = match &settlement.outcome {
        Outcome::Ack => (0, None, None),
        Outcome::Retry { delay, reason } => (1, Some(micros(*delay)), text(reason)),
        Outcome::Release => (2, None, None),
        Outcome::Dead { reason } => (3, None, text(reason)),
    };
    let f = effects(&settlement.effects, bodies);
    Held { c: Some(c), w, r, f, ..receipt(&settlement.receipt) }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// As it is stored.
pub(super) fn message_body(headers: &Headers, payload: &[u8]) -> Vec<u8> {
    let room: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = Vec::with_capacity(room + payload.len() + 5);
    out.push(VERSION);
    out.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in headers {
        put_text(&mut out, name);
        put_text(&mut out, value);
    }
    out.extend_from_slice(payload);
    out
}

/// The size that counts is the whole without the first byte: see `tw_publish`.
fn event_body(event_type: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + event_type.len() + data.len());
    out.push(u8::try_from(event_type.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(event_type.as_bytes());
    out.extend_from_slice(data);
    out
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a row of PostgreSQL's: {what}"))
}

/// Takes the next bytes off the front.
fn take<'b>(rest: &mut &'b [u8], bytes: usize) -> Result<&'b [u8]> {
    let (front, back) = rest.split_at_checked(bytes).ok_or_else(|| damaged("a body is cut off"))?;
    *rest = back;
    Ok(front)
}

fn take_number(rest: &mut &[u8]) -> Result<usize> {
    let bytes: [u8; 4] = take(rest, 4)?.try_into().map_err(|_| damaged("a body is cut off"))?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length = take_number(rest)?;
    let text = std::str::from_utf8(take(rest, length)?).map_err(|_| damaged("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

/// Headers and payload of a message.
pub(super) fn read_message(body: &[u8]) -> Result<(Headers, Bytes)> {
    let mut rest = body;
    if take(&mut rest, 1)? != [VERSION] {
        return Err(damaged("a body of a version this release does not know"));
    }
    let mut headers = Headers::new();
    for _ in 0..take_number(&mut rest)? {
        headers.push((take_text(&mut rest)?, take_text(&mut rest)?));
    }
    Ok((headers, Bytes::copy_from_slice(rest)))
}

/// Type and data of an event.
pub(super) fn read_event(body: &[u8]) -> Result<(String, Bytes)> {
    let mut rest = body;
    let length = take(&mut rest, 1)?.first().copied().unwrap_or_default();
    let event_type = std::str::from_utf8(take(&mut rest, length.into())?);
    let event_type = event_type.map_err(|_| damaged("an event's type is not UTF-8"))?.to_owned();
    Ok((event_type, Bytes::copy_from_slice(rest)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bodies_come_back(headers: Vec<(String, String)>, payload: Vec<u8>, event_type in "[a-z\0]{0,40}") {
            let (read, bytes) = read_message(&message_body(&headers, &payload)).unwrap();
            prop_assert_eq!((read, &bytes[..]), (headers, &payload[..]));
            let (read, bytes) = read_event(&event_body(&event_type, &payload)).unwrap();
            prop_assert_eq!((read, &bytes[..]), (event_type, &payload[..]));
        }

        #[test]
        fn nonsense_is_refused_or_read_and_never_panics(body: Vec<u8>) {
            let _ = read_message(&body);
            let _ = read_event(&body);
        }
    }
}

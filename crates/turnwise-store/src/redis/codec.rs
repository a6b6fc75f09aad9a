//! What goes into scripts and comes out of them. Scripts read the few fields they need; headers and payload are
//! bytes to them. Numbers stay below 2^53, as scripts count in floating point.

use super::pack::{Reader, Writer};
use bytes::Bytes;
use turnwise_core::limits::TICK_ITEMS_MAX;
use turnwise_core::message::ENDED_HEADER;
use turnwise_core::{
    Claim, Dedup, Delivery, Effect, Event, Headers, Kind, LeaseToken, MessageId, MessageInfo, Name, NewEvent,
    NewMessage, Offset, OrderingKey, Outcome, Priority, QueueName, Receipt, Result, Settlement, Stage,
    StoreError, Timestamp, TopicInfo, TopicName, TopicPattern,
};

/// Times further away than this are as good as never.
const TIME_MAX: i64 = 1 << 52;
/// Digits of a message's name.
const NAME_DIGITS: usize = 16;
const HAS_DELIVER_AT: u8 = 1;
const HAS_EXPIRES_AT: u8 = 2;

pub(super) fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("Redis holds {what} that this version cannot read"))
}

/// A name as bytes that sort as names do; parts hold no control characters.
pub(super) fn name_bytes(name: &Name) -> Vec<u8> {
    let mut bytes = room_bytes(name);
    bytes.extend_from_slice(name.name().as_bytes());
    bytes
}

/// Organisation and kind of a name: what its bytes begin with.
fn room_bytes(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.org().len() + name.name().len() + 2);
    bytes.extend_from_slice(name.org().as_bytes());
    bytes.extend_from_slice(&[0, b'0' + name.kind() as u8]);
    bytes
}

pub(super) fn name(bytes: &[u8]) -> Result<Name> {
    let parse = || {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let org = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let kind = Kind::from_number(bytes.get(end + 1)?.checked_sub(b'0')?)?;
        let name = std::str::from_utf8(bytes.get(end + 2..)?).ok()?;
        Name::new(org, kind, name).ok()
    };
    parse().ok_or_else(|| corrupt("a name"))
}

/// A message's number as scripts name it.
pub(super) fn message_name(id: MessageId) -> String {
    format!("{:0NAME_DIGITS$}", id.seq())
}

pub(super) fn nonce_bytes(id: MessageId) -> [u8; 8] {
    id.nonce().to_be_bytes()
}

/// The id of this name and nonce.
pub(super) fn message_id(name: &[u8], nonce: &[u8]) -> Result<MessageId> {
    let number = std::str::from_utf8(name).ok().and_then(|text| text.parse().ok());
    let nonce = nonce.try_into().map(u64::from_be_bytes).ok();
    match (number, nonce) {
        (Some(number), Some(nonce)) => Ok(MessageId::new(number, nonce)),
        _ => Err(corrupt("an id")),
    }
}

fn time(at: Timestamp) -> i64 {
    at.0.clamp(-TIME_MAX, TIME_MAX)
}

fn micros(length: std::time::Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(TIME_MAX).min(TIME_MAX)
}

/// A length of time as scripts take it.
pub(super) fn micros_text(length: std::time::Duration) -> String {
    micros(length).to_string()
}

fn write_dedup(out: &mut Writer, dedup: Option<&Dedup>) {
    let Some(dedup) = dedup else { return out.boolean(false) };
    out.array(3);
    out.bytes(&dedup.key);
    out.bytes(&dedup.content_hash);
    out.integer(micros(dedup.window));
}

fn write_time(out: &mut Writer, at: Option<Timestamp>) {
    match at {
        Some(at) => out.integer(time(at)),
        None => out.boolean(false),
    }
}

fn write_message(out: &mut Writer, message: &NewMessage) {
    out.array(11);
    out.bytes(&name_bytes(&message.queue));
    match &message.key {
        Some(key) => out.bytes(&key.0),
        None => out.boolean(false),
    }
    out.integer(i64::from(message.priority.0));
    out.integer(i64::from(message.max_attempts));
    write_time(out, message.deliver_at);
    write_time(out, message.expires_at);
    out.bytes(&nonce_bytes(MessageId::new(0, message.nonce)));
    out.bytes(&body(message));
    if message.at_end.is_empty() {
        out.boolean(false);
    } else {
        let mut words = Writer::default();
        write_effects(&mut words, &message.at_end);
        out.bytes(&words.0);
    }
    write_dedup(out, message.dedup.as_ref());
    match message.lane_max {
        Some(max) => out.integer(i64::from(max)),
        None => out.boolean(false),
    }
}

/// What scripts do not read: exact times, headers, payload.
fn body(message: &NewMessage) -> Vec<u8> {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let mut body = Vec::with_capacity(message.payload.len() + 64);
    body.push(
        flag(message.deliver_at.is_some(), HAS_DELIVER_AT)
            | flag(message.expires_at.is_some(), HAS_EXPIRES_AT),
    );
    for at in [message.deliver_at, message.expires_at].into_iter().flatten() {
        body.extend_from_slice(&at.0.to_be_bytes());
    }
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    body.extend_from_slice(&length(message.headers.len()));
    for text in message.headers.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(&length(text.len()));
        body.extend_from_slice(text.as_bytes());
    }
    body.extend_from_slice(&message.payload);
    body
}

fn write_event(out: &mut Writer, event: &NewEvent) {
    out.array(5);
    out.bytes(&name_bytes(&event.topic));
    out.bytes(event.event_type.as_bytes());
    out.bytes(&event.data);
    write_dedup(out, event.dedup.as_ref());
    write_time(out, event.keep_until);
}

fn write_effects(out: &mut Writer, effects: &[Effect]) {
    out.array(effects.len());
    for effect in effects {
        match effect {
            Effect::Enqueue(message) => {
                out.array(1);
                write_message(out, message);
            }
            Effect::Publish(event) => {
                out.array(2);
                out.boolean(false);
                write_event(out, event);
            }
        }
    }
}

fn write_receipt(out: &mut Writer, receipt: &Receipt) {
    out.bytes(&name_bytes(&receipt.queue));
    out.bytes(message_name(receipt.id).as_bytes());
    out.bytes(&nonce_bytes(receipt.id));
    out.integer(i64::try_from(receipt.token.0).unwrap_or(i64::MAX));
}

/// A message to store.
pub(super) fn message_item(message: &NewMessage) -> Vec<u8> {
    let mut out = Writer::default();
    write_message(&mut out, message);
    out.0
}

/// An event to append.
pub(super) fn event_item(event: &NewEvent) -> Vec<u8> {
    let mut out = Writer::default();
    write_event(&mut out, event);
    out.0
}

/// A lease to extend, or that must be held.
pub(super) fn receipt_item(receipt: &Receipt) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(4);
    write_receipt(&mut out, receipt);
    out.0
}

/// What somebody wants to be handed.
pub(super) fn claim_item(claim: &Claim) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(3);
    out.bytes(&name_bytes(&claim.queue));
    out.integer(i64::from(claim.limit));
    out.integer(micros(claim.lease));
    out.0
}

/// A lease to end.
pub(super) fn settlement_item(settlement: &Settlement) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(8);
    write_receipt(&mut out, &settlement.receipt);
    let (outcome, delay, reason) = match &settlement.outcome {
        Outcome::Ack => (0, 0, ""),
        Outcome::Retry { delay, reason } => (1, micros(*delay), reason.as_str()),
        Outcome::Release => (2, 0, ""),
        Outcome::Dead { reason } => (3, 0, reason.as_str()),
    };
    out.integer(outcome);
    out.integer(delay);
    out.bytes(reason.as_bytes());
    write_effects(&mut out, &settlement.effects);
    out.0
}

/// A message to remove.
pub(super) fn removal_item(id: MessageId, effects: &[Effect]) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(3);
    out.bytes(message_name(id).as_bytes());
    out.bytes(&nonce_bytes(id));
    write_effects(&mut out, effects);
    out.0
}

/// A pattern of topics.
pub(super) fn pattern_item(pattern: &TopicPattern) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(2);
    out.bytes(&room_bytes(&pattern.0));
    let tokens: Vec<&str> = pattern.0.name().split(['.', ':']).collect();
    out.array(tokens.len());
    tokens.iter().for_each(|token| out.bytes(token.as_bytes()));
    out.0
}

/// A message's record and body, put together.
pub(super) struct Kept {
    pub(super) info: MessageInfo,
    pub(super) token: LeaseToken,
}

impl Kept {
    /// As it is at `now`: a lease that ran out is none.
    pub(super) fn read(message: &[u8], record: &[u8], body: Bytes, now: Timestamp) -> Result<Kept> {
        let mut record = Reader::new(record);
        let record = &mut record;
        record.array()?;
        let queue = name(record.bytes()?)?;
        let key = record.optional_bytes()?.map(|key| OrderingKey(Bytes::copy_from_slice(key)));
        let priority = Priority(record.number()?);
        let max_attempts = record.number()?;
        let enqueued_at = Timestamp(record.integer()?);
        let _due = record.optional_integer()?;
        let _expires = record.optional_integer()?;
        let id = message_id(message, record.bytes()?)?;
        let ended = record.optional_bytes()?.map(<[u8]>::to_vec);
        let stage = stage(record.number()?)?;
        let _place = record.integer()?;
        let attempt = record.number()?;
        let token = LeaseToken(record.number()?);
        let lease_end = record.optional_integer()?.map(Timestamp);
        let not_before = record.optional_integer()?.map(Timestamp);
        let reason = record.optional_bytes()?.map(|text| String::from_utf8_lossy(text).into_owned());
        let stop_requested = record.boolean()?;
        let lapsed = lease_end.is_some_and(|until| until <= now);
        let stage = if stage == Stage::Leased && lapsed { Stage::Ready } else { stage };
        let mut body = Body::read(body)?;
        if let Some((name, nonce)) = ended.as_deref().and_then(|ended| ended.split_at_checked(NAME_DIGITS)) {
            body.headers.push((ENDED_HEADER.to_owned(), message_id(name, nonce)?.to_string()));
        }
        let info = MessageInfo {
            id,
            queue,
            key,
            priority,
            stage,
            attempt,
            max_attempts,
            enqueued_at,
            not_before: if stage == Stage::Scheduled { body.deliver_at } else { not_before },
            lease_expires_at: lease_end.filter(|_| stage == Stage::Leased),
            expires_at: body.expires_at,
            reason,
            stop_requested,
            headers: body.headers,
            payload: body.payload,
        };
        Ok(Kept { info, token })
    }

    /// As it was handed out.
    pub(super) fn delivery(self) -> Result<Delivery> {
        let Kept { info, token } = self;
        let expires_at = info.lease_expires_at.ok_or_else(|| corrupt("a lease without an end"))?;
        Ok(Delivery {
            receipt: Receipt { queue: info.queue, id: info.id, token },
            key: info.key,
            priority: info.priority,
            headers: info.headers,
            payload: info.payload,
            attempt: info.attempt,
            enqueued_at: info.enqueued_at,
            expires_at,
        })
    }
}

fn stage(number: u8) -> Result<Stage> {
    [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead]
        .into_iter()
        .find(|stage| *stage as u8 == number)
        .ok_or_else(|| corrupt("a stage"))
}

struct Body {
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    headers: Headers,
    payload: Bytes,
}

impl Body {
    fn read(mut body: Bytes) -> Result<Body> {
        let flags = take(&mut body, 1)?.first().copied().unwrap_or_default();
        let mut time = |flag| -> Result<Option<Timestamp>> {
            if flags & flag == 0 {
                return Ok(None);
            }
            let bytes = take(&mut body, 8)?;
            Ok(bytes.as_ref().try_into().ok().map(i64::from_be_bytes).map(Timestamp))
        };
        let (deliver_at, expires_at) = (time(HAS_DELIVER_AT)?, time(HAS_EXPIRES_AT)?);
        let count = length(&mut body)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            headers.push((text(&mut body)?, text(&mut body)?));
        }
        Ok(Body { deliver_at, expires_at, headers, payload: body })
    }
}

fn take(body: &mut Bytes, length: usize) -> Result<Bytes> {
    if body.len() < length {
        return Err(corrupt("a body"));
    }
    Ok(body.split_to(length))
}

fn length(body: &mut Bytes) -> Result<usize> {
    let bytes = take(body, 4)?;
    let length = bytes.as_ref().try_into().map(u32::from_be_bytes).unwrap_or_default();
    Ok(usize::try_from(length).unwrap_or(usize::MAX))
}

fn text(body: &mut Bytes) -> Result<String> {
    let length = length(body)?;
    String::from_utf8(take(body, length)?.to_vec()).map_err(|_| corrupt("a header"))
}

/// The events of one append step.
pub(super) fn chunk(bytes: &[u8]) -> Result<Vec<Event>> {
    let mut chunk = Reader::new(bytes);
    chunk.array()?;
    let first: u64 = chunk.number()?;
    let appended_at = Timestamp(chunk.integer()?);
    let parts = chunk.array()?;
    let mut events = Vec::new();
    for at in 0..parts as u64 / 2 {
        let event_type = String::from_utf8_lossy(chunk.bytes()?).into_owned();
        let data = Bytes::copy_from_slice(chunk.bytes()?);
        events.push(Event { offset: Offset(first + at), event_type, data, appended_at });
    }
    Ok(events)
}

/// A topic's record.
pub(super) fn topic_info(topic: TopicName, record: &[u8]) -> Result<TopicInfo> {
    let mut record = Reader::new(record);
    record.array()?;
    let (first, last) = (Offset(record.number()?), Offset(record.number()?));
    let keep_until = record.optional_integer()?.map(Timestamp);
    Ok(TopicInfo { topic, first, last, keep_until, bytes: record.number()? })
}

/// Who told, and which queues and topics may have something new.
pub(super) struct Hints {
    pub(super) node: Vec<u8>,
    pub(super) queues: Vec<QueueName>,
    pub(super) topics: Vec<TopicName>,
}

impl Hints {
    /// A hint of this node at nothing.
    pub(super) fn none(node: &str) -> Vec<u8> {
        let mut out = Writer::default();
        out.array(3);
        out.bytes(node.as_bytes());
        out.array(0);
        out.array(0);
        out.0
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Hints> {
        let mut hints = Reader::new(bytes);
        hints.array()?;
        let node = hints.bytes()?.to_vec();
        let mut names = || {
            let count = hints.array()?;
            (0..count.min(NAMES_MAX)).map(|_| name(hints.bytes()?)).collect::<Result<Vec<_>>>()
        };
        Ok(Hints { node, queues: names()?, topics: names()? })
    }
}

/// Names in one hint that are read.
const NAMES_MAX: usize = 64 * TICK_ITEMS_MAX;

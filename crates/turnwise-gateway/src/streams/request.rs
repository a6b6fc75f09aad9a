//! What requests about streams say in their heads.

use super::{
    CLOSED, EXPIRES_AT, FORK_OFFSET, FORK_SUB_OFFSET, FORKED_FROM, PRODUCER_EPOCH, PRODUCER_ID, PRODUCER_SEQ,
    ROOT, SEQ, TTL, bad, checked,
};
use crate::error::Failure;
use crate::limits::{PRODUCER_NUMBER_MAX, STREAM_LABEL_BYTES_MAX, STREAM_TTL_SECONDS_MAX};
use crate::rest::cloudevent::percent_decoded;
use crate::rest::query::Parameters;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use turnwise_api::Rfc3339;
use turnwise_broker::{StreamFork, StreamFrom, StreamProducer};
use turnwise_core::Timestamp;

/// A header that comes once, in ASCII.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        (Ok(_), Some(_)) => Err(bad(format!("{name} must come once"))),
        (Err(_), _) => Err(bad(format!("{name} must be ASCII"))),
    }
}

fn label<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Failure> {
    match one(headers, name)? {
        Some(label) if label.is_empty() || label.len() > STREAM_LABEL_BYTES_MAX => {
            Err(bad(format!("{name} must have 1 to {STREAM_LABEL_BYTES_MAX} bytes")))
        }
        label => Ok(label),
    }
}

/// A number in plain digits, without zeros before it.
fn number(text: &str, most: u64) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if is_plain { text.parse().ok() } else { None };
    number.filter(|number| *number <= most)
}

fn counted(headers: &HeaderMap, name: &HeaderName, most: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = one(headers, name)? else { return Ok(None) };
    let wrong = || bad(format!("{name} must be a number from 0 to {most}, in digits alone"));
    number(text, most).map(Some).ok_or_else(wrong)
}

/// What it says it is.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let found = label(headers, &CONTENT_TYPE)?;
    let is_type = |text: &str| text.split(';').next().is_some_and(|it| it.trim().contains('/'));
    match found {
        Some(text) if !is_type(text) => Err(bad("Content-Type must be a media type")),
        found => Ok(found.map(str::to_owned)),
    }
}

/// Whether it is the last.
pub(super) fn closes(headers: &HeaderMap) -> Result<bool, Failure> {
    Ok(one(headers, &CLOSED)?.is_some_and(|value| value.eq_ignore_ascii_case("true")))
}

/// How long a stream is to live.
pub(super) fn time(headers: &HeaderMap) -> Result<(Option<u64>, Option<Timestamp>), Failure> {
    let ttl = counted(headers, &TTL, STREAM_TTL_SECONDS_MAX)?;
    let expires_at = match one(headers, &EXPIRES_AT)? {
        None => None,
        Some(text) => {
            let at: Rfc3339 =
                text.parse().map_err(|()| bad("Stream-Expires-At must be a time as RFC 3339 writes it"))?;
            Some(Timestamp(at.0))
        }
    };
    if ttl.is_some() && expires_at.is_some() {
        return Err(bad("Either Stream-TTL or Stream-Expires-At, not both"));
    }
    Ok((ttl, expires_at))
}

/// What a stream is to begin with.
pub(super) fn fork(headers: &HeaderMap) -> Result<Option<StreamFork>, Failure> {
    let offset = one(headers, &FORK_OFFSET)?;
    let sub = counted(headers, &FORK_SUB_OFFSET, PRODUCER_NUMBER_MAX)?;
    let Some(from) = one(headers, &FORKED_FROM)? else {
        if offset.is_some() || sub.is_some() {
            return Err(bad("Stream-Fork-Offset and Stream-Fork-Sub-Offset need Stream-Forked-From"));
        }
        return Ok(None);
    };
    let path = from.strip_prefix(ROOT).or(from.strip_prefix('/')).unwrap_or(from);
    let from = percent_decoded(path.as_bytes())
        .ok_or_else(|| bad("Stream-Forked-From must be UTF-8, percent-encoded"))?;
    let offset = match offset {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|()| bad("Stream-Fork-Offset must be an offset of the stream"))?)
        }
    };
    Ok(Some(StreamFork { from: checked(&from)?, offset, sub: sub.unwrap_or(0) }))
}

/// Who appends.
pub(super) fn producer(headers: &HeaderMap) -> Result<Option<StreamProducer>, Failure> {
    let id = label(headers, &PRODUCER_ID)?;
    let epoch = counted(headers, &PRODUCER_EPOCH, PRODUCER_NUMBER_MAX)?;
    let seq = counted(headers, &PRODUCER_SEQ, PRODUCER_NUMBER_MAX)?;
    match (id, epoch, seq) {
        (None, None, None) => Ok(None),
        (Some(id), Some(epoch), Some(seq)) => Ok(Some(StreamProducer { id: id.to_owned(), epoch, seq })),
        _ => Err(bad("Producer-Id, Producer-Epoch and Producer-Seq come together, or none of them")),
    }
}

/// The writer's own sequence.
pub(super) fn seq(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    Ok(label(headers, &SEQ)?.map(str::to_owned))
}

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// What is there.
    No,
    /// Or the next that comes.
    LongPoll,
    /// And all that comes.
    Sse,
}

/// What a read asks for.
pub(super) struct ReadRequest {
    pub(super) from: StreamFrom,
    pub(super) live: Live,
    pub(super) cursor: Option<u64>,
}

impl ReadRequest {
    pub(super) fn of(parameters: &Parameters) -> Result<ReadRequest, Failure> {
        let all = |name: &'static str| {
            parameters.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let live = match parameters.get("live") {
            None => Live::No,
            Some("long-poll") => Live::LongPoll,
            Some("sse") => Live::Sse,
            Some(_) => return Err(bad("`live` must be `long-poll` or `sse`")),
        };
        let mut offsets = all("offset");
        let from = match (offsets.next(), offsets.next()) {
            (None, _) if live == Live::No => StreamFrom::Start,
            (None, _) => return Err(bad("A live read needs `offset`: where to begin")),
            (Some("-1"), None) => StreamFrom::Start,
            (Some("now"), None) => StreamFrom::Now,
            (Some(text), None) => {
                let wrong = |()| bad("`offset` must be `-1`, `now`, or a Stream-Next-Offset of this stream");
                StreamFrom::At(text.parse().map_err(wrong)?)
            }
            (Some(_), Some(_)) => return Err(bad("`offset` must come once")),
        };
        let cursor = parameters.get("cursor").and_then(|text| number(text, PRODUCER_NUMBER_MAX));
        Ok(ReadRequest { from, live, cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_digits() {
        for (text, expected) in [("0", Some(0)), ("3600", Some(3600)), ("10", Some(10))] {
            assert_eq!(number(text, 9_999), expected, "{text}");
        }
        for wrong in ["", "-1", "+1", "01", "00", "1.0", "1e3", "1abc", " 1", "10000", "99999999999999999999"]
        {
            assert_eq!(number(wrong, 9_999), None, "{wrong}");
        }
    }
}

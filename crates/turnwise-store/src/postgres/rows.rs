//! Rows of answers as the contract's values.

use super::codec;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use turnwise_core::{
    Delivery, ENDED_HEADER, Enqueued, Headers, Kind, LeaseToken, MessageId, MessageInfo, Name, OrderingKey,
    Priority, QueueName, Receipt, Result, Stage, StoreError, Timestamp,
};

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("an answer of PostgreSQL's: {what}"))
}

/// A column of a row.
pub(super) fn column<'r, T: FromSql<'r>>(row: &'r Row, name: &str) -> Result<T> {
    row.try_get(name).map_err(damaged)
}

/// The first column of the first row.
pub(super) fn single<'r, T: FromSql<'r>>(rows: &'r [Row]) -> Result<T> {
    only(rows)?.try_get(0).map_err(damaged)
}

/// The one row of an answer.
pub(super) fn only(rows: &[Row]) -> Result<&Row> {
    rows.first().ok_or_else(|| damaged("it has no row"))
}

/// A number that is never negative.
pub(super) fn number(row: &Row, name: &str) -> Result<u64> {
    Ok(u64::try_from(column::<Option<i64>>(row, name)?.unwrap_or(0)).unwrap_or(0))
}

fn small(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn id(row: &Row, seq: &str, nonce: &str) -> Result<Option<MessageId>> {
    let (seq, nonce): (Option<i64>, Option<i64>) = (column(row, seq)?, column(row, nonce)?);
    Ok(seq.zip(nonce).map(|(seq, nonce)| MessageId::new(seq.cast_unsigned(), nonce.cast_unsigned())))
}

fn must(id: Option<MessageId>) -> Result<MessageId> {
    id.ok_or_else(|| damaged("an id is missing"))
}

fn time(row: &Row, name: &str) -> Result<Option<Timestamp>> {
    Ok(column::<Option<i64>>(row, name)?.map(Timestamp))
}

fn must_time(row: &Row, name: &str) -> Result<Timestamp> {
    time(row, name)?.ok_or_else(|| damaged("a time is missing"))
}

fn key(row: &Row, name: &str) -> Result<Option<OrderingKey>> {
    Ok(column::<Option<&[u8]>>(row, name)?.map(|key| OrderingKey(bytes::Bytes::copy_from_slice(key))))
}

fn priority(row: &Row, name: &str) -> Result<Priority> {
    u8::try_from(column::<i16>(row, name)?).map(Priority).map_err(damaged)
}

/// A name from its three columns.
pub(super) fn name(row: &Row, columns: [&str; 3]) -> Result<Name> {
    let [org, kind, name] = columns;
    let number = u8::try_from(column::<i16>(row, kind)?).map_err(damaged)?;
    let kind = Kind::from_number(number).ok_or_else(|| damaged("there is no such kind of name"))?;
    Name::new(column(row, org)?, kind, column(row, name)?).map_err(damaged)
}

/// Headers and payload; a message that the end of another put names that one.
fn content(row: &Row, columns: [&str; 3]) -> Result<(Headers, bytes::Bytes)> {
    let [seq, nonce, body] = columns;
    let (mut headers, payload) = codec::read_message(column(row, body)?)?;
    if let Some(ended) = id(row, seq, nonce)? {
        headers.push((ENDED_HEADER.to_owned(), ended.to_string()));
    }
    Ok((headers, payload))
}

/// An answer to an enqueue.
pub(super) fn enqueued(row: &Row) -> Result<Enqueued> {
    let found = || must(id(row, "o_seq", "o_nonce")?);
    Ok(match column::<i32>(row, "o_kind")? {
        0 => Enqueued::New {
            id: found()?,
            position: number(row, "o_position")?,
            in_flight: column(row, "o_in_flight")?,
        },
        1 => Enqueued::Duplicate(found()?),
        2 => Enqueued::DedupConflict(found()?),
        _ => Enqueued::LaneFull,
    })
}

/// A message handed out.
pub(super) fn delivery(row: &Row, queue: &QueueName) -> Result<Delivery> {
    let (headers, payload) = content(row, ["o_ended_seq", "o_ended_nonce", "o_body"])?;
    let token = LeaseToken(number(row, "o_token")?);
    Ok(Delivery {
        receipt: Receipt { queue: queue.clone(), id: must(id(row, "o_seq", "o_nonce")?)?, token },
        key: key(row, "o_key")?,
        priority: priority(row, "o_priority")?,
        headers,
        payload,
        attempt: small(column(row, "o_attempt")?),
        enqueued_at: must_time(row, "o_enqueued_at")?,
        expires_at: must_time(row, "o_until")?,
    })
}

/// What is known about a message. A lease that ran out is none any more, noticed or not.
pub(super) fn info(row: &Row, queue: &QueueName) -> Result<MessageInfo> {
    let (headers, payload) = content(row, ["ended_seq", "ended_nonce", "body"])?;
    let now = must_time(row, "now")?;
    let until = time(row, "until")?.filter(|until| *until > now);
    let reason: Option<Vec<u8>> = column(row, "reason")?;
    Ok(MessageInfo {
        id: must(id(row, "seq", "nonce")?)?,
        queue: queue.clone(),
        key: key(row, "key")?,
        priority: priority(row, "priority")?,
        stage: match (column::<i16>(row, "stage")?, until) {
            (_, Some(_)) => Stage::Leased,
            (0, None) => Stage::Scheduled,
            (1, None) => Stage::Ready,
            (_, None) => Stage::Dead,
        },
        attempt: small(column(row, "attempt")?),
        max_attempts: small(column(row, "max_attempts")?),
        enqueued_at: must_time(row, "enqueued_at")?,
        not_before: time(row, "not_before")?,
        lease_expires_at: until,
        expires_at: time(row, "expires_at")?,
        reason: reason.map(|reason| String::from_utf8_lossy(&reason).into_owned()),
        stop_requested: column(row, "stop")?,
        headers,
        payload,
    })
}

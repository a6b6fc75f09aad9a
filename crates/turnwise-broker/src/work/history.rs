//! What went wrong with a message before: written when a worker says so, in the
//! step that ends its lease. All of it is on disk: names are never reused,
//! fields never change meaning.

use super::WorkQueue;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use turnwise_core::{
    Effect, Event, Kind, MessageId, Name, NameError, NewEvent, Offset, Position, Read, ReadFrom, Store,
    StoreError, Timestamp, TopicName,
};

const FAILED: &str = "message.failed";

/// What a worker said when it could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkError {
    /// When.
    pub at: Timestamp,
    /// On which attempt.
    pub attempt: u32,
    /// Its own words.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct FailedRecord {
    message: String,
    attempt: u32,
    reason: String,
}

/// Named by the nonce, as other topics of one message are.
fn topic(queue: &WorkQueue, id: MessageId) -> Result<TopicName, NameError> {
    Name::new(queue.org(), Kind::Sys, &format!("message:{:016x}", id.nonce()))
}

/// Notes what a worker said.
pub(super) fn failed(
    queue: &WorkQueue,
    id: MessageId,
    attempt: u32,
    reason: &str,
    keep_until: Timestamp,
) -> Result<Effect, NameError> {
    let record = FailedRecord { message: id.to_string(), attempt, reason: reason.to_owned() };
    let data = serde_json::to_vec(&record).expect("plain structs with string keys always serialise");
    Ok(Effect::Publish(NewEvent {
        topic: topic(queue, id)?,
        event_type: FAILED.to_owned(),
        data: Bytes::from(data),
        dedup: None,
        keep_until: Some(keep_until),
    }))
}

/// The first and the last of what was noted.
pub(super) async fn errors(
    store: &dyn Store,
    queue: &WorkQueue,
    id: MessageId,
) -> Result<(Option<WorkError>, Option<WorkError>), StoreError> {
    let topic = topic(queue, id)?;
    let end = match store.read(&topic, ReadFrom::Latest, 1).await? {
        Read::Events { next, .. } | Read::Gap { resume: next } => next,
    };
    if end.offset == Offset(0) {
        return Ok((None, None));
    }
    let before_last = Position { offset: Offset(end.offset.0.saturating_sub(1)), ..end };
    let first = one(store, &topic, ReadFrom::Earliest, id).await?;
    let last = one(store, &topic, ReadFrom::After(before_last), id).await?;
    Ok((first, last))
}

async fn one(
    store: &dyn Store,
    topic: &TopicName,
    from: ReadFrom,
    id: MessageId,
) -> Result<Option<WorkError>, StoreError> {
    Ok(match store.read(topic, from, 1).await? {
        Read::Events { events, .. } => events.first().and_then(|event| read(event, id)),
        Read::Gap { .. } => None,
    })
}

fn read(event: &Event, id: MessageId) -> Option<WorkError> {
    let record: FailedRecord = serde_json::from_slice(&event.data).ok()?;
    let is_own = event.event_type == FAILED && record.message == id.to_string();
    is_own.then_some(WorkError { at: event.appended_at, attempt: record.attempt, reason: record.reason })
}

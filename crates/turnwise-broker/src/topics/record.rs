//! How an event of a public topic is kept: its type says what its data is. On
//! disk: prefixes are never reused.

use super::{EventBody, Retention};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use turnwise_core::{NewEvent, TopicName};

const JSON: &str = "j.";
const CLOUD_EVENT: &str = "c.";

/// Type and data as the store keeps them.
pub(super) fn written(event_type: &str, body: &EventBody) -> (String, Bytes) {
    let (prefix, data) = match body {
        EventBody::Json(data) => (JSON, data),
        EventBody::CloudEvent(data) => (CLOUD_EVENT, data),
    };
    (format!("{prefix}{event_type}"), data.clone())
}

/// The same the other way round; `None` for what a newer version has written.
pub(super) fn read(stored: &str, data: Bytes) -> Option<(String, EventBody)> {
    if let Some(event_type) = stored.strip_prefix(JSON) {
        return Some((event_type.to_owned(), EventBody::Json(data)));
    }
    let event_type = stored.strip_prefix(CLOUD_EVENT)?;
    Some((event_type.to_owned(), EventBody::CloudEvent(data)))
}

/// What is kept of a topic; a limit that is not there is none.
#[derive(Serialize, Deserialize)]
struct RetentionRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// As it is kept.
pub(super) fn retention(said: &TopicName, retention: Retention) -> NewEvent {
    let Retention { age_max, events_max, bytes_max } = retention;
    let record =
        RetentionRecord { age_s: age_max.map(|age| age.as_secs()), events: events_max, bytes: bytes_max };
    let data = serde_json::to_vec(&record).expect("numbers are JSON").into();
    NewEvent { topic: said.clone(), event_type: "retention".to_owned(), data, dedup: None, keep_until: None }
}

/// The same the other way round.
pub(super) fn read_retention(data: &[u8]) -> Option<Retention> {
    let RetentionRecord { age_s, events, bytes } = serde_json::from_slice(data).ok()?;
    Some(Retention { age_max: age_s.map(Duration::from_secs), events_max: events, bytes_max: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_what_is_newer_is_passed_over() {
        for body in
            [EventBody::Json(Bytes::from_static(b"1")), EventBody::CloudEvent(Bytes::from_static(b"{}"))]
        {
            let (stored, data) = written("order.created", &body);
            assert_eq!(read(&stored, data), Some(("order.created".to_owned(), body)));
        }
        assert_eq!(read("z.order", Bytes::new()), None);
    }
}

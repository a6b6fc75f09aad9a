//! How a step of a stream is kept: an event of its topic, whose data is a
//! head in JSON, its length before it, and the bytes that were appended. On
//! disk: names of fields are never reused.

use super::life::{Life, Producer};
use crate::limits::STREAM_HEAD_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use turnwise_core::{Event, Timestamp};

/// The type of such an event; another form would have another one.
pub(super) const FORM: &str = "stream.1";

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// The stream began, or something about it was set: all that is to be known of it afterwards.
    Whole(Box<Life>),
    /// Bytes were appended, or it was closed, or both.
    Append(Append),
    /// Somebody read it, and so it lives on.
    Touch,
    /// It is no more.
    End,
}

/// An append.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Append {
    /// Who appended, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) producer: Option<(String, Producer)>,
    /// The writer's own sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<String>,
    /// It was the last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) close: bool,
}

/// Before the bytes of each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The offset it was written for. At any other it is void: somebody was faster.
    pub(super) slot: u64,
    /// The newest step up to this one that holds all that is to be known.
    pub(super) whole_at: u64,
    /// Which stream of this name.
    pub(super) life: u64,
    /// All bytes of the stream up to the end of this step.
    pub(super) bytes: u64,
    /// What it did.
    pub(super) step: Step,
    /// The same once more after it, now and then, so that nobody has to read from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Box<Life>>,
}

/// One step as it was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
}

/// As the store keeps it.
pub(super) fn written(head: &Head, payload: &[u8]) -> Bytes {
    let head = serde_json::to_vec(head).expect("strings and numbers are JSON");
    let mut data = BytesMut::with_capacity(4 + head.len() + payload.len());
    data.put_u32(u32::try_from(head.len()).expect("a head is short"));
    data.put_slice(&head);
    data.put_slice(payload);
    data.freeze()
}

/// The same the other way round; `None` for what does not count: void, or of a form that is not known here.
pub(super) fn read(event: &Event) -> Option<Record> {
    if event.event_type != FORM {
        return None;
    }
    let (length, rest) = event.data.split_first_chunk::<4>()?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).ok().filter(|it| *it <= STREAM_HEAD_BYTES_MAX)?;
    let (head, _) = rest.split_at_checked(length)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let payload = event.data.slice(4 + length..);
    (head.slot == event.offset.0).then_some(Record { head, payload, at: event.appended_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnwise_core::Offset;

    fn event(offset: u64, data: Bytes) -> Event {
        Event { offset: Offset(offset), event_type: FORM.to_owned(), data, appended_at: Timestamp(7) }
    }

    #[test]
    fn a_step_reads_back_and_counts_only_where_it_was_meant_for() {
        let append = Append { producer: None, seq: Some("001".to_owned()), close: true };
        let head = Head { slot: 3, whole_at: 1, life: 9, bytes: 12, step: Step::Append(append), after: None };
        let data = written(&head, b"some bytes");
        let record = read(&event(3, data.clone())).expect("it is at its place");
        assert_eq!((record.head, &record.payload[..], record.at), (head, &b"some bytes"[..], Timestamp(7)));
        assert!(read(&event(4, data.clone())).is_none(), "somebody was faster");
        let newer = Event { event_type: "stream.2".to_owned(), ..event(3, data.clone()) };
        assert!(read(&newer).is_none());
        for cut in 0..data.len().min(40) {
            assert!(read(&event(3, data.slice(..cut))).is_none(), "cut at {cut}");
        }
    }
}

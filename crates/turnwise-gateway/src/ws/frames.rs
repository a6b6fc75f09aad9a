//! JSON frames as bytes.

use super::framing;
use super::out::Piece;
use crate::error::Failure;
use crate::rest::topics;
use bytes::{Bytes, BytesMut};
use turnwise_api::{Rfc3339, ServerFrame};
use turnwise_broker::TopicEvent;

/// A frame, on its own.
pub(super) fn bytes(frame: &ServerFrame<'_>) -> Bytes {
    framing::text(&json(frame))
}

/// The same, to be sent.
pub(super) fn piece(frame: &ServerFrame<'_>) -> Piece {
    Piece::Frame(bytes(frame))
}

/// Appends a frame.
pub(super) fn put(out: &mut BytesMut, frame: &ServerFrame<'_>) {
    framing::put_text(out, &json(frame));
}

/// What could not be done.
pub(super) fn error(failure: &Failure, id: Option<&str>) -> Bytes {
    let (code, message, retry_after) = failure.told();
    bytes(&ServerFrame::Error { message, code: code.name(), retry_after, id })
}

fn json(frame: &ServerFrame<'_>) -> Vec<u8> {
    serde_json::to_vec(frame).expect("strings, numbers and JSON are JSON")
}

/// An event's frame, the same for all who get it; empty for what cannot be read, which was said to the log.
pub(super) fn of_event(event: &TopicEvent) -> Bytes {
    let (Some(place), Ok(shown)) = (event.place, topics::shown(event)) else { return Bytes::new() };
    bytes(&ServerFrame::Message {
        topic: shown.topic,
        place: &place.to_string(),
        position: &shown.position,
        event_type: shown.event_type,
        timestamp: Rfc3339(event.at.0),
        data: shown.data,
        cloudevent: shown.cloudevent,
    })
}

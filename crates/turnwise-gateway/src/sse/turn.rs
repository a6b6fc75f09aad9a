//! The events of a turn as they are sent.

use super::encoder;
use super::live::Shown;
use bytes::BytesMut;
use std::fmt::Display;
use turnwise_api::conversation::StreamError;
use turnwise_broker::{TurnError, TurnEvent};
use turnwise_core::MessageId;

/// An event and whose it is.
pub(crate) struct OfTurn {
    pub(crate) id: MessageId,
    pub(crate) event: TurnEvent,
}

impl Shown for OfTurn {
    fn write(self, out: &mut BytesMut) -> bool {
        write(out, self.id, self.event)
    }
}

/// Writes one event; true if it is the last one.
fn write(out: &mut BytesMut, id: MessageId, event: TurnEvent) -> bool {
    let own = |out: &mut BytesMut, position: Option<&dyn Display>, name| {
        encoder::own_event(out, position, name, format_args!("{{\"message_id\":\"{id}\"}}"));
    };
    match event {
        TurnEvent::Queued => own(out, None, "queued"),
        TurnEvent::Processing { position: Some(position) } => own(out, Some(&position), "processing"),
        TurnEvent::Processing { position: None } => own(out, None, "processing"),
        TurnEvent::Agent { position, name, data } => {
            encoder::agent_event(out, &position, name.as_deref(), &data);
        }
        TurnEvent::Position { place } => {
            encoder::own_event(out, None, "position", format_args!("{{\"position\":{place}}}"));
        }
        TurnEvent::Gap { resume } => {
            encoder::own_event(out, Some(&resume), "gap", format_args!("{{\"resume\":\"{resume}\"}}"));
        }
        TurnEvent::Done { position } => {
            own(out, Some(&position), "done");
            return true;
        }
        TurnEvent::Cancelled { position } => {
            own(out, Some(&position), "cancelled");
            return true;
        }
        TurnEvent::Error { position, error } => {
            let data = error_data(id, &error);
            encoder::own_event(out, Some(&position), "error", format_args!("{data}"));
            return true;
        }
    }
    false
}

fn error_data(id: MessageId, error: &TurnError) -> String {
    let id = id.to_string();
    let data = StreamError { error: &error.detail, code: &error.code, status: error.status, message_id: &id };
    serde_json::to_string(&data).expect("strings and a number are JSON")
}

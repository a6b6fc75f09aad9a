//! What the broker writes down about callbacks. All of it is on disk: names
//! are never reused, fields never change meaning.

use super::callbacks_queue;
use crate::conversation::push_bytes;
use crate::error::BrokerError;
use crate::limits::EVENTS_PAGE;
use crate::pages::each_event;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::ControlFlow;
use turnwise_core::limits::ATTEMPTS_MAX;
use turnwise_core::{
    ENDED_HEADER, Effect, Event, Headers, Kind, MessageId, Name, NameError, NewEvent, NewMessage,
    OrderingKey, Store, StoreError, Timestamp, TopicName,
};

/// What a turn knows of its callback; travels in the turn's headers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CallbackNote {
    pub(crate) url: String,
    /// Host and port.
    pub(crate) lane: String,
    pub(crate) client_message_id: Option<String>,
}

/// URLs of callbacks hold secrets.
impl fmt::Debug for CallbackNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackNote")
    }
}

const URL: &str = "callback";
const LANE: &str = "callback-lane";
const CLIENT_MESSAGE_ID: &str = "client-message-id";

impl CallbackNote {
    pub(crate) fn write(&self, headers: &mut Headers) {
        headers.push((URL.to_owned(), self.url.clone()));
        headers.push((LANE.to_owned(), self.lane.clone()));
        if let Some(id) = &self.client_message_id {
            headers.push((CLIENT_MESSAGE_ID.to_owned(), id.clone()));
        }
    }

    pub(crate) fn read(headers: &Headers) -> Option<CallbackNote> {
        let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(CallbackNote { url: find(URL)?, lane: find(LANE)?, client_message_id: find(CLIENT_MESSAGE_ID) })
    }
}

/// The payload of a callback. The turn's id is a header, because the store may have to write it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct CallbackRecord {
    pub(super) url: String,
    pub(super) user: String,
    pub(super) client_message_id: Option<String>,
}

/// The message that is to be stored with the end of a turn. `ended` is missing when the store itself ends it.
pub(crate) fn effect(
    (org, nonce): (&str, u64),
    ended: Option<MessageId>,
    conversation: Option<&OrderingKey>,
    user: &str,
    note: &CallbackNote,
) -> Result<Effect, BrokerError> {
    let mut key = Vec::new();
    push_bytes(&mut key, conversation.map_or(&[], |key| &key.0));
    push_bytes(&mut key, note.lane.as_bytes());
    let record = CallbackRecord {
        url: note.url.clone(),
        user: user.to_owned(),
        client_message_id: note.client_message_id.clone(),
    };
    let mut message = NewMessage::new(callbacks_queue(org)?, json(&record));
    message.key = Some(OrderingKey(Bytes::from(key)));
    // Deliveries are counted in the history: waiting for a host also takes leases.
    message.max_attempts = ATTEMPTS_MAX;
    message.nonce = nonce;
    message.headers.extend(ended.map(|id| (ENDED_HEADER.to_owned(), id.to_string())));
    Ok(Effect::Enqueue(message))
}

/// What a stored callback is about.
pub(super) fn read_message(
    headers: &Headers,
    payload: &[u8],
) -> Result<(MessageId, CallbackRecord), StoreError> {
    let damaged = |what: &str| StoreError::Corrupt(format!("a callback: {what}"));
    let turn = headers.iter().find(|(name, _)| name == ENDED_HEADER).and_then(|(_, id)| id.parse().ok());
    let record = serde_json::from_slice(payload).map_err(|_| damaged("its payload"))?;
    Ok((turn.ok_or_else(|| damaged("no turn"))?, record))
}

/// What became of a turn's callback, one event each time it was tried. Named by the nonce of turn and callback.
pub(crate) fn history_topic(org: &str, nonce: u64) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Callbacks, &format!("{nonce:016x}"))
}

/// What happened to a callback. Numbers of attempts begin anew after a redrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HistoryRecord {
    /// The callback's id.
    pub(super) callback: String,
    pub(super) at: i64,
    pub(super) attempt: u32,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
}

/// Which of the things that happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Delivered,
    Failed,
    Dead,
    Redriven,
    Dropped,
}

impl Happened {
    const ALL: [Happened; 5] =
        [Happened::Delivered, Happened::Failed, Happened::Dead, Happened::Redriven, Happened::Dropped];

    fn name(self) -> &'static str {
        match self {
            Happened::Delivered => "callback.delivered",
            Happened::Failed => "callback.failed",
            Happened::Dead => "callback.dead",
            Happened::Redriven => "callback.redriven",
            Happened::Dropped => "callback.dropped",
        }
    }
}

pub(super) fn happened(
    topic: TopicName,
    what: Happened,
    record: &HistoryRecord,
    keep_until: Timestamp,
) -> NewEvent {
    NewEvent {
        topic,
        event_type: what.name().to_owned(),
        data: json(record),
        dedup: None,
        keep_until: Some(keep_until),
    }
}

/// All that is known of the tries so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Since the last redrive.
    pub(super) attempts: u32,
    pub(super) last: Option<(Happened, HistoryRecord)>,
    /// The last that was a try.
    pub(super) last_attempt: Option<HistoryRecord>,
}

impl History {
    pub(super) async fn read(store: &dyn Store, topic: &TopicName) -> Result<History, StoreError> {
        let mut history = History::default();
        each_event(store, topic, EVENTS_PAGE, |event| {
            history.add(event);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(history)
    }

    fn add(&mut self, event: &Event) {
        let what = Happened::ALL.into_iter().find(|what| what.name() == event.event_type);
        let (Some(what), Ok(record)) = (what, serde_json::from_slice::<HistoryRecord>(&event.data)) else {
            return;
        };
        match what {
            Happened::Redriven => self.attempts = 0,
            Happened::Delivered | Happened::Failed | Happened::Dead => {
                self.attempts = self.attempts.max(record.attempt);
                self.last_attempt = Some(record.clone());
            }
            Happened::Dropped => {}
        }
        self.last = Some((what, record));
    }
}

/// The readers of these records, for the fuzz targets alone.
pub(crate) mod fuzzing {
    use super::{CallbackRecord, HistoryRecord};

    /// What happened to a callback.
    #[must_use]
    pub fn history_again(data: &[u8]) -> Option<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<HistoryRecord>(data).ok()?).ok()
    }

    /// A callback.
    #[must_use]
    pub fn message_again(data: &[u8]) -> Option<Vec<u8>> {
        serde_json::to_vec(&serde_json::from_slice::<CallbackRecord>(data).ok()?).ok()
    }
}

fn json(record: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(record).expect("plain structs with string keys always serialise"))
}

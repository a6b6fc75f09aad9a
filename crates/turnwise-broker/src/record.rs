//! What the broker writes down: headers of a turn, events of its reply topic.
//! All of it is on disk: names are never reused, fields never change meaning.

use crate::callback::CallbackNote;
use crate::lease::AgentEvent;
use crate::limits::{EVENT_NAME_BYTES_MAX, TRACEPARENT_BYTES_MAX};
use crate::turn::{TurnEnd, TurnError, TurnState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use turnwise_core::{Event, Headers, MessageId, NewEvent, StoreError, Timestamp, TopicName};

const PROCESSING: &str = "turn.processing";
const DONE: &str = "turn.done";
const ERROR: &str = "turn.error";
const CANCELLED: &str = "turn.cancelled";
const BUSY: &str = "turn.busy";
const AGENT: &str = "agent";
const AGENT_PREFIX: &str = "agent.";
/// Room for most records without growing.
const RECORD_BYTES_TYPICAL: usize = 320;

/// What an event of a reply topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Processing,
    /// Under its own name, if it has one.
    Agent(Option<&'a str>),
    Terminal(TurnState),
    /// The agent was busy; not for readers.
    Busy,
    /// Written by a newer version; not for readers.
    Other,
}

pub(crate) fn kind_of(event_type: &str) -> Stored<'_> {
    match event_type {
        PROCESSING => Stored::Processing,
        DONE => Stored::Terminal(TurnState::Completed),
        ERROR => Stored::Terminal(TurnState::Failed),
        CANCELLED => Stored::Terminal(TurnState::Cancelled),
        BUSY => Stored::Busy,
        AGENT => Stored::Agent(None),
        other => other.strip_prefix(AGENT_PREFIX).map_or(Stored::Other, |name| Stored::Agent(Some(name))),
    }
}

fn event(topic: &TopicName, event_type: &str, data: Bytes) -> NewEvent {
    NewEvent { topic: topic.clone(), event_type: event_type.to_owned(), data, dedup: None, keep_until: None }
}

pub(crate) fn processing(topic: &TopicName) -> NewEvent {
    event(topic, PROCESSING, Bytes::new())
}

pub(crate) fn agent_event(topic: &TopicName, agent: AgentEvent) -> NewEvent {
    match agent.name.as_deref() {
        None | Some("") => event(topic, AGENT, agent.data),
        Some(name) => {
            let mut end = name.len().min(EVENT_NAME_BYTES_MAX);
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            let name = name.get(..end).unwrap_or_default();
            event(topic, &format!("{AGENT_PREFIX}{name}"), agent.data)
        }
    }
}

/// Kept in the reply topic each time the agent was busy, so that waiting for
/// it is never taken for a crash.
#[derive(Serialize, Deserialize)]
pub(crate) struct BusyRecord {
    /// When it was first busy, in microseconds.
    pub(crate) since: i64,
    /// When the first call started.
    pub(crate) first_claimed: i64,
    /// The call that found it busy; missing in records of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) call: Option<BusyCall>,
}

/// One call that found the agent busy.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct BusyCall {
    pub(crate) attempt: u32,
    /// When it began, in microseconds.
    pub(crate) claimed: i64,
}

pub(crate) fn busy(topic: &TopicName, record: &BusyRecord) -> NewEvent {
    event(topic, BUSY, json(record))
}

pub(crate) fn parse_busy(data: &[u8]) -> Option<BusyRecord> {
    serde_json::from_slice(data).ok()
}

/// Where the whole answer of a completed turn is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnswerPlace {
    /// There is none; the events are the answer.
    None,
    /// The event just before the terminal one.
    Previous,
    /// Here.
    Inline(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorRecord {
    pub(crate) code: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
}

/// The data of a terminal event: all that a turn leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TerminalRecord {
    /// Missing when written before the store gave the id.
    pub(crate) id: Option<String>,
    pub(crate) user: String,
    pub(crate) client: String,
    pub(crate) accepted_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) attempts: u32,
    /// Of the lease that wrote it.
    pub(crate) token: Option<u64>,
    pub(crate) answer: AnswerPlace,
    pub(crate) error: Option<ErrorRecord>,
    /// A callback was stored beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) callback: bool,
    /// The failed turn whose message it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redrive_of: Option<String>,
    /// When a client asked to stop the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_asked_at: Option<i64>,
}

impl TerminalRecord {
    pub(crate) fn event(&self, topic: &TopicName, state: TurnState, keep_until: Timestamp) -> NewEvent {
        let event_type = match state {
            TurnState::Completed => DONE,
            TurnState::Cancelled => CANCELLED,
            TurnState::Failed | TurnState::Queued | TurnState::Processing => ERROR,
        };
        NewEvent { keep_until: Some(keep_until), ..event(topic, event_type, json(self)) }
    }
}

fn json(record: &impl Serialize) -> Bytes {
    let mut json = Vec::with_capacity(RECORD_BYTES_TYPICAL);
    serde_json::to_writer(&mut json, record).expect("plain structs with string keys always serialise");
    Bytes::from(json)
}

/// A terminal event as read back, with the answer it points to.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    pub(crate) offset: turnwise_core::Offset,
    pub(crate) state: TurnState,
    pub(crate) finished_at: Timestamp,
    pub(crate) record: TerminalRecord,
    pub(crate) answer: Option<Bytes>,
}

impl Terminal {
    /// The terminal event among neighbouring events, with the answer before it.
    pub(crate) fn among(events: &[Event]) -> Result<Option<Terminal>, StoreError> {
        let state_of = |event: &Event| match kind_of(&event.event_type) {
            Stored::Terminal(state) => Some(state),
            Stored::Processing | Stored::Agent(_) | Stored::Busy | Stored::Other => None,
        };
        let found = events.iter().enumerate().find_map(|(at, event)| Some((at, event, state_of(event)?)));
        let Some((at, event, state)) = found else {
            return Ok(None);
        };
        let record = parse_terminal(&event.data)?;
        let answer = match &record.answer {
            AnswerPlace::None => None,
            AnswerPlace::Inline(text) => Some(Bytes::from(text.clone())),
            AnswerPlace::Previous => {
                at.checked_sub(1).and_then(|at| events.get(at)).map(|it| it.data.clone())
            }
        };
        Ok(Some(Terminal { offset: event.offset, state, finished_at: event.appended_at, record, answer }))
    }

    /// Whether it is this turn's: topics are named by the nonce alone.
    pub(crate) fn is_of(&self, id: MessageId) -> bool {
        self.record.id.as_ref().is_none_or(|known| *known == id.to_string())
    }

    pub(crate) fn end(&self) -> TurnEnd {
        TurnEnd {
            state: self.state,
            answer: self.answer.clone(),
            error: self.record.error.clone().map(TurnError::from),
            finished_at: self.finished_at,
        }
    }
}

pub(crate) fn parse_terminal(data: &[u8]) -> Result<TerminalRecord, StoreError> {
    serde_json::from_slice(data).map_err(|error| StoreError::Corrupt(format!("a terminal event: {error}")))
}

impl From<ErrorRecord> for TurnError {
    fn from(record: ErrorRecord) -> TurnError {
        TurnError { code: record.code, status: record.status, detail: record.detail }
    }
}

impl From<TurnError> for ErrorRecord {
    fn from(error: TurnError) -> ErrorRecord {
        ErrorRecord { code: error.code, status: error.status, detail: error.detail }
    }
}

/// What travels beside the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TurnHeaders {
    pub(crate) user: String,
    pub(crate) client: String,
    pub(crate) prefer_stream: bool,
    pub(crate) traceparent: Option<String>,
    pub(crate) accepted_at: Timestamp,
    pub(crate) callback: Option<CallbackNote>,
    pub(crate) redrive_of: Option<MessageId>,
}

impl TurnHeaders {
    pub(crate) fn write(&self) -> Headers {
        let mut headers = vec![
            ("user".to_owned(), self.user.clone()),
            ("client".to_owned(), self.client.clone()),
            ("accepted".to_owned(), self.accepted_at.0.to_string()),
        ];
        if self.prefer_stream {
            headers.push(("stream".to_owned(), "1".to_owned()));
        }
        if let Some(context) = self.traceparent.as_ref().filter(|it| it.len() <= TRACEPARENT_BYTES_MAX) {
            headers.push(("traceparent".to_owned(), context.clone()));
        }
        if let Some(failed) = self.redrive_of {
            headers.push(("redrive-of".to_owned(), failed.to_string()));
        }
        if let Some(callback) = &self.callback {
            callback.write(&mut headers);
        }
        headers
    }

    pub(crate) fn read(headers: &Headers, enqueued_at: Timestamp) -> TurnHeaders {
        let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        TurnHeaders {
            user: find("user").unwrap_or_default(),
            client: find("client").unwrap_or_default(),
            prefer_stream: find("stream").is_some(),
            traceparent: find("traceparent"),
            accepted_at: find("accepted").and_then(|it| it.parse().ok()).map_or(enqueued_at, Timestamp),
            callback: CallbackNote::read(headers),
            redrive_of: find("redrive-of").and_then(|id| id.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnwise_core::{Kind, Name};

    fn topic() -> TopicName {
        Name::new("o", Kind::Reply, "r").expect("a valid name")
    }

    #[test]
    fn an_agent_cannot_forge_our_events() {
        let forged = AgentEvent { name: Some("turn.done".into()), data: Bytes::new() };
        let event = agent_event(&topic(), forged);
        assert_eq!(kind_of(&event.event_type), Stored::Agent(Some("turn.done")));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = AgentEvent { name: Some("é".repeat(200)), data: Bytes::new() };
        assert!(agent_event(&topic(), long).event_type.len() <= 128);
    }

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = TurnHeaders {
            user: "u".into(),
            client: "c".into(),
            prefer_stream: true,
            traceparent: Some("00-a-b-01".into()),
            accepted_at: Timestamp(7),
            callback: Some(CallbackNote {
                url: "https://a.example/".into(),
                lane: "a.example:443".into(),
                client_message_id: Some("m".into()),
            }),
            redrive_of: Some(MessageId::new(1, 2)),
        };
        assert_eq!(TurnHeaders::read(&headers.write(), Timestamp(9)), headers);
    }
}

//! What is known about a turn, during and after.

use crate::callback::CallbackView;
use crate::timeline::Step;
use bytes::Bytes;
use turnwise_core::{MessageId, Timestamp};

/// Where a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnState {
    /// Waiting for those before it, for a free slot, or for a busy agent.
    Queued,
    /// The agent is working on it.
    Processing,
    /// Answered.
    Completed,
    /// Given up on.
    Failed,
    /// Taken back by its client.
    Cancelled,
}

impl TurnState {
    /// Nothing more will happen to it.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            TurnState::Queued | TurnState::Processing => false,
            TurnState::Completed | TurnState::Failed | TurnState::Cancelled => true,
        }
    }
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnEnd {
    /// One of the three that are over.
    pub state: TurnState,
    /// The agent's JSON, if it gave one as a whole.
    pub answer: Option<Bytes>,
    /// Why it failed.
    pub error: Option<TurnError>,
    /// When.
    pub finished_at: Timestamp,
}

/// Why a turn failed, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnError {
    /// `agent_timeout`, `agent_unreachable`, `agent_error`, `agent_rejected`, `agent_busy`,
    /// `answer_interrupted`, `expired` or `attempts_exhausted`.
    pub code: String,
    /// The HTTP status a waiting caller gets.
    pub status: u16,
    /// A sentence.
    pub detail: String,
}

impl TurnError {
    /// An error from its parts.
    #[must_use]
    pub fn new(code: &str, status: u16, detail: impl Into<String>) -> TurnError {
        TurnError { code: code.to_owned(), status, detail: detail.into() }
    }

    /// A crash or lost lease cut an answer of which a part is stored.
    #[must_use]
    pub fn answer_interrupted() -> TurnError {
        TurnError::new("answer_interrupted", 502, "The answer was interrupted; its beginning is kept.")
    }

    /// Every call was lost to a crash.
    #[must_use]
    pub fn attempts_exhausted(attempts: u32) -> TurnError {
        let detail = format!("The turn was started {attempts} times and never finished.");
        TurnError::new("attempts_exhausted", 502, detail)
    }

    /// The agent kept asking to come back later.
    #[must_use]
    pub fn agent_busy() -> TurnError {
        TurnError::new("agent_busy", 503, "The agent was busy for too long.")
    }

    /// Nobody worked on the turn in time.
    #[must_use]
    pub fn expired() -> TurnError {
        TurnError::new("expired", 504, "The turn was not processed within its retention.")
    }
}

/// Everything about one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnView {
    /// Its id.
    pub id: MessageId,
    /// Its org.
    pub org: String,
    /// Who submitted it.
    pub user: String,
    /// Through which client.
    pub client: String,
    /// Where it is.
    pub state: TurnState,
    /// While it is not over: its place in the conversation, 1 is the head.
    pub position: Option<u64>,
    /// Agent calls so far.
    pub attempts: u32,
    /// When it was stored.
    pub accepted_at: Timestamp,
    /// When the running or last call started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// While it is not over: when it expires; then until when its answer is kept.
    pub expires_at: Timestamp,
    /// The agent's JSON, if it gave one as a whole.
    pub answer: Option<Bytes>,
    /// Why it failed.
    pub error: Option<TurnError>,
    /// The text of a streamed answer as far as it is stored, when there is no whole one.
    pub partial: Option<String>,
    /// What becomes of its callback, if it has one.
    pub callback: Option<CallbackView>,
    /// The failed turn whose message it is.
    pub redrive_of: Option<MessageId>,
    /// Every step so far with its time, first to last.
    pub timeline: Vec<Step>,
}

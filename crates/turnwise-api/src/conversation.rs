//! What can be read about turns and queues.

use crate::callback::TurnCallback;
use crate::message::MessageStatus;
use crate::time::Rfc3339;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Why a turn failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TurnFailure<'a> {
    /// One of the codes of [`crate::Code`].
    pub code: &'a str,
    /// The HTTP status a waiting request gets for it.
    pub status: u16,
    /// What happened.
    pub detail: &'a str,
}

/// The data of an event stream's `error`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamError<'a> {
    /// What happened. The name is the original's.
    pub error: &'a str,
    /// One of the codes of [`crate::Code`].
    pub code: &'a str,
    /// The HTTP status a waiting request gets for it.
    pub status: u16,
    /// The turn.
    pub message_id: &'a str,
}

/// The answer of `GET` and `DELETE /api/v1/message/{message_id}`; every key is always there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TurnAnswer<'a> {
    /// The turn.
    pub message_id: &'a str,
    /// Its organisation.
    pub org_id: &'a str,
    /// Its user.
    pub user_id: &'a str,
    /// The client it came from.
    pub client_id: &'a str,
    /// Where it is.
    pub status: MessageStatus,
    /// Its place while it waits, counting the turn in progress.
    #[schema(required = true)]
    pub position: Option<u64>,
    /// Calls to the agent so far.
    pub attempts: u32,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub accepted_at: Rfc3339,
    /// When its first call to the agent began.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub started_at: Option<Rfc3339>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub finished_at: Option<Rfc3339>,
    /// Until when it can be read.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Rfc3339,
    /// The agent's answer, unchanged.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub answer: Option<&'a RawValue>,
    /// Why it failed.
    #[schema(required = true)]
    pub error: Option<TurnFailure<'a>>,
    /// What came before it failed or was cancelled.
    #[schema(required = true)]
    pub partial: Option<&'a str>,
    /// What becomes of its callback, if it has one.
    #[schema(required = true)]
    pub callback: Option<TurnCallback>,
    /// The failed turn whose message it is.
    #[schema(required = true)]
    pub redrive_of: Option<String>,
    /// Every step so far with its time, first to last. Kept with the turn, also over a restart.
    pub timeline: Vec<TimelineStep>,
}

/// One step of a turn.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct TimelineStep {
    /// What happened.
    pub step: TurnStep,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Rfc3339,
    /// Of `claimed` and `busy`: which call it tells of, 1 for the first. A
    /// number that is missing belongs to a call that a crash took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// What can happen to a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnStep {
    /// Stored.
    Accepted,
    /// Handed out for a call to the agent.
    Claimed,
    /// The agent asked to come back later.
    Busy,
    /// The first event of the answer was stored.
    FirstEvent,
    /// A client asked to stop the call.
    StopRequested,
    /// Over, with an answer.
    Completed,
    /// Over, without one.
    Failed,
    /// Over, on request.
    Cancelled,
    /// Its callback was stored, in the step that ended it.
    CallbackQueued,
    /// Its callback was taken; `attempt` is the try.
    CallbackDelivered,
    /// Its callback was given up; `attempt` is the last try.
    CallbackDead,
}

/// The answer of `GET /api/v1/queue/{user_id}`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueAnswer<'a> {
    /// The user asked about.
    pub user_id: &'a str,
    /// Turns that wait, without the one in progress.
    pub queue_length: u64,
    /// A turn of the user's own conversations is at the agent.
    pub is_processing: bool,
    /// That turn.
    #[schema(required = true)]
    pub current_message_id: Option<String>,
    /// How long the oldest waiting turn has waited.
    #[schema(required = true)]
    pub oldest_waiting_seconds: Option<f64>,
    /// Every conversation with a turn of this user, groups included.
    pub conversations: Vec<QueueConversation<'a>>,
}

/// One conversation in a [`QueueAnswer`].
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueConversation<'a> {
    /// Its organisation.
    pub org_id: &'a str,
    /// `private` or `group`.
    pub chat_type: &'static str,
    /// The group.
    #[schema(required = true)]
    pub chat_id: Option<&'a str>,
    /// The thread inside the group.
    #[schema(required = true)]
    pub thread_id: Option<&'a str>,
    /// Turns that wait, without the one in progress.
    pub queue_length: u64,
    /// A turn is at the agent.
    pub is_processing: bool,
    /// That turn.
    #[schema(required = true)]
    pub current_message_id: Option<String>,
    /// How long the oldest waiting turn has waited.
    #[schema(required = true)]
    pub oldest_waiting_seconds: Option<f64>,
}

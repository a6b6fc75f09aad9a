//! What is posted to a callback URL, and what can be read about callbacks.

use crate::time::Rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// How a turn ended, as far as a callback tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallbackStatus {
    /// Answered.
    Completed,
    /// Failed, expired or cancelled: `code` tells.
    Error,
}

/// The body of a callback. The three parts of an answer are there, or null, when it is completed; `error` and
/// `code` when it is not.
#[derive(Clone, Debug, Serialize)]
pub struct CallbackBody<'a> {
    /// The turn.
    pub message_id: &'a str,
    /// Its user.
    pub user_id: &'a str,
    /// The client's own id of it, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<&'a str>,
    /// How it ended.
    pub status: CallbackStatus,
    /// The agent's texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses: Option<Option<&'a RawValue>>,
    /// The language of the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_language: Option<Option<&'a RawValue>>,
    /// The spoken answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice_audio_base64: Option<Option<&'a RawValue>>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// One of the codes of [`crate::Code`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
}

/// Where a callback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallbackPhase {
    /// For the end of its turn, for those before it, or for its next try.
    Waiting,
    /// It is being tried.
    Delivering,
    /// Taken.
    Delivered,
    /// Given up on; it can be redriven while the turn's end is kept.
    Dead,
    /// An operator has dropped it.
    Dropped,
}

/// The callback of a turn, in the answer of `GET /api/v1/message/{message_id}`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TurnCallback {
    /// Its id, also that of its `webhook-id`; null before the first try.
    #[schema(required = true)]
    pub id: Option<String>,
    /// Where it is.
    pub status: CallbackPhase,
    /// Tries so far, since the last redrive.
    pub attempts: u32,
    /// Not tried before.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Rfc3339>,
    /// When it was last tried.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_attempt_at: Option<Rfc3339>,
    /// What its host answered then.
    #[schema(required = true)]
    pub last_status: Option<u16>,
    /// Why it was not taken.
    #[schema(required = true)]
    pub last_error: Option<String>,
}

/// The answer of `GET /api/v1/callbacks/{id}`; every key is always there. Of the URL only scheme, host and port
/// are told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CallbackAnswer {
    /// Its id.
    pub id: String,
    /// Its organisation.
    pub org_id: String,
    /// The turn whose end it tells.
    pub message_id: String,
    /// Where it is.
    pub status: CallbackPhase,
    /// Scheme, host and port of its URL.
    #[schema(required = true)]
    pub origin: Option<String>,
    /// When the turn ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub created_at: Option<Rfc3339>,
    /// Tries so far, since the last redrive.
    pub attempts: u32,
    /// Not tried before.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Rfc3339>,
    /// When it was last tried.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_attempt_at: Option<Rfc3339>,
    /// What its host answered then.
    #[schema(required = true)]
    pub last_status: Option<u16>,
    /// Why it was not taken.
    #[schema(required = true)]
    pub last_error: Option<String>,
}

/// The answer of `GET /api/v1/callbacks`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CallbackList {
    /// By organisation, then by age.
    pub items: Vec<CallbackAnswer>,
    /// Give it as `after` for the next page; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// The body of `POST /api/v1/callbacks/redrive`: `ids`, or `all`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// These callbacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// All dead ones.
    #[serde(default)]
    pub all: bool,
    /// Only of this organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer of `POST /api/v1/callbacks/redrive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RedriveAnswer {
    /// Callbacks that were put back, or would be.
    pub redriven: u64,
    /// Nothing was done.
    pub dry_run: bool,
}

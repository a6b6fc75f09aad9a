//! What goes to the agent, and the plain answer that comes back.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The body of `POST /api/v1/chat` and `/api/v1/chat/stream` at the agent.
#[derive(Clone, Debug, Serialize)]
pub struct ChatRequest<'a> {
    /// The client's kind, such as `web`.
    pub client_id: &'a str,
    /// Who wrote.
    pub user_id: &'a str,
    /// The text; empty for audio without words.
    pub message: &'a str,
    /// `text` or `audio`.
    pub message_type: &'a str,
    /// The organisation.
    pub org: &'a str,
    /// The recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_base64: Option<&'a str>,
    /// The recording's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_format: Option<&'a str>,
    /// `private`, `group` or `supergroup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_type: Option<&'a str>,
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<&'a str>,
    /// The thread inside the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<&'a str>,
    /// Who speaks in the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speaker: Option<&'a str>,
    /// Whether the group's message is meant for the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressed_to_bot: Option<bool>,
    /// The language the answer should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_language_hint: Option<&'a str>,
    /// Whatever the client wants the agent to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a RawValue>,
}

/// The parts of the agent's plain answer that a client of the original knows.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ChatAnswer<'a> {
    /// The texts.
    #[serde(borrow, default)]
    pub responses: Option<&'a RawValue>,
    /// The language of the texts.
    #[serde(borrow, default)]
    pub response_language: Option<&'a RawValue>,
    /// The spoken answer.
    #[serde(borrow, default)]
    pub voice_audio_base64: Option<&'a RawValue>,
}

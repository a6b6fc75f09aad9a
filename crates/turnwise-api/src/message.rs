//! `POST /api/v1/message`: what comes in, and what goes out.

use crate::shallow::Shallow;
use crate::text::{Field, Text};
use crate::time::Rfc3339;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use utoipa::ToSchema;

/// A submission as a client writes it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MessageRequest<'a> {
    /// Who writes.
    pub user_id: &'a str,
    /// In which organisation.
    pub org_id: &'a str,
    /// With what kind of client.
    pub client_id: &'a str,
    /// The text.
    pub message: &'a str,
    /// `text` or `audio`; text if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<&'a str>,
    /// The recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_base64: Option<&'a str>,
    /// The recording's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_format: Option<&'a str>,
    /// Makes a repeat harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<&'a str>,
}

/// A submission as it came: each known field with its value or the wrong kind
/// of value. Unknown fields are passed over.
// The schema says what is accepted. Its numbers are those of the gateway's limits; a test compares.
#[derive(Debug, Default, ToSchema)]
#[schema(as = MessageRequest, description = "One message. Unknown fields are ignored; null is the same as leaving a field out.")]
pub struct MessageFields<'a> {
    /// Who writes. Opaque; at most 256 bytes in UTF-8.
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub user_id: Field<'a>,
    /// In which organisation. `org` is accepted in its place.
    #[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub org_id: Field<'a>,
    /// With what kind of client, such as `web`.
    #[schema(value_type = String, pattern = "^[a-z0-9-]{1,64}$")]
    pub client_id: Field<'a>,
    /// The text. Not blank, unless `message_type` is `audio`.
    #[schema(value_type = Option<String>)]
    pub message: Field<'a>,
    /// `text` if absent.
    #[schema(value_type = Option<MessageType>)]
    pub message_type: Field<'a>,
    /// The recording in standard base64 with padding, at most 25 MB decoded. Required for audio.
    #[schema(value_type = Option<String>, min_length = 4, pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$")]
    pub audio_base64: Field<'a>,
    /// The format of the recording, such as `ogg`. Required for audio.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub audio_format: Field<'a>,
    /// Makes a repeat harmless: the same id from the same client and user in the same conversation is the
    /// same turn, for 24 hours.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub client_message_id: Field<'a>,
    /// `callback_url`.
    #[schema(ignore)]
    pub callback_url: Field<'a>,
    /// `private` if absent. In groups the unit of order is the group or its thread, not the user.
    #[schema(value_type = Option<ChatType>)]
    pub chat_type: Field<'a>,
    /// The chat. Required for groups.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub chat_id: Field<'a>,
    /// The thread inside the group.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub thread_id: Field<'a>,
    /// Who speaks in the group.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub speaker: Field<'a>,
    /// Whether the group's message is meant for the agent.
    #[schema(value_type = Option<bool>)]
    pub addressed_to_bot: Field<'a>,
    /// The language the answer should have.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    pub response_language_hint: Field<'a>,
    /// Any JSON of at most 16 KiB that the agent should get, as it came.
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<&'a RawValue>,
    /// A known field that came more than once.
    #[schema(ignore)]
    pub repeated: Option<&'static str>,
    /// `org` and `org_id` both came, with different values.
    #[schema(ignore)]
    pub orgs_differ: bool,
    /// There were more than [`FIELDS_MAX`] fields.
    #[schema(ignore)]
    pub too_many: bool,
}

/// Fields of a submission, unknown ones included.
pub const FIELDS_MAX: usize = 1_000;

impl<'a> MessageFields<'a> {
    fn slot(&mut self, key: &str) -> Option<(&'static str, u32, &mut Field<'a>)> {
        Some(match key {
            "user_id" => ("user_id", 0, &mut self.user_id),
            "org_id" => ("org_id", 1, &mut self.org_id),
            "client_id" => ("client_id", 2, &mut self.client_id),
            "message" => ("message", 3, &mut self.message),
            "message_type" => ("message_type", 4, &mut self.message_type),
            "audio_base64" => ("audio_base64", 5, &mut self.audio_base64),
            "audio_format" => ("audio_format", 6, &mut self.audio_format),
            "client_message_id" => ("client_message_id", 7, &mut self.client_message_id),
            "callback_url" => ("callback_url", 8, &mut self.callback_url),
            "chat_type" => ("chat_type", 9, &mut self.chat_type),
            "chat_id" => ("chat_id", 10, &mut self.chat_id),
            "thread_id" => ("thread_id", 11, &mut self.thread_id),
            "speaker" => ("speaker", 12, &mut self.speaker),
            "addressed_to_bot" => ("addressed_to_bot", 13, &mut self.addressed_to_bot),
            "response_language_hint" => ("response_language_hint", 14, &mut self.response_language_hint),
            _ => return None,
        })
    }
}

const METADATA_BIT: u32 = 15;
const ORG_BIT: u32 = 16;

/// Which known fields have come.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    /// Notes one more; true if it had come before.
    fn again(&mut self, bit: u32) -> bool {
        let before = self.0;
        self.0 |= 1 << bit;
        before == self.0
    }
}

impl<'de> Deserialize<'de> for MessageFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = MessageFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MessageFields<'de>, A::Error> {
        let mut fields = MessageFields::default();
        let mut org = Field::Absent;
        let mut seen = Seen::default();
        let mut count = 0;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            count += 1;
            if count > FIELDS_MAX {
                fields.too_many = true;
                map.next_value::<IgnoredAny>()?;
            } else if let Some((name, bit, slot)) = fields.slot(&key) {
                *slot = map.next_value()?;
                if seen.again(bit) {
                    fields.repeated = Some(name);
                }
            } else if &*key == "org" {
                org = map.next_value()?;
                if seen.again(ORG_BIT) {
                    fields.repeated = Some("org");
                }
            } else if &*key == "metadata" {
                let raw: &'de RawValue = map.next_value()?;
                fields.metadata = (raw.get() != "null").then_some(raw);
                if seen.again(METADATA_BIT) {
                    fields.repeated = Some("metadata");
                }
            } else {
                map.next_value::<Shallow>()?;
            }
        }
        match (&fields.org_id, &org) {
            (Field::Absent, _) => fields.org_id = org,
            (_, Field::Absent) => {}
            (org_id, org) => fields.orgs_differ = org_id != org,
        }
        Ok(fields)
    }
}

/// What a message is; the words `message_type` may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// Text.
    Text,
    /// A recording.
    Audio,
}

/// Where a message was written; the words `chat_type` may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatType {
    /// Between one user and the agent.
    Private,
    /// In a group.
    Group,
    /// In a large group.
    Supergroup,
}

/// Where a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// Stored; it waits for its turn.
    Queued,
    /// At the agent.
    Processing,
    /// Asked to stop while at the agent.
    Stopping,
    /// Answered.
    Completed,
    /// Ended without an answer.
    Failed,
    /// Ended on request.
    Cancelled,
}

/// The answer of `POST /api/v1/message`; every key is always there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageAnswer<'a> {
    /// Where the turn is.
    pub status: MessageStatus,
    /// Its id.
    pub message_id: &'a str,
    /// Turns that waited after it was stored, itself included, without the one
    /// in progress; 1 if nothing else did.
    pub queue_position: u64,
    /// The agent's texts.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub responses: Option<&'a RawValue>,
    /// The language of the texts.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub response_language: Option<&'a RawValue>,
    /// The spoken answer.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub voice_audio_base64: Option<&'a RawValue>,
    /// Its true place, counting the one in progress; null once it is over.
    #[schema(required = true)]
    pub position: Option<u64>,
    /// Until when it can be read.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Rfc3339,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Field<'_> {
        Field::Text(Text(text.into()))
    }

    fn parse(json: &str) -> MessageFields<'_> {
        serde_json::from_str(json).expect("the test passes a JSON object")
    }

    #[test]
    fn known_fields_are_kept_and_others_passed_over() {
        let fields =
            parse(r#"{"user_id":"u","x":[{"user_id":1}],"org":"o","message":7,"metadata":{"a": 1}}"#);
        assert_eq!(fields.user_id, text("u"));
        assert_eq!(fields.org_id, text("o"));
        assert_eq!(fields.message, Field::Other("a number"));
        assert_eq!(fields.metadata.map(RawValue::get), Some(r#"{"a": 1}"#));
        assert_eq!(fields.repeated, None);
    }

    #[test]
    fn a_repeated_known_field_is_noticed_also_when_null_or_escaped() {
        assert_eq!(parse(r#"{"user_id":null,"user_id":"b"}"#).repeated, Some("user_id"));
        assert_eq!(parse(r#"{"message":"a","mess\u0061ge":"b"}"#).repeated, Some("message"));
        assert_eq!(parse(r#"{"x":1,"x":2}"#).repeated, None);
    }

    #[test]
    fn both_names_of_the_organisation_must_agree() {
        assert!(!parse(r#"{"org":"a","org_id":"a"}"#).orgs_differ);
        assert!(parse(r#"{"org":"a","org_id":"b"}"#).orgs_differ);
        assert_eq!(parse(r#"{"org":"a","org_id":null}"#).org_id, text("a"));
    }
}

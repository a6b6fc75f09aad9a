//! Errors on the wire: `application/problem+json` (RFC 9457).

use crate::code::Code;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use utoipa::ToSchema;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// One thing wrong with the content of a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body (RFC 6901), or `?name` for a query parameter.
    pub pointer: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub detail: Cow<'static, str>,
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one.
    pub code: Code,
    /// The HTTP status; the code's own unless the agent chose it.
    pub status: u16,
    /// What happened, in one sentence.
    pub detail: Cow<'static, str>,
    /// The request it belongs to.
    pub request_id: Option<String>,
    /// What is wrong where, for content that was refused.
    pub errors: Vec<FieldError>,
    /// The turn it is about.
    pub message_id: Option<String>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem with the code's status.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            code,
            status: code.status(),
            detail: detail.into(),
            request_id: None,
            errors: Vec::new(),
            message_id: None,
            retry_after: code.retry_after(),
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:turnwise:problem:{}", self.code.name()))?;
        map.serialize_entry("title", self.code.title())?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("code", self.code.name())?;
        if let Some(request_id) = &self.request_id {
            map.serialize_entry("request_id", request_id)?;
        }
        if let Some(message_id) = &self.message_id {
            map.serialize_entry("message_id", message_id)?;
        }
        map.serialize_entry("retryable", &self.code.retryable())?;
        map.serialize_entry("hint", self.code.hint())?;
        if !self.errors.is_empty() {
            map.serialize_entry("errors", &self.errors)?;
        }
        map.end()
    }
}

/// How an error is written (RFC 9457).
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemForm {
    /// `urn:turnwise:problem:` and the code.
    pub r#type: String,
    /// What it is, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in one sentence.
    pub detail: String,
    /// Which one; never renamed or reused.
    pub code: String,
    /// The request it belongs to, as in `X-Request-Id`.
    pub request_id: String,
    /// The turn it is about.
    #[schema(nullable = false)]
    pub message_id: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What to do about it.
    pub hint: String,
    /// What is wrong where, for content that was refused.
    #[schema(nullable = false)]
    pub errors: Option<Vec<FieldError>>,
}

/// What went wrong with one item of a batch.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct ItemError {
    /// One of the codes of a problem.
    pub code: &'static str,
    /// What happened, and what to do about it.
    pub detail: Cow<'static, str>,
    /// Whether the same item may succeed later.
    pub retryable: bool,
}

impl ItemError {
    /// An item that was refused for this reason.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> ItemError {
        ItemError { code: code.name(), detail: detail.into(), retryable: code.retryable() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may stop where it fails")]
    use super::*;
    use utoipa::PartialSchema;

    #[test]
    fn a_problem_is_written_as_its_form_says() {
        let mut problem = Problem::new(Code::InvalidContent, "no");
        problem.request_id = Some("r".to_owned());
        problem.message_id = Some("m".to_owned());
        problem.errors = vec![FieldError { pointer: "/a".into(), detail: "no".into() }];
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        let written = serde_json::to_value(&problem).expect("strings and numbers");
        let form = serde_json::to_value(ProblemForm::schema()).expect("a schema is JSON");
        assert_eq!(keys(&written), keys(&form["properties"]));
    }
}

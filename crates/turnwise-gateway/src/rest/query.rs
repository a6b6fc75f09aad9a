//! Query strings and path parameters under the same rules as bodies.

use super::rules::{self, Errors};
use crate::error::Failure;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use http::Uri;
use std::borrow::Cow;
use turnwise_api::Code;
use turnwise_core::MessageId;

/// The parameters of a query string.
pub(crate) struct Parameters(pub(crate) Vec<(String, String)>);

impl Parameters {
    pub(crate) fn of(uri: &Uri) -> Result<Parameters, Failure> {
        match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Parameters(pairs)),
            Err(_) => Err(Failure::new(Code::BadRequest, "The query string cannot be read")),
        }
    }

    /// The first one with this name; an empty one is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether it is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// One that must be there, under a rule.
    pub(crate) fn required(
        &self,
        name: &'static str,
        rule: fn(&str) -> Option<Cow<'static, str>>,
        errors: &mut Errors,
    ) -> &str {
        let Some(value) = self.get(name) else {
            errors.add(format!("?{name}"), "is required");
            return "";
        };
        if let Some(detail) = rule(value) {
            errors.add(format!("?{name}"), detail);
        }
        value
    }
}

/// A message's id from the path; what is none cannot name a message.
pub(crate) fn message_id(path: Result<Path<String>, PathRejection>) -> Result<MessageId, Failure> {
    let Ok(Path(text)) = path else { return Err(Failure::not_found()) };
    text.parse().map_err(|()| Failure::not_found())
}

/// A user's id from the path.
pub(crate) fn user_id(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    let mut errors = Errors::default();
    match path {
        Ok(Path(user)) => match rules::id(&user) {
            None => return Ok(user),
            Some(detail) => errors.add("user_id", detail),
        },
        Err(_) => errors.add("user_id", "must be UTF-8, percent-encoded"),
    }
    Err(Failure::invalid(Code::InvalidContent, errors.0))
}

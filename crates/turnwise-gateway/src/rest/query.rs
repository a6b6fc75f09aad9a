//! Query strings and path parameters under the same rules as bodies.

use super::rules::{self, Errors};
use crate::auth::Caller;
use crate::error::Failure;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use http::Uri;
use std::borrow::Cow;
use turnwise_api::Code;
use turnwise_broker::OrgScope;
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

    /// How many items a page is to have.
    pub(crate) fn limit(&self, usual: u32, most: u32, errors: &mut Errors) -> u32 {
        match self.get("limit").map(str::parse) {
            None => usual,
            Some(Ok(limit)) if (1..=most).contains(&limit) => limit,
            Some(_) => {
                errors.add("?limit", format!("must be a number from 1 to {most}"));
                usual
            }
        }
    }

    /// One that must be there, under a rule.
    pub(crate) fn required(
        &self,
        name: &'static str,
        rule: fn(&str) -> Option<Cow<'static, str>>,
        errors: &mut Errors,
    ) -> &str {
        if self.get(name).is_none() {
            errors.add(format!("?{name}"), "is required");
        }
        self.optional(name, rule, errors).unwrap_or_default()
    }

    /// One that may be there, under a rule.
    pub(crate) fn optional(
        &self,
        name: &'static str,
        rule: fn(&str) -> Option<Cow<'static, str>>,
        errors: &mut Errors,
    ) -> Option<&str> {
        let value = self.get(name)?;
        if let Some(detail) = rule(value) {
            errors.add(format!("?{name}"), detail);
        }
        Some(value)
    }
}

/// A message's id from the path; what is none cannot name a message.
pub(crate) fn message_id(path: Result<Path<String>, PathRejection>) -> Result<MessageId, Failure> {
    let Ok(Path(text)) = path else { return Err(Failure::not_found()) };
    text.parse().map_err(|()| Failure::not_found())
}

/// A user's id from the path.
pub(crate) fn user_id(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    in_path(path, "user_id", rules::id)
}

/// A name from the path, under a rule.
pub(crate) fn in_path(
    path: Result<Path<String>, PathRejection>,
    name: &'static str,
    rule: fn(&str) -> Option<Cow<'static, str>>,
) -> Result<String, Failure> {
    let Ok(Path(value)) = path else {
        return Err(Failure::invalid_at(name, "must be UTF-8, percent-encoded"));
    };
    match rule(&value) {
        None => Ok(value),
        Some(detail) => Err(Failure::invalid_at(name, detail)),
    }
}

/// The organisation a request is about: the one it names, or the only one of its key.
pub(crate) fn org(caller: &Caller, parameters: &Parameters) -> Result<String, Failure> {
    org_named(caller, parameters.get("org_id"), "?org_id")
}

/// The same, named elsewhere than in the query.
pub(crate) fn org_named(
    caller: &Caller,
    named: Option<&str>,
    pointer: &'static str,
) -> Result<String, Failure> {
    if let Some(org) = named {
        return match rules::id(org) {
            Some(detail) => Err(Failure::invalid_at(pointer, detail)),
            None if caller.sees(org) => Ok(org.to_owned()),
            // The same for one that exists and one that does not.
            None => Err(Failure::new(Code::OrgForbidden, "The API key is not for this organisation")),
        };
    }
    match caller.scope() {
        OrgScope::These(orgs) if orgs.len() == 1 => Ok(orgs.into_iter().collect()),
        OrgScope::These(_) | OrgScope::All => {
            Err(Failure::invalid_at(pointer, "is required: who asks may see more than one organisation"))
        }
    }
}

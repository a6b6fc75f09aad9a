//! `/api/v1/topics/{topic}/retention`: how much of a topic is kept.

use super::query::{self, Parameters};
use super::rules::Errors;
use super::{json, strict_object, topics};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::{RETENTION_AGE_SECONDS_MAX, RETENTION_SIZE_MAX};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{Code, RetentionAnswer, RetentionRequest};
use turnwise_broker::Retention;

const FORM: &str = "must be one JSON object with max_age_seconds, max_events and max_bytes, each a number or null, and nothing else";

/// `PUT /api/v1/topics/{topic}/retention`.
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    app.require_serving()?;
    let topic = topics::name(path)?;
    let org = query::org(&caller, &Parameters::of(&head.uri)?)?;
    body::require_json(&head.headers)?;
    let request: RetentionRequest = {
        let body = body::read(&app, body).await?;
        strict_object(&body.bytes, FORM)?
    };
    let usual = Retention::default();
    let mut errors = Errors::default();
    let mut checked = |pointer: &'static str, given: Option<Option<u64>>, usual: Option<u64>, most: u64| {
        let limit = given.unwrap_or(usual);
        if limit.is_some_and(|limit| !(1..=most).contains(&limit)) {
            errors.add(pointer, format!("must be a number from 1 to {most}, or null for no limit"));
        }
        limit
    };
    let usual_age = usual.age_max.map(|age| age.as_secs());
    let age = checked("/max_age_seconds", request.max_age_seconds, usual_age, RETENTION_AGE_SECONDS_MAX);
    let retention = Retention {
        age_max: age.map(Duration::from_secs),
        events_max: checked("/max_events", request.max_events, usual.events_max, RETENTION_SIZE_MAX),
        bytes_max: checked("/max_bytes", request.max_bytes, usual.bytes_max, RETENTION_SIZE_MAX),
    };
    errors.into_result()?;
    if !app.broker.retain_topic(&org, &topic, retention).await? {
        let mut errors = Errors::default();
        errors
            .add("topic", "must be one of those whose retention is set already: it is of as many as may be");
        return Err(Failure::invalid(Code::InvalidContent, errors.0));
    }
    json(&answer(retention))
}

/// `GET /api/v1/topics/{topic}/retention`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let topic = topics::name(path)?;
    let org = query::org(&caller, &Parameters::of(&uri)?)?;
    json(&answer(app.broker.topic_retention(&org, &topic).await?))
}

fn answer(retention: Retention) -> RetentionAnswer {
    RetentionAnswer {
        max_age_seconds: retention.age_max.map(|age| age.as_secs()),
        max_events: retention.events_max,
        max_bytes: retention.bytes_max,
    }
}

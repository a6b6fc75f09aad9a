//! What is set for a queue: its policy, and whether it is paused.

use super::form::Form;
use super::inspect::state;
use super::{fields, only_queue, queue_and_body};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{
    MOMENT, QUEUE_ATTEMPTS_MAX, QUEUE_CONCURRENCY_NAMED_MAX, QUEUE_MESSAGES_NAMED_MAX, QUEUE_TIME_MAX,
    RATE_MAX, RATE_MIN,
};
use crate::rest::json;
use crate::rest::rules::Errors;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::QueuePolicy;
use turnwise_broker::{WorkPolicy, WorkQueue};
use turnwise_core::limits::RETRY_DELAY_MAX;

/// `PUT /api/v1/queues/{queue}/policy`: the whole of it; what is left out is as usual.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (queue, body) = queue_and_body(&app, &caller, path, request).await?;
    let policy = fields(&body.bytes, policy)?;
    drop(body);
    let own = Some(policy).filter(|policy| *policy != WorkPolicy::default());
    app.broker.set_work_policy(&queue, own).await?;
    answered(&app, &queue).await
}

fn policy(form: &mut Form<'_>, errors: &mut Errors) -> WorkPolicy {
    let (delay, long) = (RETRY_DELAY_MAX.as_secs_f64(), QUEUE_TIME_MAX.as_secs_f64());
    let mut policy = WorkPolicy {
        ttl_seconds: form.number("ttl_seconds", MOMENT.as_secs_f64()..=long, errors),
        ..WorkPolicy::default()
    };
    if let Some(attempts) = form.whole("max_attempts", 1..=QUEUE_ATTEMPTS_MAX, errors) {
        policy.max_attempts = u32::try_from(attempts).unwrap_or(policy.max_attempts);
    }
    let concurrency = form.whole("concurrency", 1..=QUEUE_CONCURRENCY_NAMED_MAX, errors);
    policy.concurrency = concurrency.and_then(|most| u32::try_from(most).ok());
    policy.rate_per_second = form.number("rate_per_second", RATE_MIN..=RATE_MAX, errors);
    policy.messages_max = form.whole("messages_max", 1..=QUEUE_MESSAGES_NAMED_MAX, errors);
    for (name, range, slot) in [
        ("retry_base_seconds", 0.0..=delay, &mut policy.retry_base_seconds),
        ("retry_factor", 1.0..=100.0, &mut policy.retry_factor),
        ("retry_cap_seconds", 0.0..=delay, &mut policy.retry_cap_seconds),
        ("retry_jitter", 0.0..=1.0, &mut policy.retry_jitter),
        ("dead_seconds", 1.0..=long, &mut policy.dead_seconds),
    ] {
        if let Some(number) = form.number(name, range, errors) {
            *slot = number;
        }
    }
    policy
}

/// As it is shown.
pub(super) fn shape(policy: &WorkPolicy) -> QueuePolicy {
    QueuePolicy {
        retry_base_seconds: policy.retry_base_seconds,
        retry_factor: policy.retry_factor,
        retry_cap_seconds: policy.retry_cap_seconds,
        retry_jitter: policy.retry_jitter,
        max_attempts: policy.max_attempts,
        ttl_seconds: policy.ttl_seconds,
        concurrency: policy.concurrency,
        rate_per_second: policy.rate_per_second,
        messages_max: policy.messages_max,
        dead_seconds: policy.dead_seconds,
    }
}

/// `POST /api/v1/queues/{queue}/pause`.
pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    set_paused(&app, &caller, path, &uri, true).await
}

/// `POST /api/v1/queues/{queue}/resume`.
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    set_paused(&app, &caller, path, &uri, false).await
}

async fn set_paused(
    app: &App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
    paused: bool,
) -> Result<Response, Failure> {
    let queue = only_queue(caller, path, uri)?;
    app.broker.pause_work(&queue, paused).await?;
    answered(app, &queue).await
}

/// The queue as it is then.
async fn answered(app: &App, queue: &WorkQueue) -> Result<Response, Failure> {
    json(&state(&app.broker.work_queue(queue).await?))
}

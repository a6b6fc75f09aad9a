//! `GET` of queues and of their messages.

use super::claim::{headers, payload};
use super::{only_queue, policy, queue_and_id};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{QUEUE_PAGE_MAX, QUEUE_PAGE_USUAL};
use crate::rest::message::rfc3339;
use crate::rest::query::{Parameters, org};
use crate::rest::rules::Errors;
use crate::rest::{json, seconds};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{
    Code, QueueDepth, QueueError, QueueList, QueueMessageAnswer, QueueMessageInfo, QueueMessageList,
    QueueRates, QueueStage, QueueState, QueueTotals,
};
use turnwise_broker::{WorkError, WorkQueue, WorkQueueView};
use turnwise_core::{MessageInfo, Stage};

/// `GET /api/v1/queues`.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    let limit = limit(&parameters)?;
    let after = parameters.get("after");
    if after.is_some_and(|after| WorkQueue::new(&org, after).is_none()) {
        return Err(Failure::new(Code::BadRequest, "`after` is not a cursor of this list"));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (views, more) = app.broker.work_queues(&org, after, limit).await?;
    let items: Vec<QueueState> = views.iter().map(state).collect();
    let next = items.last().filter(|_| more).map(|last| last.queue.clone());
    json(&QueueList { items, next })
}

fn limit(parameters: &Parameters) -> Result<u32, Failure> {
    let mut errors = Errors::default();
    let limit = parameters.limit(QUEUE_PAGE_USUAL, QUEUE_PAGE_MAX, &mut errors);
    errors.into_result()?;
    Ok(limit)
}

/// `GET /api/v1/queues/{queue}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let queue = only_queue(&caller, path, &uri)?;
    json(&state(&app.broker.work_queue(&queue).await?))
}

pub(super) fn state(view: &WorkQueueView) -> QueueState {
    let depth = &view.depth;
    QueueState {
        queue: view.queue.name().to_owned(),
        org_id: view.queue.org().to_owned(),
        paused: view.paused_since.is_some(),
        paused_since: view.paused_since.map(rfc3339),
        depth: QueueDepth {
            ready: depth.ready,
            scheduled: depth.scheduled,
            leased: depth.leased,
            dead: depth.dead,
        },
        oldest_waiting_seconds: view.oldest_waiting.map(seconds),
        rates: view
            .rates
            .map(|rates| QueueRates { enqueued_per_second: rates.enqueued, acked_per_second: rates.acked }),
        totals: QueueTotals {
            enqueued: depth.enqueued,
            acked: depth.acked,
            removed: depth.removed,
            expired: depth.expired,
        },
        policy: policy::shape(&view.policy),
    }
}

/// `GET /api/v1/queues/{queue}/messages`.
pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let queue = only_queue(&caller, path, &uri)?;
    let parameters = Parameters::of(&uri)?;
    let limit = limit(&parameters)?;
    let stage = match parameters.get("stage") {
        None | Some("ready") => Stage::Ready,
        Some("scheduled") => Stage::Scheduled,
        Some("leased") => Stage::Leased,
        Some("dead") => Stage::Dead,
        Some(_) => return Err(Failure::invalid_at("?stage", "must be ready, scheduled, leased or dead")),
    };
    let after = match parameters.get("after").map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(())) => {
            return Err(Failure::new(Code::BadRequest, "`after` is not a cursor of this list"));
        }
    };
    let (page, more) = app.broker.work_messages(&queue, stage, after, limit).await?;
    let next = page.last().filter(|_| more).map(|last| last.id.to_string());
    json(&QueueMessageList { items: page.iter().map(info).collect(), next })
}

/// `GET /api/v1/queues/{queue}/messages/{id}`.
pub(crate) async fn message(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let (queue, id) = queue_and_id(&caller, path, &uri)?;
    let view = app.broker.work_message(&queue, id).await?.ok_or_else(Failure::not_found)?;
    json(&QueueMessageAnswer {
        info: info(&view.info),
        first_error: view.first_error.map(error),
        last_error: view.last_error.map(error),
        payload: payload(&view.info.payload),
    })
}

fn error(error: WorkError) -> QueueError {
    QueueError { at: rfc3339(error.at), attempt: error.attempt, reason: error.reason }
}

fn info(info: &MessageInfo) -> QueueMessageInfo<'_> {
    QueueMessageInfo {
        message_id: info.id.to_string(),
        stage: match info.stage {
            Stage::Scheduled => QueueStage::Scheduled,
            Stage::Ready => QueueStage::Ready,
            Stage::Leased => QueueStage::Leased,
            Stage::Dead => QueueStage::Dead,
        },
        ordering_key: info.key.as_ref().and_then(|key| std::str::from_utf8(&key.0).ok()),
        priority: info.priority.0,
        attempts: info.attempt,
        max_attempts: info.max_attempts,
        enqueued_at: rfc3339(info.enqueued_at),
        not_before: info.not_before.map(rfc3339),
        lease_expires_at: info.lease_expires_at.map(rfc3339),
        expires_at: info.expires_at.map(rfc3339),
        reason: info.reason.as_deref(),
        headers: headers(&info.headers),
        payload_bytes: info.payload.len() as u64,
    }
}

//! `/api/v1/message`: submit, look, cancel.

use super::{callbacks, json, json_bytes, json_response, query, submission};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::held::Instead;
use crate::limits::{SMALL_ANSWER_BYTES_MAX, STOP_WAIT};
use crate::note::About;
use crate::prefer::Preference;
use crate::rate::Standing;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{
    ChatAnswer, Code, MessageAnswer, MessageStatus, Rfc3339, TimelineStep, TurnAnswer, TurnFailure, TurnStep,
};
use turnwise_broker::{Cancel, Redriven, Step, StepKind, Submitted, TurnEnd, TurnState, TurnView};
use turnwise_core::Timestamp;

/// How long a submission waits for its turn's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Not at all.
    None,
    /// As long as it takes, but only if nothing else was before it.
    IfIdle,
    /// This long, whatever was before it.
    Within(Duration),
}

impl Patience {
    fn of(app: &App, preference: Preference) -> Patience {
        if (app.config.agent)().is_none() {
            return Patience::None;
        }
        match preference.wait {
            Some(wait) if wait.is_zero() => Patience::None,
            Some(wait) => Patience::Within(wait),
            None if preference.respond_async || app.config.async_default => Patience::None,
            None => Patience::IfIdle,
        }
    }

    /// Which of the preferences was heeded, for `Preference-Applied`.
    fn applied(self, preference: Preference) -> Option<HeaderValue> {
        match self {
            Patience::Within(wait) => HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok(),
            Patience::None if preference.respond_async => Some(HeaderValue::from_static("respond-async")),
            Patience::None | Patience::IfIdle => None,
        }
    }
}

/// `POST /api/v1/message`.
pub(crate) async fn submit(State(app): State<Arc<App>>, caller: Caller, request: Request) -> Response {
    let mut standing = None;
    let answer = submitted(&app, &caller, request, &mut standing).await;
    let mut response = answer.into_response();
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    response
}

/// `standing` is told once the conversation is known.
async fn submitted(
    app: &App,
    caller: &Caller,
    request: Request,
    standing: &mut Option<Standing>,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    app.require_serving()?;
    body::require_json(&head.headers)?;
    let preference = Preference::of(&head.headers);
    let mut patience = Patience::of(app, preference);
    let submitted = {
        let body = body::read(app, body).await?;
        let callbacks = &app.broker.config().callbacks;
        let mut submission = submission::parse(&body.bytes, &head.headers, caller, callbacks)?;
        *standing = app.rates.of_conversation((&submission.org, &submission.conversation));
        standing.map_or(Ok(()), |standing| standing.check())?;
        submission.prefer_stream = patience == Patience::None && submission.callback.is_none();
        if submission.callback.is_some() {
            patience = Patience::None;
        }
        app.broker.submit(submission).await?
    };
    let mut response = match end(app, &submitted, patience).await? {
        Some(end) => ended(&submitted, &end)?,
        None => waiting(app, &submitted).await?,
    };
    response.extensions_mut().insert(About(submitted.id));
    if let Some(applied) = patience.applied(preference) {
        response.headers_mut().insert(HeaderName::from_static("preference-applied"), applied);
    }
    Ok(response)
}

/// The turn's end, if it comes while there is patience for it.
async fn end(app: &App, submitted: &Submitted, patience: Patience) -> Result<Option<TurnEnd>, Failure> {
    // A repeat may find its own turn in progress, or over (position 0).
    let idle = submitted.position <= 1 && (submitted.duplicate || !submitted.in_flight);
    let wait = match patience {
        Patience::None => return Ok(None),
        Patience::IfIdle if !idle => return Ok(None),
        Patience::IfIdle => Duration::MAX,
        Patience::Within(wait) => wait,
    };
    let wait = async {
        match wait {
            Duration::MAX => std::future::pending().await,
            wait => tokio::time::sleep(wait).await,
        }
    };
    tokio::select! {
        biased;
        end = app.broker.wait_end(&submitted.org, submitted.id) => Ok(Some(end?)),
        () = wait => Ok(None),
        () = app.drained() => Ok(None),
    }
}

/// The answer while the turn is on its way. A repeat may find it further on.
async fn waiting(app: &App, submitted: &Submitted) -> Result<Response, Failure> {
    if submitted.position == 0 {
        // Looked up once, not waited for: who asks for an answer at once gets
        // one, also while the store is away. An earlier send of it is stored,
        // so "nothing was stored" would not be true.
        if let Some(end) = app.broker.end_of_repeat(&submitted.org, submitted.id).await? {
            return ended(submitted, &end);
        }
        return answer(submitted, MessageStatus::Queued, None, None);
    }
    let running = submitted.duplicate && submitted.position == 1 && submitted.in_flight;
    let status = if running { MessageStatus::Processing } else { MessageStatus::Queued };
    answer(submitted, status, Some(submitted.position), None)
}

/// The answer once the turn is over.
fn ended(submitted: &Submitted, end: &TurnEnd) -> Result<Response, Failure> {
    match end.state {
        TurnState::Completed => answer(submitted, MessageStatus::Completed, None, end.answer.as_ref()),
        TurnState::Cancelled => {
            Err(Failure::new(Code::Cancelled, "The message was cancelled").about(submitted.id))
        }
        TurnState::Failed => match &end.error {
            Some(error) => Err(Failure::from_turn(submitted.id, error)),
            None => Err(Failure::new(Code::AgentError, "The agent failed").about(submitted.id)),
        },
        TurnState::Queued | TurnState::Processing => {
            tracing::error!("a turn was said to have ended and has not");
            Err(Failure::new(Code::Internal, "The turn's end could not be read").about(submitted.id))
        }
    }
}

fn answer(
    submitted: &Submitted,
    status: MessageStatus,
    position: Option<u64>,
    answer: Option<&Bytes>,
) -> Result<Response, Failure> {
    let agent: ChatAnswer<'_> = answer.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let id = submitted.id.to_string();
    let told = |status, position: Option<u64>, agent: ChatAnswer<'_>| {
        json_bytes(&MessageAnswer {
            status,
            message_id: &id,
            queue_position: if position.is_none() { 1 } else { submitted.waiting_ahead + 1 },
            responses: agent.responses,
            response_language: agent.response_language,
            voice_audio_base64: agent.voice_audio_base64,
            position,
            expires_at: rfc3339(submitted.expires_at),
        })
    };
    let whole = told(status, position, agent)?;
    let instead = if whole.len() > SMALL_ANSWER_BYTES_MAX {
        // The turn is stored: if its answer finds no room, it can still be looked up.
        Some(Instead(told(MessageStatus::Queued, None, ChatAnswer::default())?.into()))
    } else {
        None
    };
    let mut response = json_response(whole);
    if let Some(instead) = instead {
        response.extensions_mut().insert(instead);
    }
    Ok(response)
}

/// `GET /api/v1/message/{message_id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let scope = caller.scope();
    let id = query::message_id(path)?;
    let view = app.broker.turn(&scope, id).await?.ok_or_else(Failure::not_found)?;
    turn(&view, status(view.state))
}

/// `DELETE /api/v1/message/{message_id}`.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let scope = caller.scope();
    let id = query::message_id(path)?;
    let stopping = match app.broker.cancel(&scope, id).await? {
        Cancel::NotFound => return Err(Failure::not_found()),
        Cancel::Over(state) => {
            let over = match state {
                TurnState::Failed => "failed",
                TurnState::Cancelled => "been cancelled",
                TurnState::Queued | TurnState::Processing | TurnState::Completed => "been answered",
            };
            return Err(Failure::new(Code::TurnOver, format!("The turn has {over} already")).about(id));
        }
        Cancel::Cancelled => false,
        Cancel::Stopping => true,
    };
    let seen = app.broker.turn(&scope, id).await?.ok_or_else(Failure::not_found)?;
    let view = if stopping && seen.state == TurnState::Processing {
        // It takes the dispatcher moments; the answer should tell how it came out.
        let _ = tokio::time::timeout(STOP_WAIT, app.broker.wait_end(&seen.org, id)).await;
        app.broker.turn(&scope, id).await?.ok_or_else(Failure::not_found)?
    } else {
        seen
    };
    let running = stopping && view.state == TurnState::Processing;
    turn(&view, if running { MessageStatus::Stopping } else { status(view.state) })
}

/// `POST /api/v1/message/{message_id}/redrive`.
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    app.require_serving()?;
    let id = query::message_id(path)?;
    match app.broker.redrive_turn(&caller.scope(), id).await? {
        Redriven::NotFound => Err(Failure::not_found()),
        Redriven::NotFailed(_) => {
            Err(Failure::new(Code::NotFailed, "Only a turn that has failed can be redriven").about(id))
        }
        Redriven::Submitted(submitted) => waiting(&app, &submitted).await,
    }
}

fn turn(view: &TurnView, status: MessageStatus) -> Result<Response, Failure> {
    let (id, answer) = (view.id.to_string(), view.answer.as_deref().and_then(raw));
    let mut response = json(&TurnAnswer {
        message_id: &id,
        org_id: &view.org,
        user_id: &view.user,
        client_id: &view.client,
        status,
        position: view.position,
        attempts: view.attempts,
        accepted_at: rfc3339(view.accepted_at),
        started_at: view.started_at.map(rfc3339),
        finished_at: view.finished_at.map(rfc3339),
        expires_at: rfc3339(view.expires_at),
        answer,
        error: view.error.as_ref().map(|error| TurnFailure {
            code: &error.code,
            status: error.status,
            detail: &error.detail,
        }),
        partial: view.partial.as_deref(),
        callback: view.callback.as_ref().map(callbacks::of_turn),
        redrive_of: view.redrive_of.map(|id| id.to_string()),
        timeline: view.timeline.iter().map(timeline_step).collect(),
    })?;
    response.extensions_mut().insert(About(view.id));
    Ok(response)
}

fn timeline_step(step: &Step) -> TimelineStep {
    TimelineStep { step: turn_step(step.kind), at: rfc3339(step.at), attempt: step.attempt }
}

/// The name of a step.
pub(crate) fn turn_step(step: StepKind) -> TurnStep {
    match step {
        StepKind::Accepted => TurnStep::Accepted,
        StepKind::Claimed => TurnStep::Claimed,
        StepKind::Busy => TurnStep::Busy,
        StepKind::FirstEvent => TurnStep::FirstEvent,
        StepKind::StopAsked => TurnStep::StopRequested,
        StepKind::Ended(TurnState::Completed) => TurnStep::Completed,
        StepKind::Ended(TurnState::Cancelled) => TurnStep::Cancelled,
        StepKind::Ended(TurnState::Failed | TurnState::Queued | TurnState::Processing) => TurnStep::Failed,
        StepKind::CallbackQueued => TurnStep::CallbackQueued,
        StepKind::CallbackDelivered => TurnStep::CallbackDelivered,
        StepKind::CallbackDead => TurnStep::CallbackDead,
    }
}

/// The agent's JSON as it is; it was checked when it came.
fn raw(json: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}

fn status(state: TurnState) -> MessageStatus {
    match state {
        TurnState::Queued => MessageStatus::Queued,
        TurnState::Processing => MessageStatus::Processing,
        TurnState::Completed => MessageStatus::Completed,
        TurnState::Failed => MessageStatus::Failed,
        TurnState::Cancelled => MessageStatus::Cancelled,
    }
}

pub(crate) fn rfc3339(at: Timestamp) -> Rfc3339 {
    Rfc3339(at.0)
}

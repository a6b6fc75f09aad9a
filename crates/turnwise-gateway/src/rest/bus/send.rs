//! `POST` of messages: to an agent, to a workspace, to a topic's subscribers.

use super::{MODES, TYPES, agent, reply, state};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::{
    BUS_ATTEMPTS_MAX, BUS_CONTENT_BYTES_MAX, BUS_EXCLUDED_MAX, BUS_METADATA_BYTES_MAX, BUS_REPLY_WAIT_MAX,
    BUS_TTL_MAX, MOMENT,
};
use crate::rest::message::rfc3339;
use crate::rest::query::{self, Parameters, org};
use crate::rest::queues::form::{self, Form};
use crate::rest::queues::object;
use crate::rest::rules::{self, Errors};
use crate::rest::{json, topics};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{BusSentAnswer, Code, Shallow, Text};
use turnwise_broker::{BusMessageType, BusReply, BusSend, BusSent, BusState, BusTo};
use turnwise_core::limits::PRIORITY_MAX;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A message as it was asked for.
pub(crate) struct Asked {
    pub(crate) send: BusSend,
    /// How long to wait for its answer.
    pub(crate) wait: Option<Duration>,
}

/// `POST /api/v1/bus/agents/{agent_id}/messages`.
pub(crate) async fn direct(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let to = BusTo::Agent(agent(path)?);
    let (head, body) = request.into_parts();
    let (org, asked) = read(&app, &caller, head, body, to).await?;
    let Some(wait) = asked.wait else {
        return accepted(&app.broker.bus_send(&org, asked.send).await?);
    };
    let (begun, revoked) = (app.drain.begun(), caller.revoked());
    let ended = async {
        tokio::select! {
            () = begun.cancelled() => {}
            () = revoked.cancelled() => {}
        }
    };
    let answer = Box::pin(app.broker.bus_request(&org, asked.send, wait, ended)).await?;
    match answer.reply {
        Some(reply) => json(&told(&answer.sent, Some(&reply))),
        None => Err(Failure::new(
            Code::ReplyTimeout,
            format!("The server stops; the request {} stays with its agent", answer.sent.message_id),
        )),
    }
}

/// `POST /api/v1/bus/workspaces/{workspace_id}/broadcast`.
pub(crate) async fn broadcast(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let to = BusTo::Workspace(query::in_path(path, "workspace_id", rules::id)?);
    let (head, body) = request.into_parts();
    let (org, asked) = read(&app, &caller, head, body, to).await?;
    accepted(&app.broker.bus_send(&org, asked.send).await?)
}

/// `POST /api/v1/bus/topics/{topic}/messages`.
pub(crate) async fn to_topic(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let to = BusTo::Topic(topics::name(path)?);
    let (head, body) = request.into_parts();
    let (org, asked) = read(&app, &caller, head, body, to).await?;
    accepted(&app.broker.bus_send(&org, asked.send).await?)
}

async fn read(
    app: &App,
    caller: &Caller,
    head: Parts,
    body: Body,
    to: BusTo,
) -> Result<(String, Asked), Failure> {
    let org = org(caller, &Parameters::of(&head.uri)?)?;
    app.require_serving()?;
    body::require_json(&head.headers)?;
    let key = idempotency_key(&head.headers)?;
    let asked = {
        let body = body::read(app, body).await?;
        message(&body.bytes, to, key)?
    };
    caller.must_be(&asked.send.from)?;
    Ok((org, asked))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| rules::id(key).is_none());
    let detail = "Idempotency-Key must have 1 to 256 visible ASCII characters";
    key.map(Some).ok_or_else(|| Failure::new(Code::BadRequest, detail))
}

/// A message out of a request's body.
pub(crate) fn message(body: &Bytes, to: BusTo, key: Option<&str>) -> Result<Asked, Failure> {
    let mut errors = Errors::default();
    let mut form = object(body)?;
    let is_direct = matches!(to, BusTo::Agent(_));
    let from = form.text("from_agent", rules::id, &mut errors);
    if from.is_none() && errors.0.is_empty() {
        form::add(&mut errors, form.pointer("from_agent"), "is required");
    }
    let content = content(body, &mut form, &mut errors);
    let message_type = form.word("message_type", &TYPES, &mut errors);
    let priority = form.whole("priority", 0..=PRIORITY_MAX.into(), &mut errors);
    let mode = form.word("delivery_mode", &MODES, &mut errors);
    let ttl = form.seconds("ttl_seconds", MOMENT..=BUS_TTL_MAX, &mut errors);
    let max_attempts = form.whole("max_attempts", 1..=BUS_ATTEMPTS_MAX, &mut errors);
    let own_key = form.text("dedup_key", rules::id, &mut errors);
    if let (Some(own), Some(header)) = (&own_key, key)
        && own != header
    {
        let detail = "must equal the header Idempotency-Key, or be left out";
        form::add(&mut errors, form.pointer("dedup_key"), detail);
    }
    let correlation_id = form.text("correlation_id", rules::id, &mut errors);
    let metadata = metadata(body, &mut form, &mut errors);
    let (mut in_reply_to, mut wait, mut exclude) = (None, None, Vec::new());
    if is_direct {
        in_reply_to = reply_to(&mut form, &mut errors);
        wait = form.seconds("wait_seconds", MOMENT..=BUS_REPLY_WAIT_MAX, &mut errors);
        if wait.is_some() && message_type.is_some_and(|kind| kind != BusMessageType::Request) {
            form::add(
                &mut errors,
                form.pointer("wait_seconds"),
                "may only stand beside message_type request",
            );
        }
    } else {
        exclude = excluded(&mut form, from.as_deref(), &mut errors);
    }
    form.finish(&mut errors);
    errors.into_result()?;
    let usual = if is_direct { BusMessageType::Request } else { BusMessageType::Notification };
    let usual = if in_reply_to.is_some() { BusMessageType::Response } else { usual };
    let send = BusSend {
        message_type: message_type.unwrap_or(usual),
        priority: priority.and_then(|priority| u8::try_from(priority).ok()),
        mode: mode.unwrap_or_default(),
        ttl,
        max_attempts: max_attempts.and_then(|attempts| u32::try_from(attempts).ok()),
        dedup_key: own_key.or_else(|| key.map(str::to_owned)),
        correlation_id,
        in_reply_to,
        metadata,
        exclude,
        ..BusSend::new(from.unwrap_or_default(), to, content.unwrap_or_default())
    };
    Ok(Asked { send, wait })
}

/// Part of the body: it is not copied.
fn content(body: &Bytes, form: &mut Form<'_>, errors: &mut Errors) -> Option<Bytes> {
    let Some(raw) = form.raw("content") else {
        form::add(errors, form.pointer("content"), "is required; it may be any JSON");
        return None;
    };
    checked_json(body, form.pointer("content"), raw, BUS_CONTENT_BYTES_MAX, errors)
}

fn metadata(body: &Bytes, form: &mut Form<'_>, errors: &mut Errors) -> Option<Bytes> {
    let raw = form.value("metadata")?;
    if !raw.get().starts_with('{') {
        form::add(errors, form.pointer("metadata"), "must be an object");
        return None;
    }
    checked_json(body, form.pointer("metadata"), raw, BUS_METADATA_BYTES_MAX, errors)
}

fn checked_json(
    body: &Bytes,
    at: String,
    raw: &RawValue,
    bytes_max: usize,
    errors: &mut Errors,
) -> Option<Bytes> {
    let text = raw.get();
    if text.len() > bytes_max {
        form::add(errors, at, format!("must have at most {bytes_max} bytes, not {}", text.len()));
        return None;
    }
    if serde_json::from_str::<Shallow>(text).is_err() {
        form::add(errors, at, "must hold Unicode texts and finite numbers, and not nest deeply");
        return None;
    }
    Some(body.slice_ref(text.as_bytes()))
}

fn reply_to(form: &mut Form<'_>, errors: &mut Errors) -> Option<turnwise_broker::BusMessageId> {
    let text = form.text("in_reply_to", |_| None, errors)?;
    let id = text.parse().ok();
    if id.is_none() {
        form::add(errors, form.pointer("in_reply_to"), "must be the id of a message of the bus");
    }
    id
}

/// Who is left out: the sender too, unless it is said otherwise.
fn excluded(form: &mut Form<'_>, from: Option<&str>, errors: &mut Errors) -> Vec<String> {
    let at = form.pointer("exclude_agents");
    let mut excluded = Vec::new();
    if let Some(raw) = form.value("exclude_agents") {
        let Some(items) = form::list(raw, BUS_EXCLUDED_MAX) else {
            form::add(errors, at, format!("must be an array of at most {BUS_EXCLUDED_MAX} agents"));
            return excluded;
        };
        for (place, raw) in items.into_iter().enumerate() {
            match serde_json::from_str::<Text<'_>>(raw.get()) {
                Ok(Text(agent)) if rules::id(&agent).is_none() => excluded.push(agent.into_owned()),
                _ => form::add(errors, format!("{at}/{place}"), "must be the id of an agent"),
            }
        }
    }
    let is_said = form.has("exclude_sender");
    let keeps_sender = !form.flag("exclude_sender", errors) && is_said;
    if !keeps_sender {
        excluded.extend(from.map(str::to_owned));
    }
    excluded
}

fn accepted(sent: &BusSent) -> Result<Response, Failure> {
    let mut response = json(&told(sent, None))?;
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn told<'s>(sent: &'s BusSent, answer: Option<&'s BusReply>) -> BusSentAnswer<'s> {
    let offline_since = sent.state.as_ref().and_then(BusState::offline_since);
    BusSentAnswer {
        message_id: sent.message_id.as_str(),
        duplicate: sent.is_repeat,
        recipients: sent.recipients,
        queued: sent.queued,
        bounced: sent.bounced,
        state: sent.state.as_ref().map(state),
        offline_since: offline_since.map(rfc3339),
        reply: answer.map(reply),
    }
}

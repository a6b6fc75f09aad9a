//! `POST /api/v1/queues/{queue}/messages`.

use super::form::{self, Form};
use super::{item_error, items, only_queue};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::{
    FORM_FIELDS_MAX, ID_BYTES_MAX, MOMENT, QUEUE_ATTEMPTS_MAX, QUEUE_HEADER_NAME_BYTES_MAX,
    QUEUE_HEADERS_BYTES_MAX, QUEUE_PAYLOAD_BYTES_MAX, QUEUE_TIME_MAX,
};
use crate::note::About;
use crate::rest::json;
use crate::rest::rules::{self, Errors};
use crate::trace;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{Code, ItemError, QueueSent, QueueSentBatch, Shallow};
use turnwise_broker::{WorkDedup, WorkMessage, WorkSent, WorkTime};
use turnwise_core::Timestamp;
use turnwise_core::limits::PRIORITY_MAX;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Names of headers that are the broker's own.
const OWN_HEADERS: &str = "turnwise-";

/// What holds for all messages of a request.
pub(crate) struct Around<'r> {
    pub(crate) now: Timestamp,
    pub(crate) idempotency_key: Option<&'r str>,
    pub(crate) traceparent: Option<String>,
}

/// Stores one message, or a batch.
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let queue = only_queue(&caller, path, &head.uri)?;
    app.require_serving()?;
    body::require_json(&head.headers)?;
    let around = around(&app, &head.headers)?;
    let (sent, is_batch) = {
        let body = body::read(&app, body).await?;
        let (messages, is_batch) = messages(&body.bytes, &around)?;
        (app.broker.send_work(&queue, messages).await?, is_batch)
    };
    let is_any_new = sent.iter().any(|one| matches!(one, WorkSent::New { .. }));
    let mut response = if is_batch {
        json(&QueueSentBatch { results: sent.into_iter().map(answer).collect() })?
    } else {
        alone(sent)?
    };
    if is_any_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

fn around<'r>(app: &App, headers: &'r HeaderMap) -> Result<Around<'r>, Failure> {
    let idempotency_key = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(value) => {
            let key = value.to_str().ok().filter(|key| rules::id(key).is_none());
            let detail = format!("Idempotency-Key must have 1 to {ID_BYTES_MAX} visible ASCII characters");
            Some(key.ok_or_else(|| Failure::new(Code::BadRequest, detail))?)
        }
    };
    let traceparent = trace::of(headers).map(turnwise_metrics::Place::header);
    Ok(Around { now: app.broker.now(), idempotency_key, traceparent })
}

/// What is to be stored, and whether it came as a batch.
pub(crate) fn messages(body: &Bytes, around: &Around<'_>) -> Result<(Vec<WorkMessage>, bool), Failure> {
    let mut errors = Errors::default();
    let items = items(body, &mut errors)?;
    let is_batch = items.batch.is_some();
    if let Some(batch) = items.batch {
        batch.finish(&mut errors);
    }
    let mut messages = Vec::with_capacity(items.items.len());
    for (place, form) in (0..).zip(items.items) {
        let dedup = around.idempotency_key.map(|key| match is_batch {
            true => WorkDedup::OfBatch(key.to_owned(), place),
            false => WorkDedup::Own(key.to_owned()),
        });
        messages.extend(message(body, form, dedup, around, &mut errors));
    }
    errors.into_result()?;
    Ok((messages, is_batch))
}

/// None if something is wrong with it, which is said then.
fn message(
    body: &Bytes,
    mut form: Form<'_>,
    of_request: Option<WorkDedup>,
    around: &Around<'_>,
    errors: &mut Errors,
) -> Option<WorkMessage> {
    let payload = payload(body, &mut form, errors);
    let key = form.text("ordering_key", rules::id, errors);
    let priority = form.whole("priority", 0..=PRIORITY_MAX.into(), errors);
    let deliver = time(&mut form, ("deliver_at", "delay_seconds"), Duration::ZERO, around.now, errors);
    let expires = time(&mut form, ("expires_at", "ttl_seconds"), MOMENT, around.now, errors);
    let at = |time: WorkTime| match time {
        WorkTime::At(at) => at,
        WorkTime::In(after) => around.now.after(after),
    };
    if let Some(end) = expires.map(at)
        && end <= deliver.map_or(around.now, |it| at(it).max(around.now))
    {
        form::add(
            errors,
            form.pointer("expires_at"),
            "must be in the future, and after the time of delivery",
        );
    }
    let max_attempts = form.whole("max_attempts", 1..=QUEUE_ATTEMPTS_MAX, errors);
    let own = form.text("dedup_key", rules::id, errors);
    if let (Some(own), Some(WorkDedup::Own(header))) = (&own, &of_request)
        && own != header
    {
        let detail = "must equal the header Idempotency-Key, or be left out";
        form::add(errors, form.pointer("dedup_key"), detail);
    }
    let headers = headers(&mut form, around, errors);
    form.finish(errors);
    Some(WorkMessage {
        payload: payload?,
        key,
        priority: priority.and_then(|priority| u8::try_from(priority).ok()),
        headers,
        deliver,
        expires,
        max_attempts: max_attempts.and_then(|attempts| u32::try_from(attempts).ok()),
        dedup: own.map(WorkDedup::Own).or(of_request),
    })
}

/// Part of the body: it is not copied.
fn payload(body: &Bytes, form: &mut Form<'_>, errors: &mut Errors) -> Option<Bytes> {
    let Some(raw) = form.raw("payload") else {
        form::add(errors, form.pointer("payload"), "is required; it may be any JSON");
        return None;
    };
    let text = raw.get();
    if text.len() > QUEUE_PAYLOAD_BYTES_MAX {
        let detail = format!("must have at most {QUEUE_PAYLOAD_BYTES_MAX} bytes, not {}", text.len());
        form::add(errors, form.pointer("payload"), detail);
        return None;
    }
    if serde_json::from_str::<Shallow>(text).is_err() {
        let detail = "must hold Unicode texts and finite numbers, and not nest deeply";
        form::add(errors, form.pointer("payload"), detail);
        return None;
    }
    Some(body.slice_ref(text.as_bytes()))
}

/// A time that is given in one of two ways.
fn time(
    form: &mut Form<'_>,
    (at, after): (&str, &str),
    least: Duration,
    now: Timestamp,
    errors: &mut Errors,
) -> Option<WorkTime> {
    let absolute = form.time(at, errors);
    let relative = form.seconds(after, least..=QUEUE_TIME_MAX, errors);
    match (absolute, relative) {
        (Some(_), Some(_)) => {
            form::add(errors, form.pointer(at), format!("must not stand beside {after}"));
            None
        }
        (Some(time), None) => {
            if time > now.after(QUEUE_TIME_MAX) {
                form::add(errors, form.pointer(at), "must be within 366 days from now");
            }
            Some(WorkTime::At(time))
        }
        (None, relative) => relative.map(WorkTime::In),
    }
}

fn headers(form: &mut Form<'_>, around: &Around<'_>, errors: &mut Errors) -> Vec<(String, String)> {
    let at = form.pointer("headers");
    let mut headers = form.object("headers", errors).map(|own| own.strings(errors)).unwrap_or_default();
    let is_name = |name: &str| {
        (1..=QUEUE_HEADER_NAME_BYTES_MAX).contains(&name.len())
            && !name.chars().any(char::is_control)
            && !name.starts_with(OWN_HEADERS)
    };
    if !headers.iter().all(|(name, _)| is_name(name)) {
        let rule = format!(
            "must have names of 1 to {QUEUE_HEADER_NAME_BYTES_MAX} bytes without control characters, which do \
             not begin with {OWN_HEADERS}"
        );
        form::add(errors, at.clone(), rule);
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > QUEUE_HEADERS_BYTES_MAX {
        form::add(errors, at, format!("must have at most {QUEUE_HEADERS_BYTES_MAX} bytes together"));
    }
    // The trace goes on with the message, unless it has a place of its own.
    let has_own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
    if let Some(place) = around.traceparent.as_ref().filter(|_| !has_own && headers.len() < FORM_FIELDS_MAX) {
        headers.push(("traceparent".to_owned(), place.clone()));
    }
    headers
}

/// The answer to a message that came alone: what went wrong with it is a problem.
fn alone(sent: Vec<WorkSent>) -> Result<Response, Failure> {
    let missing = || Failure::new(Code::Internal, "The store gave no answer");
    let one = sent.into_iter().next().ok_or_else(missing)?;
    let id = match &one {
        WorkSent::New { id, .. } | WorkSent::Duplicate(id) => *id,
        WorkSent::Failed(error) => return Err(error.clone().into()),
        WorkSent::Conflict(id) => {
            let detail = "This dedup key was used before for a message with other content";
            return Err(Failure::new(Code::IdempotencyConflict, detail).about(*id));
        }
    };
    let mut response = json(&answer(one))?;
    response.extensions_mut().insert(About(id));
    Ok(response)
}

fn answer(sent: WorkSent) -> QueueSent {
    match sent {
        WorkSent::New { id, position } => {
            QueueSent { message_id: Some(id.to_string()), position, ..QueueSent::default() }
        }
        WorkSent::Duplicate(id) => {
            QueueSent { message_id: Some(id.to_string()), duplicate: true, ..QueueSent::default() }
        }
        WorkSent::Conflict(id) => {
            let code = Code::IdempotencyConflict;
            let detail = format!("This dedup key was used before, for message {id} with other content");
            let error = ItemError::new(code, detail);
            QueueSent { error: Some(error), ..QueueSent::default() }
        }
        WorkSent::Failed(error) => QueueSent { error: Some(item_error(error)), ..QueueSent::default() },
    }
}

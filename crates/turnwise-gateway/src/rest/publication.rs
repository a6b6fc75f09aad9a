//! The body of a publish: an event or several in our own form, or CloudEvents.

use super::cloudevent::{self, CloudEvent};
use super::rules::{self, Errors};
use super::strict_object;
use crate::body;
use crate::error::Failure;
use crate::limits::EVENTS_PUBLISHED_MAX;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::IgnoredAny;
use turnwise_api::{ClientFrame, Code, EventBatch, EventRequest, Shallow};
use turnwise_broker::{EventBody, Publication};

const FORM: &str = "must be {\"type\": \"…\", \"data\": …, \"dedup_key\": \"…\"}, or {\"items\": […]} of such, and nothing else";

/// What a body is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Our own form.
    Own,
    /// A CloudEvent in its JSON format.
    Structured,
    /// Several of these.
    Batch,
    /// A CloudEvent whose attributes are headers.
    Binary,
}

/// What is to be published; one is answered as one.
pub(crate) enum Publications {
    One(Publication),
    Many(Vec<Publication>),
}

/// Whether there are several, and how many. What is passed over takes no room.
#[derive(Deserialize)]
struct Probe {
    items: Option<Vec<IgnoredAny>>,
}

impl Mode {
    /// Refuses what is announced as something else.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Mode, Failure> {
        body::require_plain(headers)?;
        let media = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
        let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match media.to_ascii_lowercase().as_slice() {
            b"application/cloudevents+json" => Ok(Mode::Structured),
            b"application/cloudevents-batch+json" => Ok(Mode::Batch),
            other if other.starts_with(b"application/cloudevents") => Err(Failure::new(
                Code::UnsupportedMediaType,
                "CloudEvents are taken in the JSON format: application/cloudevents+json",
            )),
            _ if cloudevent::is_binary(headers) => Ok(Mode::Binary),
            _ => body::require_json(headers).map(|()| Mode::Own),
        }
    }

    /// What the body says.
    pub(crate) fn read(self, headers: &HeaderMap, body: &[u8]) -> Result<Publications, Failure> {
        let mut errors = Errors::default();
        let mut publications = match self {
            Mode::Own => own(body, &mut errors)?,
            Mode::Structured => one_cloud(cloudevent::structured(body, &mut errors)?),
            Mode::Batch => {
                let events = cloudevent::batch(body, &mut errors)?;
                Publications::Many(events.into_iter().map(of_cloud).collect())
            }
            Mode::Binary => one_cloud(cloudevent::binary(headers, body, &mut errors)?),
        };
        // A CloudEvent has a key of its own: its source and id.
        if let Some(key) = idempotency_key(headers, &mut errors)
            && self == Mode::Own
        {
            idempotency(key, &mut publications, &mut errors);
        }
        errors.into_result()?;
        Ok(publications)
    }
}

fn own(body: &[u8], errors: &mut Errors) -> Result<Publications, Failure> {
    if serde_json::from_slice::<Shallow>(body).is_err() {
        return Err(Failure::new(Code::NotJson, "The body is not JSON"));
    }
    let Probe { items } = strict_object(body, FORM)?;
    let Some(items) = items else {
        let event: EventRequest<'_> = strict_object(body, FORM)?;
        return Ok(Publications::One(of_own(&event, "", errors)));
    };
    if !are_as_many_as_may_be(items.len(), "/items", errors) {
        return Ok(Publications::Many(Vec::new()));
    }
    let batch: EventBatch<'_> = strict_object(body, FORM)?;
    let each = batch.items.iter().enumerate();
    Ok(Publications::Many(each.map(|(at, event)| of_own(event, &format!("/items/{at}"), errors)).collect()))
}

/// Whether a batch has neither too few nor too many events.
pub(super) fn are_as_many_as_may_be(count: usize, pointer: &'static str, errors: &mut Errors) -> bool {
    let fits = (1..=EVENTS_PUBLISHED_MAX).contains(&count);
    if !fits {
        errors.add(pointer, format!("must hold 1 to {EVENTS_PUBLISHED_MAX} events"));
    }
    fits
}

fn of_own(event: &EventRequest<'_>, at: &str, errors: &mut Errors) -> Publication {
    if let Some(detail) = rules::event_type(&event.event_type) {
        errors.add(format!("{at}/type"), detail);
    }
    if let Some(detail) = event.dedup_key.as_deref().and_then(rules::id) {
        errors.add(format!("{at}/dedup_key"), detail);
    }
    let data = event.data.map_or("null", |data| data.get());
    if let Some(detail) = rules::event_bytes(data.len()) {
        errors.add(format!("{at}/data"), detail);
    }
    Publication {
        event_type: event.event_type.clone().into_owned(),
        body: EventBody::Json(Bytes::copy_from_slice(data.as_bytes())),
        dedup_key: event.dedup_key.as_deref().map(own_key),
    }
}

/// The event of a `publish` frame.
pub(crate) fn of_frame(frame: &ClientFrame<'_>, errors: &mut Errors) -> Publication {
    let event_type = frame.event_type.clone().unwrap_or_default();
    if let Some(detail) = rules::event_type(&event_type) {
        errors.add("event_type", detail);
    }
    if let Some(detail) = frame.dedup_key.as_deref().and_then(rules::id) {
        errors.add("dedup_key", detail);
    }
    let data = frame.data.map_or("null", |data| data.get());
    if let Some(detail) = rules::event_bytes(data.len()) {
        errors.add("data", detail);
    }
    Publication {
        event_type: event_type.into_owned(),
        body: EventBody::Json(Bytes::copy_from_slice(data.as_bytes())),
        dedup_key: frame.dedup_key.as_deref().map(own_key),
    }
}

/// Keys of clients and of CloudEvents never meet.
fn own_key(key: &str) -> String {
    format!("k:{key}")
}

fn one_cloud(event: Option<CloudEvent>) -> Publications {
    // Without an event there is an error, and nothing is published.
    event.map_or_else(|| Publications::Many(Vec::new()), |event| Publications::One(of_cloud(event)))
}

fn of_cloud(event: CloudEvent) -> Publication {
    let CloudEvent { event_type, source, id, json } = event;
    // Source and id together name an event (CloudEvents 1.0.2, section 3.1.1): the same again is a repeat.
    let dedup_key = Some(format!("c:{}:{source}{id}", source.len()));
    Publication { event_type, body: EventBody::CloudEvent(json.into()), dedup_key }
}

fn idempotency_key<'h>(headers: &'h HeaderMap, errors: &mut Errors) -> Option<&'h str> {
    let value = headers.get("idempotency-key")?;
    let key = value.to_str().ok().filter(|key| rules::id(key).is_none());
    if key.is_none() {
        errors.add("Idempotency-Key", "must be visible ASCII of at most 256 bytes");
    }
    key
}

/// The header stands for the keys that are not given; of several, each gets its own.
fn idempotency(key: &str, publications: &mut Publications, errors: &mut Errors) {
    match publications {
        Publications::One(event) => {
            let own = event.dedup_key.get_or_insert_with(|| own_key(key));
            if *own != own_key(key) {
                errors.add("/dedup_key", "must equal Idempotency-Key, or be left out");
            }
        }
        Publications::Many(events) => {
            for (at, event) in events.iter_mut().enumerate() {
                event.dedup_key.get_or_insert_with(|| own_key(&format!("{key}#{at}")));
            }
        }
    }
}

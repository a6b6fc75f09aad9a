//! `/api/v1/topics`: publishing events, and looking at what was published.

use super::json;
use super::publication::{Mode, Publications};
use super::query::Parameters;
use super::rules::{self, Errors};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::drain::Phase;
use crate::error::Failure;
use crate::limits::{TOPIC_PAGE_MAX, TOPIC_PAGE_USUAL};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{StatusCode, Uri};
use serde_json::value::RawValue;
use std::sync::Arc;
use turnwise_api::{
    Code, ItemError, PublishAnswer, PublishResult, PublishResults, Rfc3339, TopicAnswer, TopicHistory,
    TopicList,
};
use turnwise_broker::{EventBody, OrgScope, PublishedEvent, StreamPosition, TopicEvent, TopicView};

pub(crate) const CONFLICT: &str =
    "This dedup_key, or this CloudEvent's source and id, was used before with other content";

/// `POST /api/v1/topics/{topic}/events`.
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    if app.drain.phase() > Phase::Serving {
        return Err(Failure::new(Code::Draining, "The server is shutting down"));
    }
    let topic = name(path)?;
    let org = org(&caller, &Parameters::of(&head.uri)?)?;
    let mode = Mode::of(&head.headers)?;
    let publications = {
        let body = body::read(&app, body).await?;
        mode.read(&head.headers, &body.bytes)?
    };
    let mut response = match publications {
        Publications::One(event) => {
            let published = app.broker.publish(&org, &topic, vec![event]).await?;
            match published.events.into_iter().next() {
                Some(PublishedEvent::At(position)) => json(&PublishAnswer {
                    position: position.to_string(),
                    subscribers: published.subscribers,
                })?,
                Some(PublishedEvent::Conflict) => {
                    return Err(Failure::new(Code::IdempotencyConflict, CONFLICT));
                }
                Some(PublishedEvent::Failed(error)) => return Err(error.into()),
                None => return Err(Failure::new(Code::Internal, "The store answered nothing")),
            }
        }
        Publications::Many(events) => {
            let published = app.broker.publish(&org, &topic, events).await?;
            json(&PublishResults {
                results: published.events.into_iter().map(result).collect(),
                subscribers: published.subscribers,
            })?
        }
    };
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn result(published: PublishedEvent) -> PublishResult {
    let error = match published {
        PublishedEvent::At(position) => {
            return PublishResult { position: Some(position.to_string()), error: None };
        }
        PublishedEvent::Conflict => ItemError::new(Code::IdempotencyConflict, CONFLICT),
        PublishedEvent::Failed(error) => {
            let (code, detail) = Failure::from(error).into_item();
            ItemError::new(code, detail)
        }
    };
    PublishResult { position: None, error: Some(error) }
}

/// `GET /api/v1/topics/{topic}/events`.
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let topic = name(path)?;
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    let mut errors = Errors::default();
    let after: Option<StreamPosition> = parameters.get("after").and_then(|text| {
        let position = text.parse().ok();
        if position.is_none() {
            errors.add("?after", "must be the position of an event of this topic");
        }
        position
    });
    let limit = limit(&parameters, &mut errors);
    if !errors.0.is_empty() {
        return Err(Failure::invalid(Code::InvalidContent, errors.0));
    }
    let page = app.broker.topic_events(&org, &topic, after, limit).await?;
    json(&TopicHistory {
        items: page.events.iter().map(shown).collect::<Result<_, _>>()?,
        next: page.next.to_string(),
        gap: page.gap,
    })
}

/// `GET /api/v1/topics`.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    let mut errors = Errors::default();
    let matching = parameters.get("topics").unwrap_or(">");
    if let Some(detail) = rules::topic_pattern(matching) {
        errors.add("?topics", detail);
    }
    let after = parameters.get("after");
    if after.is_some_and(|after| rules::topic(after).is_some()) {
        errors.add("?after", "must be `next` of the page before");
    }
    let limit = limit(&parameters, &mut errors);
    if !errors.0.is_empty() {
        return Err(Failure::invalid(Code::InvalidContent, errors.0));
    }
    let found = app.broker.topics(&org, matching, after, limit).await?;
    let is_full = u32::try_from(found.len()).unwrap_or(u32::MAX) >= limit;
    let next = found.last().filter(|_| is_full).map(|last| last.name.clone());
    json(&TopicList { items: found.into_iter().map(answer).collect(), next })
}

/// `GET /api/v1/topics/{topic}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let topic = name(path)?;
    let org = org(&caller, &Parameters::of(&uri)?)?;
    let view = app.broker.topic(&org, &topic).await?.ok_or_else(Failure::not_found)?;
    json(&answer(view))
}

fn answer(view: TopicView) -> TopicAnswer {
    TopicAnswer {
        name: view.name,
        start: view.start.to_string(),
        last: view.last.to_string(),
        events: view.events,
        bytes: view.bytes,
        subscribers: view.subscribers,
    }
}

/// An event as readers get it.
pub(crate) fn shown(event: &TopicEvent) -> Result<turnwise_api::TopicEvent<'_>, Failure> {
    let (data, cloudevent) = match &event.body {
        EventBody::Json(json) => (Some(json), None),
        EventBody::CloudEvent(json) => (None, Some(json)),
    };
    Ok(turnwise_api::TopicEvent {
        topic: event.topic(),
        position: event.position.to_string(),
        event_type: &event.event_type,
        time: Rfc3339(event.at.0),
        data: data.map(value).transpose()?,
        cloudevent: cloudevent.map(value).transpose()?,
    })
}

fn value(json: &Bytes) -> Result<&RawValue, Failure> {
    serde_json::from_slice(json).map_err(|_| damaged())
}

fn damaged() -> Failure {
    tracing::error!("an event of a topic is not the JSON that was taken in");
    Failure::new(Code::Internal, "The event cannot be read")
}

/// The topic of a path.
pub(super) fn name(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    let mut errors = Errors::default();
    match path {
        Ok(Path(topic)) => match rules::topic(&topic) {
            None => return Ok(topic),
            Some(detail) => errors.add("topic", detail),
        },
        Err(_) => errors.add("topic", "must be UTF-8, percent-encoded"),
    }
    Err(Failure::invalid(Code::InvalidContent, errors.0))
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
    let mut errors = Errors::default();
    let scope = caller.scope();
    let own = match &scope {
        OrgScope::These(orgs) => orgs.as_slice(),
        OrgScope::All => &[],
    };
    match (named, own) {
        (Some(org), _) => match rules::id(org) {
            Some(detail) => errors.add(pointer, detail),
            None if caller.sees(org) => return Ok(org.to_owned()),
            None => return Err(Failure::new(Code::OrgForbidden, "This API key is not for this org_id")),
        },
        (None, [org]) => return Ok(org.clone()),
        (None, _) => errors.add(pointer, "is required: the key is not for one organisation alone"),
    }
    Err(Failure::invalid(Code::InvalidContent, errors.0))
}

fn limit(parameters: &Parameters, errors: &mut Errors) -> u32 {
    match parameters.get("limit").map(str::parse) {
        None => TOPIC_PAGE_USUAL,
        Some(Ok(limit)) if (1..=TOPIC_PAGE_MAX).contains(&limit) => limit,
        Some(Ok(_) | Err(_)) => {
            errors.add("?limit", format!("must be a number from 1 to {TOPIC_PAGE_MAX}"));
            TOPIC_PAGE_USUAL
        }
    }
}

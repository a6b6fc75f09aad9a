//! `/api/v1/topics`: publishing events, and looking at what was published.

use super::json;
use super::publication::{Mode, Publications};
use super::query::{self, Parameters, org};
use super::rules::{self, Errors};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
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
use turnwise_broker::{EventBody, PublishedEvent, StreamPosition, TopicEvent, TopicView};

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
    app.require_serving()?;
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
    let limit = parameters.limit(TOPIC_PAGE_USUAL, TOPIC_PAGE_MAX, &mut errors);
    errors.into_result()?;
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
    let limit = parameters.limit(TOPIC_PAGE_USUAL, TOPIC_PAGE_MAX, &mut errors);
    errors.into_result()?;
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
    query::in_path(path, "topic", rules::topic)
}

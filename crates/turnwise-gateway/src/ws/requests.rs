//! What clients ask for in their frames.

use super::agents::{self, Agent};
use super::frames;
use super::framing::CloseCode;
use super::session::About;
use super::topics::{Begun, Topics, Wish};
use crate::error::Failure;
use crate::limits::{FRAME_ID_BYTES_MAX, PATTERNS_MAX, WS_REQUESTS_MAX};
use crate::rest::publication::of_frame;
use crate::rest::rules::{self, Errors};
use crate::rest::topics::CONFLICT;
use crate::scope::Access;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use std::borrow::Cow;
use turnwise_api::{ClientFrame, Code, Rfc3339, ServerFrame};
use turnwise_broker::{BrokerError, PublishedEvent, SubscribeFrom};

const EARLIEST: &str = "earliest";

/// How a frame is answered.
pub(super) enum Asked {
    /// With this.
    Now(Bytes),
    /// When this is done; until then nothing more is read.
    Later(BoxFuture<'static, Answer>),
    /// When this is done, whatever else is asked for meanwhile.
    Beside(BoxFuture<'static, Bytes>),
    /// Not at all.
    Nothing,
}

/// What came of it.
pub(super) enum Answer {
    Frame(Bytes),
    Joined(Box<Agent>),
    NotJoined(CloseCode, &'static str),
    Subscribed(Box<Begun>),
    Add(Wish),
    Remove(Option<Wish>, Option<String>),
}

/// By the server's clock.
pub(super) fn now(about: &About) -> Rfc3339 {
    Rfc3339(about.app.broker.now().0)
}

/// Does what a text asks for, or begins to.
pub(super) fn read(
    about: &About,
    agent: Option<&Agent>,
    requests: usize,
    text: &Bytes,
    topics: &Topics,
) -> Asked {
    let standing = about.app.rates.of_frames(&about.caller.holder().frames);
    if let Some(Err(failure)) = standing.map(|standing| standing.check()) {
        return Asked::Now(frames::error(&failure, None));
    }
    let frame: ClientFrame<'_> = match serde_json::from_slice(text) {
        Ok(frame) => frame,
        Err(error) => return Asked::Now(frames::error(&malformed(text, &error), None)),
    };
    let id = frame.id.clone().filter(|id| id.len() <= FRAME_ID_BYTES_MAX && rules::id(id).is_none());
    if frame.id.is_some() && id.is_none() {
        let detail = format!("id: must have 1 to {FRAME_ID_BYTES_MAX} bytes and no control characters");
        return Asked::Now(frames::error(&Failure::new(Code::InvalidContent, detail), None));
    }
    let kind = frame.kind.as_deref().unwrap_or_default();
    let asked = match kind {
        "request" if requests >= WS_REQUESTS_MAX => {
            let detail = format!("{WS_REQUESTS_MAX} requests of this connection wait for their answers");
            Err(Failure::new(Code::RateLimited, detail).retry_after(1))
        }
        kind if agents::KINDS.contains(&kind) => agents::follow(about, agent, kind, text, id.as_deref()),
        _ => follow(about, agent, &frame, id.as_deref(), topics),
    };
    match asked {
        Ok(asked) => asked,
        Err(failure) => Asked::Now(frames::error(&failure, id.as_deref())),
    }
}

fn malformed(text: &[u8], error: &serde_json::Error) -> Failure {
    // What serde says of data names fields and types, never what stood there.
    match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Ok(_) if error.is_data() => Failure::new(
            Code::InvalidContent,
            "A frame is a JSON object with a type, and each known field once and of its own type",
        ),
        _ => Failure::new(Code::NotJson, "The frame is not JSON"),
    }
}

fn follow(
    about: &About,
    agent: Option<&Agent>,
    frame: &ClientFrame<'_>,
    id: Option<&str>,
    topics: &Topics,
) -> Result<Asked, Failure> {
    match frame.kind.as_deref() {
        None => Err(Failure::new(Code::InvalidContent, "Missing type")),
        Some("ping") => Ok(Asked::Now(frames::bytes(&ServerFrame::Pong { timestamp: now(about), id }))),
        Some("pong") => Ok(Asked::Nothing),
        Some("subscribe") => {
            let wish = wish(frame, frame.topics.clone().unwrap_or_default(), id)?;
            subscribe(about, agent, wish, topics)
        }
        Some("resume") => {
            let topic = frame.topic.as_deref().map(str::to_owned);
            if frame.after.is_none() {
                return Err(Failure::new(Code::InvalidContent, "Missing after"));
            }
            let wish = wish(frame, topic.into_iter().collect(), id)?;
            subscribe(about, agent, wish, topics)
        }
        Some("unsubscribe") => {
            let named = frame.topics.clone().filter(|topics| !topics.is_empty());
            let gone = named.map(|named| wish(&ClientFrame::default(), named, id)).transpose()?;
            Ok(unsubscribe(agent, gone, id))
        }
        Some("publish") => publish(about, frame, id),
        Some(other) => {
            let known: String = other.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Failure::new(Code::InvalidContent, format!("Unknown message type: {known}")))
        }
    }
}

/// What a frame wants to follow.
fn wish(frame: &ClientFrame<'_>, mut topics: Vec<String>, id: Option<&str>) -> Result<Wish, Failure> {
    let mut errors = Errors::default();
    topics.sort();
    topics.dedup();
    if topics.is_empty() {
        return Err(Failure::new(Code::InvalidContent, "No topics specified"));
    }
    if topics.len() > PATTERNS_MAX {
        errors.add("topics", format!("must be at most {PATTERNS_MAX} topics and patterns"));
        topics.truncate(PATTERNS_MAX);
    }
    let topics: Vec<(String, String)> =
        topics.into_iter().map(|topic| (topic.clone(), pattern(&topic).into_owned())).collect();
    if let Some(detail) = topics.iter().find_map(|(_, pattern)| rules::topic_pattern(pattern)) {
        errors.add("topics", detail);
    }
    let from = match frame.after.as_deref() {
        None => SubscribeFrom::Now,
        Some(EARLIEST) => SubscribeFrom::Earliest,
        Some(place) => place.parse().map(SubscribeFrom::After).unwrap_or_else(|()| {
            errors.add("after", "must be a place out of a frame, or `earliest`");
            SubscribeFrom::Now
        }),
    };
    errors.into_result()?;
    Ok(Wish { topics, from, id: id.map(str::to_owned) })
}

/// A `*` at the end stands for one or more parts here, as `>` does.
fn pattern(topic: &str) -> Cow<'_, str> {
    match topic.strip_suffix('*') {
        Some(start) if start.is_empty() || start.ends_with(['.', ':']) => Cow::Owned(format!("{start}>")),
        _ => Cow::Borrowed(topic),
    }
}

/// Follows the events of these topics; an agent gets what is sent to their agents as well.
fn subscribe(about: &About, agent: Option<&Agent>, wish: Wish, topics: &Topics) -> Result<Asked, Failure> {
    about.caller.require(Access::TopicsRead)?;
    if topics.count_with(&wish) > PATTERNS_MAX {
        let detail = format!("A connection follows at most {PATTERNS_MAX} topics and patterns");
        return Err(Failure::new(Code::InvalidContent, detail));
    }
    let handle = agent.map(|agent| agent.handle.clone());
    let (broker, org, is_open) = (about.app.broker.clone(), about.entry.org(), topics.is_open());
    Ok(Asked::Later(Box::pin(async move {
        let patterns = wish.patterns();
        if let Some(handle) = handle
            && let Err(error) = handle.subscribe(&patterns).await
        {
            return failed(error, wish.id.as_deref());
        }
        if is_open {
            return Answer::Add(wish);
        }
        match broker.subscribe_changing(&org, &patterns, wish.from).await {
            Ok((events, changes)) => Answer::Subscribed(Box::new(Begun { wish, events, changes })),
            Err(error) => failed(error, wish.id.as_deref()),
        }
    })))
}

fn unsubscribe(agent: Option<&Agent>, gone: Option<Wish>, id: Option<&str>) -> Asked {
    let handle = agent.map(|agent| agent.handle.clone());
    let id = id.map(str::to_owned);
    Asked::Later(Box::pin(async move {
        if let Some(handle) = handle {
            let patterns = gone.as_ref().map_or_else(|| handle.topics(), Wish::patterns);
            if let Err(error) = handle.unsubscribe(&patterns).await {
                return failed(error, id.as_deref());
            }
        }
        Answer::Remove(gone, id)
    }))
}

fn publish(about: &About, frame: &ClientFrame<'_>, id: Option<&str>) -> Result<Asked, Failure> {
    about.caller.require(Access::TopicsWrite)?;
    about.app.require_serving()?;
    let topic = frame.topic.as_deref().unwrap_or_default().to_owned();
    let mut errors = Errors::default();
    if let Some(detail) = rules::topic(&topic) {
        errors.add("topic", detail);
    }
    let publication = of_frame(frame, &mut errors);
    errors.into_result()?;
    let (broker, org, id) = (about.app.broker.clone(), about.entry.org(), id.map(str::to_owned));
    Ok(Asked::Later(Box::pin(async move {
        let id = id.as_deref();
        let published = match broker.publish(&org, &topic, vec![publication]).await {
            Ok(published) => published,
            Err(error) => return failed(error, id),
        };
        Answer::Frame(match published.events.into_iter().next() {
            Some(PublishedEvent::At(position)) => {
                let (topic, position) = (topic.as_str(), &position.to_string());
                let subscribers = published.subscribers;
                frames::bytes(&ServerFrame::Published { topic, position, subscribers, id })
            }
            Some(PublishedEvent::Conflict) => {
                frames::error(&Failure::new(Code::IdempotencyConflict, CONFLICT), id)
            }
            Some(PublishedEvent::Failed(error)) => frames::error(&error.into(), id),
            None => frames::error(&Failure::new(Code::Internal, "The store answered nothing"), id),
        })
    })))
}

fn failed(error: BrokerError, id: Option<&str>) -> Answer {
    Answer::Frame(frames::error(&error.into(), id))
}

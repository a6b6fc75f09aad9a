//! Topics: what is published, and what readers of it get.

use crate::problem::ItemError;
use crate::time::Rfc3339;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// An event to be published.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRequest<'a> {
    /// What it is: the name of the server-sent event, too.
    #[serde(rename = "type", borrow)]
    #[schema(value_type = String)]
    pub event_type: Cow<'a, str>,
    /// What it says: any JSON, null if it is left out.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<&'a RawValue>,
    /// Makes a repeat harmless: within 24 hours the same key with the same content is the same event.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dedup_key: Option<Cow<'a, str>>,
}

/// Several events to be published, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventBatch<'a> {
    /// Each with its own outcome.
    #[serde(borrow)]
    pub items: Vec<EventRequest<'a>>,
}

/// An event that was published.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PublishAnswer {
    /// Its place in the topic, good for reading on after it. A repeat is answered with the first one's.
    pub position: String,
    /// Live subscriptions of this node that get it.
    pub subscribers: u64,
}

/// Several events that were published, each with its own outcome.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PublishResults {
    /// In the order of the events.
    pub results: Vec<PublishResult>,
    /// Live subscriptions of this node that get them.
    pub subscribers: u64,
}

/// What became of one of several events: it has a position, or an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PublishResult {
    /// Its place in the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Why it is not stored, or may not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

/// A published event, for those who read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopicEvent<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its place in the topic.
    pub position: String,
    /// What it is.
    #[serde(rename = "type")]
    pub event_type: &'a str,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub time: Rfc3339,
    /// What it says, unless it is a CloudEvent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<&'a RawValue>,
    /// The whole CloudEvent in its JSON format, if it was published as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub cloudevent: Option<&'a RawValue>,
}

/// A page of a topic's history.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopicHistory<'a> {
    /// In order. Only a page without any is the end.
    pub items: Vec<TopicEvent<'a>>,
    /// Where to read on: the next page's `after`.
    pub next: String,
    /// Events behind the place asked for are not kept any longer; the page begins with the oldest that is.
    pub gap: bool,
}

/// How much of a topic is kept, whichever limit is reached first. A limit that is left out is the usual one, null is
/// none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionRequest {
    /// Events older than this go.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_age_seconds: Option<Option<u64>>,
    /// With more events the oldest go.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_events: Option<Option<u64>>,
    /// With more bytes the oldest go.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_bytes: Option<Option<u64>>,
}

/// What is there, null too.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// How much of a topic is kept, whichever limit is reached first; null is no limit.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RetentionAnswer {
    /// Events older than this go.
    #[schema(required = true)]
    pub max_age_seconds: Option<u64>,
    /// With more events the oldest go.
    #[schema(required = true)]
    pub max_events: Option<u64>,
    /// With more bytes the oldest go.
    #[schema(required = true)]
    pub max_bytes: Option<u64>,
}

/// A topic.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopicAnswer {
    /// Its name.
    pub name: String,
    /// Before the oldest event that is kept.
    pub start: String,
    /// Of the newest event.
    pub last: String,
    /// Events that are kept.
    pub events: u64,
    /// Their bytes, without what the store adds.
    pub bytes: u64,
    /// Live subscriptions of this node.
    pub subscribers: u64,
}

/// A page of topics.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopicList {
    /// By name.
    pub items: Vec<TopicAnswer>,
    /// The next page's `after`; null on the last one.
    #[schema(required = true)]
    pub next: Option<String>,
}

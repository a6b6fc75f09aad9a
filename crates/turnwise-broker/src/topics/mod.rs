//! Public topics: events that clients publish, read again and follow, inside
//! their organisation. What the broker keeps for itself has other kinds of
//! names, which nothing here reaches.

mod bells;
mod changes;
mod feed;
mod gap;
mod look;
mod place;
mod publish;
mod pump;
mod record;
mod retention;
mod subscribe;
mod wanted;

pub use changes::SubscriptionChanges;
pub(crate) use feed::Feeds;
pub use look::{TopicPage, TopicView};
pub use place::SubscriptionPlace;
pub use publish::{PublishedBatch, PublishedEvent};
pub(crate) use retention::Keeper;
pub use retention::Retention;
pub use subscribe::{SubscribeFrom, Subscribed, Subscription};

use crate::follow::StreamPosition;
use bytes::Bytes;
use std::sync::OnceLock;
use turnwise_core::{Epoch, Event, Kind, Name, NameError, Position, Timestamp, TopicName, TopicPattern};

/// What an event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// Any JSON.
    Json(Bytes),
    /// A whole CloudEvent in its JSON format.
    CloudEvent(Bytes),
}

/// An event to be published; its parts are checked by who takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// What it is.
    pub event_type: String,
    /// What it says.
    pub body: EventBody,
    /// Makes a repeat harmless.
    pub dedup_key: Option<String>,
}

/// A published event.
#[derive(Clone, Debug)]
pub struct TopicEvent {
    topic: TopicName,
    /// In its topic.
    pub position: StreamPosition,
    /// What it is.
    pub event_type: String,
    /// What it says.
    pub body: EventBody,
    /// When it was stored.
    pub at: Timestamp,
    /// In the sequence over all topics, for who reads several; nowhere else.
    pub place: Option<SubscriptionPlace>,
    /// For who sends it to many: its bytes, which are the same for all.
    pub wire: OnceLock<Bytes>,
    /// The same for those who are sent it in another form.
    pub frame: OnceLock<Bytes>,
}

impl TopicEvent {
    /// The name of its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.name()
    }

    /// An event of the store; `None` for what a newer version has written.
    fn of(
        topic: &TopicName,
        epoch: Epoch,
        event: Event,
        place: Option<SubscriptionPlace>,
    ) -> Option<TopicEvent> {
        let (event_type, body) = record::read(&event.event_type, event.data)?;
        Some(TopicEvent {
            topic: topic.clone(),
            position: StreamPosition(Position { epoch, offset: event.offset }),
            event_type,
            body,
            at: event.appended_at,
            place,
            wire: OnceLock::new(),
            frame: OnceLock::new(),
        })
    }
}

/// The name of a public topic.
fn name(org: &str, topic: &str) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Public, topic)
}

/// Public topics of one organisation.
fn pattern(org: &str, pattern: &str) -> Result<TopicPattern, NameError> {
    name(org, pattern).map(TopicPattern)
}

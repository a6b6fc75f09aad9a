//! Publishing events, and who hears of them here.

use super::{EventBody, Publication, name, record};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::follow::StreamPosition;
use crate::limits::TOPIC_DEDUP_WINDOW;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use turnwise_core::{Dedup, NewEvent, StoreError, TopicName};

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishedEvent {
    /// Stored here, or found here: then it is a repeat.
    At(StreamPosition),
    /// Its dedup key was used with other content; it is not stored.
    Conflict,
    /// The store has no answer for it.
    Failed(StoreError),
}

/// The answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedBatch {
    /// One for each event, in the same order.
    pub events: Vec<PublishedEvent>,
    /// Subscriptions of this node that the topic belongs to.
    pub subscribers: u64,
}

impl Broker {
    /// Appends events to a public topic, durable when it returns: in order, but each with its own outcome.
    ///
    /// # Errors
    /// When the store does not answer; the org is new and as many as may be are known.
    pub async fn publish(
        &self,
        org: &str,
        topic: &str,
        batch: Vec<Publication>,
    ) -> Result<PublishedBatch, BrokerError> {
        let inner = &self.0;
        let topic = name(org, topic)?;
        let orgs_max = inner.config.orgs_max;
        if !inner.orgs.remember(inner.store.as_ref(), org, orgs_max).await? {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let has_key: Vec<bool> = batch.iter().map(|event| event.dedup_key.is_some()).collect();
        let new = batch.iter().map(|event| new_event(&topic, event)).collect();
        let answers = inner.store.append(new).await?;
        let outcome = |(answer, has_key)| match answer {
            Ok(position) => PublishedEvent::At(StreamPosition(position)),
            // Its sizes were checked, so nothing else can be wrong with it.
            Err(StoreError::Invalid(_)) if has_key => PublishedEvent::Conflict,
            Err(error) => PublishedEvent::Failed(error),
        };
        let events: Vec<PublishedEvent> = answers.into_iter().zip(has_key).map(outcome).collect();
        let stored = events.iter().filter(|event| matches!(event, PublishedEvent::At(_))).count();
        inner.feeds.published.add(stored as u64);
        Ok(PublishedBatch { events, subscribers: inner.feeds.subscribers(&topic) })
    }
}

fn new_event(topic: &TopicName, event: &Publication) -> NewEvent {
    let (event_type, data) = record::written(&event.event_type, &event.body);
    let dedup = event.dedup_key.as_ref().map(|key| Dedup {
        key: Bytes::copy_from_slice(key.as_bytes()),
        window: TOPIC_DEDUP_WINDOW,
        content_hash: content_hash(&event_type, &event.body),
    });
    // Kept until it is trimmed: with a dropped topic its offsets would begin anew.
    NewEvent { topic: topic.clone(), event_type, data, dedup, keep_until: None }
}

fn content_hash(event_type: &str, body: &EventBody) -> [u8; 16] {
    let mut content = Sha256::new_with_prefix(event_type);
    // No type holds a zero byte.
    content.update([0]);
    match body {
        EventBody::Json(data) | EventBody::CloudEvent(data) => content.update(data),
    }
    let digest: [u8; 32] = content.finalize().into();
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(digest) {
        *to = from;
    }
    hash
}

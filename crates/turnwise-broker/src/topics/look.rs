//! Looking at topics: pages of history, and what there is.

use super::{TopicEvent, name, pattern};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::follow::StreamPosition;
use crate::limits::TOPICS_PAGE;
use turnwise_core::{Offset, Position, Read, ReadFrom, TopicInfo};

/// A page of one topic's events.
#[derive(Clone, Debug)]
pub struct TopicPage {
    /// In order. Only a page without any is the end.
    pub events: Vec<TopicEvent>,
    /// Where to read on.
    pub next: StreamPosition,
    /// Events that followed the place asked for are not kept any longer: the page begins with the oldest that is.
    pub gap: bool,
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Before the oldest event that is kept: whoever reads on after it begins with that one.
    pub start: StreamPosition,
    /// Of the newest event.
    pub last: StreamPosition,
    /// Events that are kept.
    pub events: u64,
    /// What they count.
    pub bytes: u64,
    /// Subscriptions of this node that it belongs to.
    pub subscribers: u64,
}

impl Broker {
    /// A page of a topic's events from the oldest, or after a position. A topic that nobody has published to
    /// reads as empty.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn topic_events(
        &self,
        org: &str,
        topic: &str,
        after: Option<StreamPosition>,
        limit: u32,
    ) -> Result<TopicPage, BrokerError> {
        let topic = name(org, topic)?;
        let mut from = after.map_or(ReadFrom::Earliest, |after| ReadFrom::After(after.0));
        let mut gap = false;
        loop {
            match self.0.store.read(&topic, from, limit).await? {
                Read::Gap { resume } if from == ReadFrom::After(resume) => {
                    // Nothing is kept behind the end, and nothing is missed there.
                    return Ok(TopicPage { events: Vec::new(), next: StreamPosition(resume), gap });
                }
                Read::Gap { resume } => {
                    (from, gap) = (ReadFrom::After(resume), true);
                }
                Read::Events { events, next } => {
                    let of = |event| TopicEvent::of(&topic, next.epoch, event, None);
                    let events = events.into_iter().filter_map(of).collect();
                    return Ok(TopicPage { events, next: StreamPosition(next), gap });
                }
            }
        }
    }

    /// Topics of an org that match a pattern, by name, after one of them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn topics(
        &self,
        org: &str,
        matching: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TopicView>, BrokerError> {
        let after = after.map(|after| name(org, after)).transpose()?;
        let limit = limit.min(TOPICS_PAGE);
        let found = self.0.store.topics(&pattern(org, matching)?, after, limit).await?;
        Ok(found.iter().map(|info| self.view(info)).collect())
    }

    /// One topic; `None` if nobody has published to it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn topic(&self, org: &str, topic: &str) -> Result<Option<TopicView>, BrokerError> {
        Ok(self.topics(org, topic, None, 1).await?.pop())
    }

    fn view(&self, info: &TopicInfo) -> TopicView {
        let at = |offset| StreamPosition(Position { epoch: self.0.store.epoch(), offset: Offset(offset) });
        let before = info.first.0.saturating_sub(1);
        TopicView {
            name: info.topic.name().to_owned(),
            start: at(before),
            last: at(info.last.0),
            events: info.last.0.saturating_sub(before),
            bytes: info.bytes,
            subscribers: self.0.feeds.subscribers(&info.topic),
        }
    }
}

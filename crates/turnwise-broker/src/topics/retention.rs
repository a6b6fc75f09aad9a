//! How much of a topic is kept: by age, by number and by bytes, whichever is
//! reached first. What is stored is what an operator said about one topic; all
//! others are kept as is usual. Enforced by whoever keeps house.

use super::{name, record};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{
    RETENTION_PAGE, RETENTION_PAGES_MAX, RETENTIONS_PER_ORG_MAX, TOPIC_AGE_USUAL, TOPIC_BYTES_USUAL,
    TOPIC_EVENTS_USUAL, TOPICS_LOOKED_AT, TOPICS_PAGE,
};
use crate::orgs::OrgScope;
use std::collections::HashMap;
use std::time::Duration;
use turnwise_core::{
    Kind, Name, NameError, Offset, Position, Read, ReadFrom, StoreError, Timestamp, TopicInfo, TopicName,
    TopicPattern,
};

/// Before the topic's own name in the name of what is said about it.
const PREFIX: &str = "retention:";

/// How much of a topic is kept. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this go.
    pub age_max: Option<Duration>,
    /// With more than so many events the oldest go.
    pub events_max: Option<u64>,
    /// With more than so many bytes the oldest go.
    pub bytes_max: Option<u64>,
}

impl Default for Retention {
    /// As is usual.
    fn default() -> Retention {
        Retention {
            age_max: Some(TOPIC_AGE_USUAL),
            events_max: Some(TOPIC_EVENTS_USUAL),
            bytes_max: Some(TOPIC_BYTES_USUAL),
        }
    }
}

/// What is remembered between two rounds.
#[derive(Default)]
pub(crate) struct Keeper {
    /// What was read of them, and at which offset.
    known: HashMap<TopicName, (Offset, Retention)>,
    /// The last topic that was looked at, if there were more.
    last: Option<TopicName>,
}

impl Broker {
    /// Says how much of a topic is kept, also of one that nobody has published to. False, and nothing is stored,
    /// when it was said of as many topics of the org as may be.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn retain_topic(
        &self,
        org: &str,
        topic: &str,
        retention: Retention,
    ) -> Result<bool, BrokerError> {
        let inner = &self.0;
        let orgs_max = inner.config.orgs_max;
        if !inner.orgs.remember(inner.store.as_ref(), org, orgs_max).await? {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let said = said_of(org, topic)?;
        let is_new = self.topic_end(&said).await?.offset == Offset(0);
        if is_new && self.retentions_said(org).await?.len() >= RETENTIONS_PER_ORG_MAX {
            return Ok(false);
        }
        for answer in inner.store.append(vec![record::retention(&said, retention)]).await? {
            let position = answer?;
            inner.store.trim(&said, position.offset).await?;
        }
        Ok(true)
    }

    /// How much of a topic is kept.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn topic_retention(&self, org: &str, topic: &str) -> Result<Retention, BrokerError> {
        Ok(self.retention_in(&said_of(org, topic)?).await?)
    }

    async fn topic_end(&self, topic: &TopicName) -> Result<Position, StoreError> {
        Ok(match self.0.store.read(topic, ReadFrom::Latest, 1).await? {
            Read::Events { next, .. } | Read::Gap { resume: next } => next,
        })
    }

    /// The last that was said.
    async fn retention_in(&self, said: &TopicName) -> Result<Retention, StoreError> {
        // All but the last is trimmed; a crash in between leaves two.
        let page = self.0.store.read(said, ReadFrom::Earliest, TOPICS_PAGE).await?;
        let Read::Events { events, .. } = page else { return Ok(Retention::default()) };
        let last = events.iter().rev().find_map(|event| record::read_retention(&event.data));
        Ok(last.unwrap_or_default())
    }

    /// The topics of the org's that hold what was said of others.
    async fn retentions_said(&self, org: &str) -> Result<Vec<TopicInfo>, StoreError> {
        let pattern = TopicPattern(Name::new(org, Kind::Sys, "retention:>")?);
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.0.store.topics(&pattern, after, TOPICS_PAGE).await?;
            let is_last = page.len() < TOPICS_PAGE as usize;
            after = page.last().map(|last| last.topic.clone());
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Trims what is more than is kept, of some topics: the next round goes on behind them.
    pub(crate) async fn keep_topics(&self, keeper: &mut Keeper) -> Result<(), StoreError> {
        let mut left = TOPICS_LOOKED_AT;
        let from = keeper.last.take();
        let begins_at = from.as_ref().map(|last| last.org().to_owned()).unwrap_or_default();
        for org in self.0.orgs.all(&OrgScope::All).into_iter().filter(|org| *org >= begins_at) {
            let own = self.learn(keeper, &org).await?;
            let pattern = TopicPattern(name(&org, ">")?);
            let mut after = from.clone().filter(|last| last.org() == org);
            loop {
                let page = self.0.store.topics(&pattern, after, TOPICS_PAGE.min(left)).await?;
                for info in &page {
                    let retention = own.get(info.topic.name()).copied().unwrap_or_default();
                    self.keep(info, retention).await?;
                }
                let looked_at = u32::try_from(page.len()).unwrap_or(left);
                let is_last = looked_at < TOPICS_PAGE.min(left);
                after = page.last().map(|last| last.topic.clone());
                left = left.saturating_sub(looked_at);
                if left == 0 {
                    keeper.last = after;
                    return Ok(());
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What was said of the org's topics, by their names; only what is new is read.
    async fn learn(&self, keeper: &mut Keeper, org: &str) -> Result<HashMap<String, Retention>, StoreError> {
        let mut own = HashMap::new();
        for info in self.retentions_said(org).await? {
            let known = keeper.known.get(&info.topic).filter(|(at, _)| *at == info.last);
            let retention = match known {
                Some((_, retention)) => *retention,
                None => {
                    let retention = self.retention_in(&info.topic).await?;
                    keeper.known.insert(info.topic.clone(), (info.last, retention));
                    retention
                }
            };
            let of = info.topic.name().strip_prefix(PREFIX).unwrap_or_default();
            own.insert(of.to_owned(), retention);
        }
        Ok(own)
    }

    async fn keep(&self, info: &TopicInfo, retention: Retention) -> Result<(), StoreError> {
        let (first, last) = (info.first.0, info.last.0);
        let held = (last + 1).saturating_sub(first);
        if held == 0 {
            return Ok(());
        }
        if let Some(events_max) = retention.events_max.filter(|most| *most < held) {
            // Bytes and ages are looked at when the number is right.
            return self.0.store.trim(&info.topic, Offset(last + 1 - events_max)).await;
        }
        let now = self.0.now();
        let is_old = |at: Timestamp| retention.age_max.is_some_and(|most| at.after(most) <= now);
        let mut bytes = info.bytes;
        let (mut from, mut before, mut limit) = (ReadFrom::Earliest, first, 1);
        for _page in 0..RETENTION_PAGES_MAX {
            let Read::Events { events, next } = self.0.store.read(&info.topic, from, limit).await? else {
                break;
            };
            let mut is_kept = events.is_empty();
            for event in events {
                let is_much = retention.bytes_max.is_some_and(|most| bytes > most);
                if !is_old(event.appended_at) && !is_much {
                    is_kept = true;
                    break;
                }
                bytes = bytes.saturating_sub(event.bytes() as u64);
                before = event.offset.0 + 1;
            }
            if is_kept {
                break;
            }
            (from, limit) = (ReadFrom::After(next), RETENTION_PAGE);
        }
        if before > first {
            self.0.store.trim(&info.topic, Offset(before)).await?;
        }
        Ok(())
    }
}

/// Where it is kept what was said of a topic.
fn said_of(org: &str, topic: &str) -> Result<TopicName, NameError> {
    Name::new(org, Kind::Sys, &format!("{PREFIX}{topic}"))
}

//! What the store does not drop by itself: streams that others were forked
//! from, and those that took the place of a deleted one.

use super::fork::Fate;
use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::limits::{STREAM_KEPT_FOR_EVER, TOPICS_LOOKED_AT, TOPICS_PAGE};
use crate::orgs::OrgScope;
use turnwise_core::{Kind, Name, StoreError, TopicName, TopicPattern};

/// What is remembered between two rounds.
#[derive(Default)]
pub(crate) struct StreamKeeper {
    /// The last stream that was looked at, if there were more.
    last: Option<TopicName>,
}

impl Broker {
    /// Frees what is over and needed by nobody, of some streams: the next round goes on behind them.
    pub(crate) async fn keep_streams(&self, keeper: &mut StreamKeeper) -> Result<(), StoreError> {
        let mut left = TOPICS_LOOKED_AT;
        let from = keeper.last.take();
        let begins_at = from.as_ref().map(|last| last.org().to_owned()).unwrap_or_default();
        for org in self.0.orgs.all(&OrgScope::All).into_iter().filter(|org| *org >= begins_at) {
            let pattern = TopicPattern(Name::new(&org, Kind::Stream, ">")?);
            let mut after = from.clone().filter(|last| last.org() == org);
            loop {
                let limit = TOPICS_PAGE.min(left);
                let page = self.0.store.topics(&pattern, after, limit).await?;
                let ours = |until| until == Some(STREAM_KEPT_FOR_EVER);
                for info in page.iter().filter(|info| ours(info.keep_until) && info.first < info.last) {
                    match self.0.free(&info.topic).await {
                        Ok(()) => {}
                        Err(BrokerError::Store(error)) => return Err(error),
                        Err(error) => tracing::warn!(%error, "a stream could not be looked at"),
                    }
                }
                let looked_at = u32::try_from(page.len()).unwrap_or(left);
                after = page.last().map(|last| last.topic.clone());
                left = left.saturating_sub(looked_at);
                if left == 0 {
                    keeper.last = after;
                    return Ok(());
                }
                if looked_at < limit {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    async fn free(&self, topic: &TopicName) -> Result<(), BrokerError> {
        let (seen, fate) = self.fate(topic).await?;
        if matches!(fate, Fate::Absent) && seen.life().is_some() {
            self.let_go(topic.clone()).await?;
        }
        Ok(())
    }
}

//! Whether a reader has really missed something. The store remembers for a
//! whole organisation how far its topics were trimmed; a reader of a few of
//! them is not to be told of a gap in others.

use super::place::SubscriptionPlace;
use crate::broker::Broker;
use crate::limits::{GAP_PAGES_MAX, GAP_TOPICS_MAX};
use turnwise_core::{StoreError, TopicInfo, TopicPattern};

impl Broker {
    /// Whether topics that match may have lost events behind this place. True when that cannot be told, and when
    /// there are too many to ask.
    pub(super) async fn may_have_missed(
        &self,
        patterns: &[TopicPattern],
        place: SubscriptionPlace,
    ) -> Result<bool, StoreError> {
        for pattern in patterns {
            let found = self.0.store.topics(pattern, None, GAP_TOPICS_MAX).await?;
            if found.len() >= GAP_TOPICS_MAX as usize {
                return Ok(true);
            }
            for info in &found {
                if self.may_have_lost(info, place).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The same of one topic.
    async fn may_have_lost(&self, info: &TopicInfo, place: SubscriptionPlace) -> Result<bool, StoreError> {
        let first = info.first;
        if first.0 <= 1 || place.has_seen_up_to(info.topic.name(), first) {
            return Ok(false);
        }
        if first > info.last {
            // None is left that could tell where the others were.
            return Ok(true);
        }
        let pattern = [TopicPattern(info.topic.clone())];
        let end = self.0.store.end().await?;
        let mut after = place.read_after();
        for _page in 0..GAP_PAGES_MAX {
            let page = self.0.store.read_many(&pattern, after, 1).await?;
            if let Some((_, event)) = page.events.first() {
                // If the oldest that is kept lies before the place, so does what is gone before that one.
                return Ok(event.offset <= first);
            }
            if page.next == after || page.next >= end {
                // All that is kept lies before the place.
                return Ok(false);
            }
            after = page.next;
        }
        Ok(true)
    }
}

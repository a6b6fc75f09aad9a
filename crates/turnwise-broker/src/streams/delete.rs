//! Deleting a stream, and what was kept only for it.

use super::fork::Fate;
use super::life::Life;
use super::log::Decision;
use super::record::Step;
use super::{StreamRefusal, topic};
use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::limits::STREAM_FORKS_LOOKED_AT;
use bytes::Bytes;
use turnwise_core::{Offset, TopicName};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamDeleted {
    /// Nobody reads it any more; its forks read on.
    Done,
    /// There was none.
    Refused(StreamRefusal),
}

impl Broker {
    /// Deletes a stream. What was forked from it stays as it is.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn delete_stream(&self, org: &str, name: &str) -> Result<StreamDeleted, BrokerError> {
        let inner = &self.0;
        let topic = topic(org, name)?;
        let life = match inner.fate(&topic).await?.1 {
            Fate::Alive(life) => life,
            Fate::Gone => return Ok(StreamDeleted::Refused(StreamRefusal::Gone)),
            Fate::Absent => return Ok(StreamDeleted::Refused(StreamRefusal::NotFound)),
        };
        let deleted = inner.transact(&topic, |told, slot, _| {
            let Some(found) = told.life.as_ref().filter(|found| found.id == life.id && !found.deleted) else {
                return Decision::Answer(None);
            };
            if found.forks.is_empty() {
                return Decision::Take(Step::End, Bytes::new(), None, Some((slot, found.clone())));
            }
            let mut after = Box::new(found.clone());
            after.deleted = true;
            Decision::Take(Step::Whole(after.clone()), Bytes::new(), Some(after), Some((slot, found.clone())))
        });
        let Some((slot, life)) = deleted.await? else {
            return Ok(StreamDeleted::Refused(StreamRefusal::NotFound));
        };
        match &life.forked_from {
            _ if !life.forks.is_empty() => inner.let_go(topic).await?,
            from => {
                inner.store.trim(&topic, Offset(slot)).await?;
                if let Some(from) = from {
                    inner.let_go(super::topic(org, &from.name)?).await?;
                }
            }
        }
        Ok(StreamDeleted::Done)
    }
}

impl Inner {
    /// Ends a stream that nobody needs any more, and then what was kept only for it.
    pub(super) async fn let_go(&self, topic: TopicName) -> Result<(), BrokerError> {
        let mut topic = topic;
        for _source in 0..STREAM_FORKS_LOOKED_AT {
            let (seen, fate) = self.fate(&topic).await?;
            let Some(life) = seen.life().filter(|_| matches!(fate, Fate::Absent)) else { return Ok(()) };
            self.end(&topic, life).await?;
            let Some(from) = &life.forked_from else { return Ok(()) };
            topic = super::topic(topic.org(), &from.name)?;
        }
        Ok(())
    }

    async fn end(&self, topic: &TopicName, life: &Life) -> Result<(), BrokerError> {
        let ended =
            self.transact(topic, |told, slot, _| match told.life.as_ref().filter(|found| **found == *life) {
                Some(_) => Decision::Take(Step::End, Bytes::new(), None, Some(slot)),
                None => Decision::Answer(None),
            });
        if let Some(slot) = ended.await? {
            self.store.trim(topic, Offset(slot)).await?;
        }
        Ok(())
    }
}

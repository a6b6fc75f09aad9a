//! Looking at queues and their messages. Asking has no side effect.

use super::{WorkError, WorkPolicy, WorkQueue, history};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::QUEUES_PAGE;
use crate::submit::one;
use std::collections::BTreeSet;
use std::time::Duration;
use turnwise_core::{Depth, Kind, MessageId, MessageInfo, Name, QueueName, Stage, Timestamp};

/// Messages a second, over the last seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkRates {
    /// Stored.
    pub enqueued: f64,
    /// Acknowledged.
    pub acked: f64,
}

/// A queue as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkQueueView {
    /// Which.
    pub queue: WorkQueue,
    /// What it holds, and has held.
    pub depth: Depth,
    /// Age of the oldest message that waits for its turn.
    pub oldest_waiting: Option<Duration>,
    /// None if this node has not watched for long enough.
    pub rates: Option<WorkRates>,
    /// Since when nothing is handed out.
    pub paused_since: Option<Timestamp>,
    /// What holds for its messages.
    pub policy: WorkPolicy,
}

/// A message as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkMessageView {
    /// What the store knows.
    pub info: MessageInfo,
    /// What a worker said first.
    pub first_error: Option<WorkError>,
    /// What a worker said last.
    pub last_error: Option<WorkError>,
}

impl Broker {
    /// A queue as it is now; one that nobody has used is empty.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn work_queue(&self, queue: &WorkQueue) -> Result<WorkQueueView, BrokerError> {
        self.0.work.records.catch_up(self.0.store.as_ref()).await?;
        self.view_work(queue.clone()).await
    }

    async fn view_work(&self, queue: WorkQueue) -> Result<WorkQueueView, BrokerError> {
        let inner = &self.0;
        let depth = inner.store.depth(&queue.0).await?;
        let now = inner.now();
        let rates = inner.work.levels.rates(&queue, now, &depth);
        Ok(WorkQueueView {
            oldest_waiting: depth.oldest_waiting.map(|at| now.since(at)),
            rates: rates.map(|(enqueued, acked)| WorkRates { enqueued, acked }),
            paused_since: inner.work.records.paused_since(&queue),
            policy: inner.work.records.policy(&queue),
            queue,
            depth,
        })
    }

    /// Queues of an organisation that hold messages or have something set, by name, behind `after`; and whether
    /// there are more. No name: none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn work_queues(
        &self,
        org: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<WorkQueueView>, bool), BrokerError> {
        let inner = &self.0;
        inner.work.records.catch_up(inner.store.as_ref()).await?;
        // No queue has an empty name, so it comes before all of them.
        let begin = Name::new(org, Kind::Public, after.unwrap_or_default())?;
        let mut names: BTreeSet<QueueName> =
            inner.work.records.set_queues(org, &begin, limit + 1).into_iter().collect();
        let page = u32::try_from(limit + 1).unwrap_or(QUEUES_PAGE).max(QUEUES_PAGE);
        let holding = inner.store.queues(Some(begin), page).await?;
        names.extend(holding.into_iter().filter(|it| it.org() == org && it.kind() == Kind::Public));
        let more = names.len() > limit;
        let mut views = Vec::new();
        for name in names.into_iter().take(limit) {
            views.push(self.view_work(WorkQueue(name)).await?);
        }
        Ok((views, more))
    }

    /// Messages of one stage by age, behind `after`; and whether there are more.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn work_messages(
        &self,
        queue: &WorkQueue,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<(Vec<MessageInfo>, bool), BrokerError> {
        let mut page = self.0.store.list(&queue.0, stage, after, limit.saturating_add(1)).await?;
        let more = page.len() > limit as usize;
        page.truncate(limit as usize);
        Ok((page, more))
    }

    /// One message; none if it is not there, or in another queue.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn work_message(
        &self,
        queue: &WorkQueue,
        id: MessageId,
    ) -> Result<Option<WorkMessageView>, BrokerError> {
        let Some(info) = one(self.0.store.get(&queue.0, vec![id]).await?)? else { return Ok(None) };
        let (first_error, last_error) = history::errors(self.0.store.as_ref(), queue, id).await?;
        Ok(Some(WorkMessageView { info, first_error, last_error }))
    }

    /// What is to hold for a queue's messages from now on; none for what holds for all that have none of their own.
    /// Messages that are stored keep the attempts and the time they were given.
    ///
    /// # Errors
    /// When the store does not answer; `WorkFull` when too many queues have something set.
    pub async fn set_work_policy(
        &self,
        queue: &WorkQueue,
        policy: Option<WorkPolicy>,
    ) -> Result<(), BrokerError> {
        let inner = &self.0;
        inner.work.records.set_policy(inner.store.as_ref(), inner.now(), queue, policy).await
    }

    /// Pauses a queue, or lets it go on. Leases that are out stay as they are. On this node at once, on others
    /// within a poll interval.
    ///
    /// # Errors
    /// When the store does not answer; `WorkFull` when too many queues have something set.
    pub async fn pause_work(&self, queue: &WorkQueue, paused: bool) -> Result<(), BrokerError> {
        let inner = &self.0;
        let changed = inner.work.records.set_paused(inner.store.as_ref(), inner.now(), queue, paused).await?;
        if changed && !paused {
            inner.work.bells.ring(&queue.0);
        }
        Ok(())
    }
}

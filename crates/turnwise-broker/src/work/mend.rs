//! What operators do with messages: put dead letters back, remove one, empty a
//! queue. Long work goes page by page and ends after a bounded number of
//! messages; whoever asks is told if there is more.

use super::WorkQueue;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{
    QUEUE_LOOKED_AT_MAX, QUEUE_PAGE_BYTES, QUEUE_PAGE_MAX, QUEUE_PAGE_MIN, REDRIVE_PACED_MAX,
};
use crate::submit::one;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use turnwise_core::{MessageId, MessageInfo, QueueName, Removed, Stage, StoreError, Timestamp};

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkFilter {
    /// Their reason holds this text; letters are told apart.
    pub reason: Option<String>,
    /// Stored at this time or later.
    pub from: Option<Timestamp>,
    /// Stored before this time.
    pub before: Option<Timestamp>,
}

impl WorkFilter {
    fn takes(&self, info: &MessageInfo) -> bool {
        let says =
            |text: &String| info.reason.as_deref().is_some_and(|reason| reason.contains(text.as_str()));
        self.reason.as_ref().is_none_or(says)
            && self.from.is_none_or(|from| info.enqueued_at >= from)
            && self.before.is_none_or(|before| info.enqueued_at < before)
    }
}

/// Which dead letters are to be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkRedrive {
    /// These; others, and those that are not dead, are passed over.
    These(Vec<MessageId>),
    /// All that pass.
    Filtered(WorkFilter),
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkMended {
    /// To so many messages.
    pub count: u64,
    /// There is more: ask again.
    pub more: bool,
}

/// So many messages a second, until something ends it.
struct Pacing<E> {
    rate: f64,
    /// Put back, and not waited for yet.
    ahead: u64,
    ended: Pin<Box<E>>,
    until: Instant,
}

impl<E: Future<Output = ()>> Pacing<E> {
    /// What is due in a tenth of a second.
    fn at_once(&self) -> usize {
        // At least 1, and a rate has a bound.
        (self.rate / 10.0).clamp(1.0, f64::from(QUEUE_PAGE_MAX)) as usize
    }

    /// Waits for as long as the last ones take; false if it is over.
    async fn pause(&mut self) -> bool {
        let seconds = self.ahead as f64 / self.rate;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(REDRIVE_PACED_MAX);
        let next = (Instant::now() + time).min(self.until);
        tokio::select! {
            biased;
            () = &mut self.ended => false,
            () = sleep_until(next) => next < self.until,
        }
    }
}

/// Pages of one stage, the oldest message first.
struct Pages<'b> {
    broker: &'b Broker,
    queue: &'b QueueName,
    stage: Stage,
    after: Option<MessageId>,
    size: u32,
    looked_at: usize,
}

impl<'b> Pages<'b> {
    fn of(broker: &'b Broker, queue: &'b QueueName, stage: Stage) -> Pages<'b> {
        Pages { broker, queue, stage, after: None, size: QUEUE_PAGE_MIN, looked_at: 0 }
    }

    /// The next page; empty at the end.
    async fn next(&mut self) -> Result<Vec<MessageInfo>, StoreError> {
        let page = self.broker.0.store.list(self.queue, self.stage, self.after, self.size).await?;
        self.after = page.last().map(|info| info.id).or(self.after);
        self.looked_at += page.len();
        let bytes: usize = page.iter().map(|info| info.payload.len()).sum();
        self.size =
            if bytes > QUEUE_PAGE_BYTES { QUEUE_PAGE_MIN } else { (self.size * 2).min(QUEUE_PAGE_MAX) };
        Ok(page)
    }

    fn is_enough(&self) -> bool {
        self.looked_at >= QUEUE_LOOKED_AT_MAX
    }
}

impl Broker {
    /// Puts dead letters back to the tail of their key with no attempts counted. With `dry_run` only counts. With a
    /// rate so many a second, for as long as `ended` waits and [`REDRIVE_PACED_MAX`] at most: what is left then is
    /// `more`, and the same call again goes on with it.
    ///
    /// # Errors
    /// When the store does not answer: some may have been put back.
    pub async fn redrive_work(
        &self,
        queue: &WorkQueue,
        which: WorkRedrive,
        dry_run: bool,
        rate: Option<f64>,
        ended: impl Future<Output = ()> + Send,
    ) -> Result<WorkMended, BrokerError> {
        let mut pacing = rate.filter(|_| !dry_run).map(|rate| Pacing {
            rate,
            ahead: 0,
            ended: Box::pin(ended),
            until: Instant::now() + REDRIVE_PACED_MAX,
        });
        let filter = match which {
            WorkRedrive::These(mut ids) => {
                ids.sort();
                ids.dedup();
                return match &mut pacing {
                    Some(pacing) => Ok(self.put_back_paced(&queue.0, ids, pacing).await?),
                    None => {
                        let count = self.redrive_these(&queue.0, ids, dry_run).await?;
                        Ok(WorkMended { count, more: false })
                    }
                };
            }
            WorkRedrive::Filtered(filter) => filter,
        };
        let mut done = WorkMended::default();
        // By age: what dies again meanwhile keeps its place, and is not chased.
        let mut pages = Pages::of(self, &queue.0, Stage::Dead);
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(done);
            }
            let ids: Vec<MessageId> =
                page.iter().filter(|info| filter.takes(info)).map(|info| info.id).collect();
            match &mut pacing {
                Some(pacing) => {
                    let some = self.put_back_paced(&queue.0, ids, pacing).await?;
                    done.count += some.count;
                    if some.more {
                        return Ok(WorkMended { more: true, ..done });
                    }
                }
                None if dry_run => done.count += ids.len() as u64,
                None => done.count += self.put_back(&queue.0, ids).await?,
            }
            if pages.is_enough() {
                done.more = true;
                return Ok(done);
            }
        }
    }

    async fn redrive_these(
        &self,
        queue: &QueueName,
        ids: Vec<MessageId>,
        dry_run: bool,
    ) -> Result<u64, BrokerError> {
        if !dry_run {
            return Ok(self.put_back(queue, ids).await?);
        }
        let mut count = 0;
        for few in ids.chunks(QUEUE_PAGE_MIN as usize) {
            let found = self.0.store.get(queue, few.to_vec()).await?;
            count += found.iter().flatten().filter(|info| info.stage == Stage::Dead).count() as u64;
        }
        Ok(count)
    }

    /// A few at a time, and between them the time that they take at this rate.
    async fn put_back_paced<E: Future<Output = ()>>(
        &self,
        queue: &QueueName,
        ids: Vec<MessageId>,
        pacing: &mut Pacing<E>,
    ) -> Result<WorkMended, StoreError> {
        let mut done = WorkMended::default();
        for few in ids.chunks(pacing.at_once()) {
            if !pacing.pause().await {
                done.more = true;
                break;
            }
            pacing.ahead = self.put_back(queue, few.to_vec()).await?;
            done.count += pacing.ahead;
        }
        Ok(done)
    }

    async fn put_back(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        Ok(u64::from(self.0.store.redrive(queue, ids).await?))
    }

    /// Removes a message that is not handed out just now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remove_work(&self, queue: &WorkQueue, id: MessageId) -> Result<Removed, BrokerError> {
        Ok(one(self.0.store.remove(&queue.0, vec![(id, Vec::new())]).await?)??)
    }

    /// Removes all messages of these stages. What is handed out meanwhile stays.
    ///
    /// # Errors
    /// When the store does not answer: some may have been removed.
    pub async fn purge_work(
        &self,
        queue: &WorkQueue,
        stages: &[Stage],
        dry_run: bool,
    ) -> Result<WorkMended, BrokerError> {
        let mut done = WorkMended::default();
        if dry_run {
            let depth = self.0.store.depth(&queue.0).await?;
            done.count = stages.iter().map(|stage| held(&depth, *stage)).sum();
            return Ok(done);
        }
        for stage in stages {
            let mut pages = Pages::of(self, &queue.0, *stage);
            loop {
                let page = pages.next().await?;
                if page.is_empty() {
                    break;
                }
                done.count += self.remove_all(&queue.0, page.iter().map(|info| info.id)).await?;
                if pages.is_enough() {
                    done.more = true;
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    async fn remove_all(
        &self,
        queue: &QueueName,
        ids: impl Iterator<Item = MessageId>,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for answer in self.0.store.remove(queue, ids.map(|id| (id, Vec::new())).collect()).await? {
            count += u64::from(answer? == Removed::Done);
        }
        Ok(count)
    }

    /// Drops dead letters whose time is over, of the queues that held some when they were last counted.
    pub(crate) async fn forget_dead_work(&self, now: Timestamp) -> Result<(), StoreError> {
        for queue in self.0.work.levels.with_dead() {
            let kept = self.0.work.records.policy_of(&queue).dead_for();
            let mut pages = Pages::of(self, &queue, Stage::Dead);
            loop {
                let page = pages.next().await?;
                let old = page.iter().take_while(|info| now.since(info.enqueued_at) > kept);
                let old: Vec<MessageId> = old.map(|info| info.id).collect();
                // They come by age: behind a young one there are only younger ones.
                let is_last = old.len() < page.len() || page.is_empty();
                if !old.is_empty() {
                    self.remove_all(&queue, old.into_iter()).await?;
                }
                if is_last || pages.is_enough() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn held(depth: &turnwise_core::Depth, stage: Stage) -> u64 {
    match stage {
        Stage::Scheduled => depth.scheduled,
        Stage::Ready => depth.ready,
        Stage::Leased => depth.leased,
        Stage::Dead => depth.dead,
    }
}

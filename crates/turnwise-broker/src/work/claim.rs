//! Handing messages out to whoever asks, and waiting for them (clauses Q3, Q9,
//! Q16).

use super::pace::Room;
use super::{WorkPolicy, WorkQueue, WorkReceipt};
use crate::broker::Broker;
use crate::error::BrokerError;
use bytes::Bytes;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use turnwise_core::{Claim, Delivery, Headers, Outcome, Settlement, Timestamp};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkClaim {
    /// From where.
    pub queue: WorkQueue,
    /// At most this many; at least 1.
    pub limit: u32,
    /// For how long.
    pub lease: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// A message in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkDelivery {
    /// Proof of the lease.
    pub receipt: WorkReceipt,
    /// Its ordering key.
    pub key: Option<Bytes>,
    /// 0 to 9.
    pub priority: u8,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// Any JSON.
    pub payload: Bytes,
    /// 1 for the first lease.
    pub attempt: u32,
    /// When it was stored.
    pub enqueued_at: Timestamp,
    /// The end of the lease.
    pub lease_expires_at: Timestamp,
}

impl WorkDelivery {
    fn of(queue: &WorkQueue, delivery: Delivery) -> WorkDelivery {
        WorkDelivery {
            receipt: WorkReceipt::new(queue, &delivery.receipt, delivery.attempt),
            key: delivery.key.map(|key| key.0),
            priority: delivery.priority.0,
            headers: delivery.headers,
            payload: delivery.payload,
            attempt: delivery.attempt,
            enqueued_at: delivery.enqueued_at,
            lease_expires_at: delivery.expires_at,
        }
    }
}

impl Broker {
    /// Leases up to `limit` messages; waits for the first of them, unless `ended` comes before. Nothing is handed out
    /// while the queue is paused. Do not drop the future halfway: what it has leased by then would rest until its
    /// lease is over. Leases are on disk when this returns.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn claim_work(
        &self,
        claim: &WorkClaim,
        ended: impl Future<Output = ()> + Send,
    ) -> Result<Vec<WorkDelivery>, BrokerError> {
        let inner = &self.0;
        let until = Instant::now() + claim.wait;
        let seat = inner.work.bells.seat(&claim.queue.0);
        let mut ended = pin!(ended);
        loop {
            let mut next = None;
            if inner.work.records.paused_since(&claim.queue).is_none() {
                seat.asked();
                let policy = inner.work.records.policy(&claim.queue);
                match self.room(&claim.queue, &policy, claim.limit).await? {
                    Room::Full => {}
                    Room::In(time) => next = Some(Instant::now() + time),
                    Room::Some(limit) => {
                        let found = self.lease(claim, &policy, limit).await?;
                        if !found.is_empty() {
                            if found.len() >= limit as usize {
                                seat.wake_next();
                            }
                            inner.work.counts.claimed.add(found.len() as u64);
                            return Ok(found);
                        }
                    }
                }
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            tokio::select! {
                biased;
                () = &mut ended => return Ok(Vec::new()),
                () = sleep_until(until) => return Ok(Vec::new()),
                () = sleep_until(next.unwrap_or(until)), if next.is_some() => {}
                () = seat.woken(inner.config.poll_interval) => {}
            }
        }
    }

    async fn lease(
        &self,
        claim: &WorkClaim,
        policy: &WorkPolicy,
        limit: u32,
    ) -> Result<Vec<WorkDelivery>, BrokerError> {
        let ask = Claim { queue: claim.queue.0.clone(), limit, lease: claim.lease, durable: true };
        let found = self.0.store.claim(ask).await?;
        let found = found.into_iter().map(|it| WorkDelivery::of(&claim.queue, it)).collect();
        self.within(&claim.queue, policy, limit, found).await
    }

    /// Gives back what was leased for somebody who has gone, as if it had never been handed out.
    pub async fn return_work(&self, queue: &WorkQueue, receipts: &[WorkReceipt]) {
        let release = |receipt| Settlement { receipt, outcome: Outcome::Release, effects: Vec::new() };
        let leases = receipts.iter().filter_map(|receipt| receipt.for_queue(queue));
        let batch: Vec<Settlement> = leases.map(release).collect();
        let count = batch.len();
        match self.0.store.settle(batch).await {
            Ok(_) => self.0.work.counts.returned.add(count as u64),
            Err(error) => tracing::debug!(%error, count, "their leases will run out instead"),
        }
    }
}

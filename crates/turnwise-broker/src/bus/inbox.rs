//! An inbox without a connection: whoever asks gets messages under a lease of
//! its own, and settles them with the receipts.

use super::desk::settlement;
use super::receipt::{self, Told};
use super::record::{self, Envelope, Happened};
use super::room::append_all;
use super::view::{BusDelivery, BusOutcome, BusSettled};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::work::{WorkQueue, WorkReceipt};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use turnwise_core::{Claim, Delivery, Outcome, Settled, Settlement};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusClaim {
    /// Whose inbox; the caller has checked that it may be this agent.
    pub agent: String,
    /// At most this many; at least 1.
    pub limit: u32,
    /// For how long.
    pub lease: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

impl Broker {
    /// Leases messages of an inbox, highest priority first; waits for the first of them, unless `ended` comes before.
    /// Do not drop the future halfway: what it has leased by then would rest until its lease is over. Leases are on
    /// disk when this returns.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn claim_inbox(
        &self,
        org: &str,
        claim: &BusClaim,
        ended: impl Future<Output = ()> + Send,
    ) -> Result<Vec<BusDelivery>, BrokerError> {
        let inner = &self.0;
        let inbox = WorkQueue::of(record::inbox(org, &claim.agent)?);
        let until = Instant::now() + claim.wait;
        let seat = inner.work.bells.seat(inbox.queue());
        let mut ended = pin!(ended);
        loop {
            seat.asked();
            let queue = inbox.queue().clone();
            let ask = Claim { queue, limit: claim.limit, lease: claim.lease, durable: true };
            let found = inner.store.claim(ask).await?;
            if !found.is_empty() {
                if found.len() >= claim.limit as usize {
                    seat.wake_next();
                }
                return self.found(org, &inbox, found).await;
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            tokio::select! {
                biased;
                () = &mut ended => return Ok(Vec::new()),
                () = sleep_until(until) => return Ok(Vec::new()),
                () = seat.woken(inner.config.poll_interval) => {}
            }
        }
    }

    async fn found(
        &self,
        org: &str,
        inbox: &WorkQueue,
        found: Vec<Delivery>,
    ) -> Result<Vec<BusDelivery>, BrokerError> {
        let room = self.bus_room_of(org).await;
        let (mut deliveries, mut news) = (Vec::with_capacity(found.len()), Vec::new());
        for delivery in found {
            let Some(envelope) = Envelope::read(&delivery.headers) else { continue };
            let message = Arc::new(envelope.message(delivery.payload));
            if let Ok(room) = &room {
                let told = Told::of(&message, inbox.name());
                news.extend(receipt::events(self, room, told, Happened::Delivered)?);
            }
            self.0.bus.counts.delivered.one();
            deliveries.push(BusDelivery {
                message,
                receipt: WorkReceipt::new(inbox, &delivery.receipt, delivery.attempt),
                attempt: delivery.attempt,
                lease_expires_at: delivery.expires_at,
            });
        }
        if let Err(error) = append_all(self, news).await {
            tracing::debug!(%error, "that messages were delivered is not noted");
        }
        Ok(deliveries)
    }

    /// Ends leases of an inbox. Answer i is about item i.
    ///
    /// # Errors
    /// When the store does not answer; a repeat is safe.
    pub async fn settle_inbox(
        &self,
        org: &str,
        agent: &str,
        batch: Vec<(WorkReceipt, BusOutcome)>,
    ) -> Result<Vec<BusSettled>, BrokerError> {
        let store = &self.0.store;
        let inbox = WorkQueue::of(record::inbox(org, agent)?);
        let mut answers = vec![BusSettled::LeaseLost; batch.len()];
        let ids = batch.iter().map(|(receipt, _)| receipt.message_id()).collect();
        let infos = store.get(inbox.queue(), ids).await?;
        if infos.iter().all(Option::is_none) {
            return Ok(answers);
        }
        let room = self.bus_room_of(org).await?;
        let (mut places, mut settlements) = (Vec::new(), Vec::new());
        for (place, ((receipt, outcome), info)) in batch.into_iter().zip(infos).enumerate() {
            let (Some(lease), Some(info)) = (receipt.for_queue(&inbox), info) else { continue };
            let Some(envelope) = Envelope::read(&info.headers) else { continue };
            let is_last = receipt.attempt() >= envelope.max_attempts;
            let told = Told {
                id: envelope.id,
                to: envelope.from,
                agent: agent.to_owned(),
                expires_at: envelope.expires_at.map(turnwise_core::Timestamp),
            };
            settlements.push(settlement(self, &room, lease, told, outcome, is_last)?);
            places.push(place);
        }
        if settlements.is_empty() {
            return Ok(answers);
        }
        for (place, settled) in places.into_iter().zip(store.settle(settlements).await?) {
            let answer = match settled {
                Ok(Settled::Done) => BusSettled::Done,
                Ok(Settled::LeaseLost) => BusSettled::LeaseLost,
                Err(error) => BusSettled::Failed(error),
            };
            self.0.bus.counts.settled(&answer);
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
        Ok(answers)
    }

    /// Gives back what was leased for somebody who has gone, as if it had never been handed out.
    pub async fn return_inbox(&self, org: &str, agent: &str, receipts: &[WorkReceipt]) {
        let Ok(inbox) = record::inbox(org, agent).map(WorkQueue::of) else { return };
        let release = |receipt| Settlement { receipt, outcome: Outcome::Release, effects: Vec::new() };
        let leases = receipts.iter().filter_map(|receipt| receipt.for_queue(&inbox));
        if let Err(error) = self.0.store.settle(leases.map(release).collect()).await {
            tracing::debug!(%error, "their leases will run out instead");
        }
    }
}

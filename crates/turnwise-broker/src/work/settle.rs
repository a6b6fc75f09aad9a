//! How leases end, or go on (clauses Q5 to Q8).

use super::{WorkQueue, WorkReceipt, history};
use crate::broker::Broker;
use crate::error::BrokerError;
use std::time::Duration;
use turnwise_core::{Extended, Outcome, Settled, Settlement, StoreError, Timestamp};

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkOutcome {
    /// Done: the message is gone.
    Ack,
    /// Again, from the same place; a dead letter once its attempts are used up.
    Retry {
        /// Not before; by the queue's policy if none.
        delay: Option<Duration>,
        /// Kept with the message.
        reason: Option<String>,
    },
    /// Not tried: back to its place at once, the attempt is given back.
    Release,
    /// Given up on: kept as a dead letter.
    Dead {
        /// Kept with the message.
        reason: Option<String>,
    },
}

/// The end of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkSettlement {
    /// Which lease.
    pub receipt: WorkReceipt,
    /// How it ends.
    pub outcome: WorkOutcome,
}

/// The answer to one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkSettled {
    /// It is stored.
    Done,
    /// The lease was over, or never was one of this queue; nothing changed.
    LeaseLost,
    /// The store could not, or may not have. A repeat as it is does no harm.
    Failed(StoreError),
}

/// The answer to one extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkExtended {
    /// The lease lives until then.
    Until(Timestamp),
    /// The lease was over, or never was one of this queue; nothing changed.
    LeaseLost,
    /// The store could not, or may not have.
    Failed(StoreError),
}

impl Broker {
    /// Ends leases. Answer i is about settlement i.
    ///
    /// # Errors
    /// When the store does not answer; after [`StoreError::Unknown`] some may be settled, and a repeat is safe.
    pub async fn settle_work(
        &self,
        queue: &WorkQueue,
        batch: Vec<WorkSettlement>,
    ) -> Result<Vec<WorkSettled>, BrokerError> {
        let mut answers = vec![WorkSettled::LeaseLost; batch.len()];
        let (mut places, mut settlements, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for (place, settlement) in batch.into_iter().enumerate() {
            let Some(receipt) = settlement.receipt.for_queue(queue) else { continue };
            places.push(place);
            words.push(word(&settlement.outcome));
            settlements.push(self.settlement(queue, receipt, settlement)?);
        }
        if !settlements.is_empty() {
            let settled = self.0.store.settle(settlements).await?;
            for ((place, word), settled) in places.into_iter().zip(words).zip(settled) {
                let answer = match settled {
                    Ok(Settled::Done) => {
                        self.0.work.counts.settled.one(word);
                        WorkSettled::Done
                    }
                    Ok(Settled::LeaseLost) => WorkSettled::LeaseLost,
                    Err(error) => WorkSettled::Failed(error),
                };
                if let Some(slot) = answers.get_mut(place) {
                    *slot = answer;
                }
            }
        }
        let is_any_done = answers.contains(&WorkSettled::Done);
        if is_any_done && self.0.work.records.policy(queue).concurrency.is_some() {
            // Somebody may wait for what is not in hand any more.
            self.0.work.bells.ring(&queue.0);
        }
        let lost = answers.iter().filter(|answer| **answer == WorkSettled::LeaseLost).count();
        self.0.work.counts.settled.add("lease_lost", lost as u64);
        Ok(answers)
    }

    /// For the store: with the delay of the policy, and a note of what went wrong.
    fn settlement(
        &self,
        queue: &WorkQueue,
        receipt: turnwise_core::Receipt,
        settlement: WorkSettlement,
    ) -> Result<Settlement, BrokerError> {
        let policy = self.0.work.records.policy(queue);
        let attempt = settlement.receipt.attempt();
        let said = match &settlement.outcome {
            WorkOutcome::Retry { reason, .. } | WorkOutcome::Dead { reason } => reason.clone(),
            WorkOutcome::Ack | WorkOutcome::Release => None,
        };
        let outcome = match settlement.outcome {
            WorkOutcome::Ack => Outcome::Ack,
            WorkOutcome::Release => Outcome::Release,
            WorkOutcome::Retry { delay, reason } => Outcome::Retry {
                delay: delay.unwrap_or_else(|| policy.delay(attempt, (self.0.nonce)())),
                reason: reason.unwrap_or_else(|| "no reason was given".to_owned()),
            },
            WorkOutcome::Dead { reason } => {
                Outcome::Dead { reason: reason.unwrap_or_else(|| "no reason was given".to_owned()) }
            }
        };
        let mut effects = Vec::new();
        if let Some(reason) = said {
            // As long as a dead letter is, and as long again from now.
            let keep_until = self.0.now().after(policy.dead_for());
            effects.push(history::failed(queue, receipt.id, attempt, &reason, keep_until)?);
        }
        Ok(Settlement { receipt, outcome, effects })
    }

    /// Lets leases live for `lease` from now. Answer i is about receipt i.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn extend_work(
        &self,
        queue: &WorkQueue,
        receipts: &[WorkReceipt],
        lease: Duration,
    ) -> Result<Vec<WorkExtended>, BrokerError> {
        let mut answers = vec![WorkExtended::LeaseLost; receipts.len()];
        let own = receipts.iter().enumerate().filter_map(|(at, it)| Some((at, it.for_queue(queue)?)));
        let (places, leases): (Vec<usize>, Vec<_>) = own.unzip();
        if leases.is_empty() {
            return Ok(answers);
        }
        for (place, extended) in places.into_iter().zip(self.0.store.extend(leases, lease).await?) {
            let answer = match extended {
                Ok(Extended::Until(until) | Extended::Stop(until)) => WorkExtended::Until(until),
                Ok(Extended::LeaseLost) => WorkExtended::LeaseLost,
                Err(error) => WorkExtended::Failed(error),
            };
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
        Ok(answers)
    }
}

fn word(outcome: &WorkOutcome) -> &'static str {
    match outcome {
        WorkOutcome::Ack => "ack",
        WorkOutcome::Retry { .. } => "retry",
        WorkOutcome::Release => "release",
        WorkOutcome::Dead { .. } => "dead",
    }
}

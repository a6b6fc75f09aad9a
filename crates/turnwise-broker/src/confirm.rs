//! Settling with a store that may not answer.

use crate::broker::Broker;
use crate::limits::{SETTLE_BACKOFF, SETTLE_TRIES_MAX};
use crate::submit::one;
use tokio::time::sleep;
use turnwise_core::{Settled, Settlement, StoreError};

/// What is known of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// It is stored.
    Done,
    /// It is not: the lease was over before.
    LeaseLost,
    /// The lease is over, perhaps by an earlier try that the store did not confirm.
    DoneOrLost,
}

impl Broker {
    /// Repeats a settlement until the store says what became of it.
    ///
    /// # Errors
    /// When it still does not say; the settlement may be stored.
    pub(crate) async fn settle_confirmed(&self, settlement: &Settlement) -> Result<Confirmed, StoreError> {
        let mut wait = SETTLE_BACKOFF;
        let mut unknown = false;
        let mut tries = 1;
        loop {
            let answer = self.0.store.settle(vec![settlement.clone()]).await;
            match answer.and_then(one).and_then(|answer| answer) {
                Ok(Settled::Done) => return Ok(Confirmed::Done),
                Ok(Settled::LeaseLost) if unknown => return Ok(Confirmed::DoneOrLost),
                Ok(Settled::LeaseLost) => return Ok(Confirmed::LeaseLost),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Unknown(_)))
                    if tries < SETTLE_TRIES_MAX =>
                {
                    unknown |= matches!(error, StoreError::Unknown(_));
                    let (id, kind) = (settlement.receipt.id, settlement.receipt.queue.kind());
                    tracing::warn!(%id, ?kind, %error, "the end of a lease is not stored yet; again");
                    sleep(wait).await;
                    wait *= 2;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

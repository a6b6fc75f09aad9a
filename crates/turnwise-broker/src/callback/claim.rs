//! Handing callbacks to dispatch, slots round robin over orgs (clauses C8, C10).

use super::callbacks_queue;
use super::record::{History, history_topic, read_message};
use super::settle::settlement;
use crate::broker::Broker;
use crate::claim::Leased;
use crate::error::BrokerError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{Delivery, LeaseToken, MessageId, Outcome, Receipt, Timestamp};

/// A callback handed out under a lease. Dropping it changes nothing in the
/// store: the lease runs out.
pub struct Callback {
    /// Its id: the same for every try.
    pub id: MessageId,
    /// Its org.
    pub org: String,
    /// The turn whose end it tells.
    pub turn: MessageId,
    /// Where to.
    pub url: String,
    /// Who submitted the turn.
    pub user: String,
    /// The client's own id of it.
    pub client_message_id: Option<String>,
    /// 1 for the first try.
    pub attempt: u32,
    /// When the turn ended.
    pub created_at: Timestamp,
    /// Its lease ends then, on the store's clock.
    pub lease_ends_at: Timestamp,
    pub(crate) receipt: Receipt,
    /// Found by its turn while this lives.
    pub(crate) _in_hand: InHand,
}

/// Callbacks that were handed out, by org and the nonce they share with their
/// turn. As many as dispatch holds; only for those who ask.
#[derive(Default)]
pub(crate) struct Hands(Mutex<HashMap<(String, u64), (MessageId, LeaseToken)>>);

impl Hands {
    /// The callback of a turn that is being tried.
    pub(super) fn find(&self, org: &str, nonce: u64) -> Option<MessageId> {
        self.0.lock().get(&(org.to_owned(), nonce)).map(|(id, _)| *id)
    }

    /// How many are being tried.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Counts as handed out until it is dropped, unless it was handed out again meanwhile.
pub(crate) struct InHand {
    hands: Arc<Hands>,
    key: (String, u64),
    token: LeaseToken,
}

impl InHand {
    fn new(hands: &Arc<Hands>, org: &str, receipt: &Receipt) -> InHand {
        let (key, token) = ((org.to_owned(), receipt.id.nonce()), receipt.token);
        hands.0.lock().insert(key.clone(), (receipt.id, token));
        InHand { hands: Arc::clone(hands), key, token }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut hands = self.hands.0.lock();
        if hands.get(&self.key).is_some_and(|(_, token)| *token == self.token) {
            hands.remove(&self.key);
        }
    }
}

/// URLs of callbacks hold secrets.
impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("id", &self.id)
            .field("turn", &self.turn)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Callback {
    /// What is left of its lease. After that another may try it.
    pub fn lease_left(&self, now: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.lease_ends_at.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

impl Broker {
    /// Leases up to `limit` callbacks, at most one per conversation and host.
    /// Never waits. Do not drop the future halfway: what is leased by then
    /// would rest until its lease is over.
    ///
    /// # Errors
    /// When the store does not answer and none was leased.
    pub async fn claim_callbacks(&self, limit: u32) -> Result<Vec<Callback>, BrokerError> {
        let inner = &self.0;
        let lease = inner.config.callback_lease;
        let leased = self.claim_shares(&inner.callback_ring, limit, lease, callbacks_queue).await?;
        let mut callbacks = Vec::new();
        for Leased { org, delivery, .. } in leased {
            callbacks.extend(self.take_on_callback(&org, delivery).await);
        }
        Ok(callbacks)
    }

    /// Waits until there may be a callback to claim: a hint, or a poll interval.
    pub async fn wake_callbacks(&self) {
        self.0.callback_ring.wake(self.0.config.poll_interval).await;
    }

    /// `None` when it could not be read and went back, or dead, instead.
    async fn take_on_callback(&self, org: &str, delivery: Delivery) -> Option<Callback> {
        let receipt = delivery.receipt.clone();
        let outcome = match self.prepare_callback(org, delivery).await {
            Ok(callback) => return Some(callback),
            Err(BrokerError::Store(turnwise_core::StoreError::Corrupt(reason))) => Outcome::Dead { reason },
            Err(_) => Outcome::Release,
        };
        let id = receipt.id;
        tracing::warn!(callback_id = %id, ?outcome, "a callback could not be prepared");
        if let Err(error) = self.0.store.settle(vec![settlement(receipt, outcome, Vec::new())]).await {
            tracing::warn!(callback_id = %id, %error, "its lease will run out instead");
        }
        None
    }

    async fn prepare_callback(&self, org: &str, delivery: Delivery) -> Result<Callback, BrokerError> {
        let (turn, record) = read_message(&delivery.headers, &delivery.payload)?;
        let id = delivery.receipt.id;
        // The first lease of all has nothing before it.
        let before = if delivery.attempt > 1 || delivery.enqueued_at <= self.0.started_at {
            History::read(self.0.store.as_ref(), &history_topic(org, id.nonce())?).await?.attempts
        } else {
            0
        };
        Ok(Callback {
            id,
            org: org.to_owned(),
            turn,
            url: record.url,
            user: record.user,
            client_message_id: record.client_message_id,
            attempt: before + 1,
            created_at: delivery.enqueued_at,
            lease_ends_at: delivery.expires_at,
            _in_hand: InHand::new(&self.0.callbacks_in_hand, org, &delivery.receipt),
            receipt: delivery.receipt,
        })
    }
}

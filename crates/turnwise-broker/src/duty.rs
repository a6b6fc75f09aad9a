//! Work that one of many nodes does: whoever holds the lease of a message
//! that is there for nothing else.

use crate::broker::Broker;
use crate::limits::DUTY_LEASE;
use crate::submit::one;
use bytes::Bytes;
use tokio::time::Instant;
use turnwise_core::limits::ATTEMPTS_MAX;
use turnwise_core::{
    Claim, Delivery, Enqueued, Extended, Kind, Name, NewMessage, OrderingKey, Outcome, Receipt, Settlement,
    StoreError,
};

/// Who keeps the store in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Housekeeping {
    /// This node: no other has the store.
    #[default]
    Alone,
    /// This node or another one like it, whoever holds the lease.
    OneOfMany,
    /// Others.
    Others,
}

/// One node's hold on a duty.
#[derive(Default)]
pub(crate) struct Duty {
    held: Option<(Receipt, Instant)>,
}

impl Duty {
    /// Whether the duty is this node's, for two thirds of [`DUTY_LEASE`] at least. Takes it, or keeps it, if it can;
    /// an error leaves what this node holds as it was.
    pub(crate) async fn is_ours(&mut self, broker: &Broker) -> Result<bool, StoreError> {
        match broker.config().housekeeping {
            Housekeeping::Alone => Ok(true),
            Housekeeping::Others => Ok(false),
            Housekeeping::OneOfMany => self.hold(broker).await,
        }
    }

    async fn hold(&mut self, broker: &Broker) -> Result<bool, StoreError> {
        let now = Instant::now();
        if let Some((receipt, until)) = &mut self.held {
            if now + DUTY_LEASE * 2 / 3 < *until {
                return Ok(true);
            }
            if let Extended::Until(_) | Extended::Stop(_) =
                one(broker.0.store.extend(vec![receipt.clone()], DUTY_LEASE).await?)??
            {
                *until = now + DUTY_LEASE;
                return Ok(true);
            }
            self.held = None;
        }
        let delivery = match claim(broker).await? {
            None if provide(broker).await? => claim(broker).await?,
            delivery => delivery,
        };
        self.held = delivery.map(|delivery| (delivery.receipt, now + DUTY_LEASE));
        if self.held.is_some() {
            tracing::info!("this node keeps house now");
        }
        Ok(self.held.is_some())
    }

    /// Leaves the duty to others at once, instead of when the lease is over.
    pub(crate) async fn leave(self, broker: &Broker) {
        let Some((receipt, _)) = self.held else { return };
        let back = Settlement { receipt, outcome: Outcome::Release, effects: Vec::new() };
        if let Err(error) = broker.0.store.settle(vec![back]).await {
            tracing::debug!(%error, "another node keeps house when the lease is over");
        }
    }
}

async fn claim(broker: &Broker) -> Result<Option<Delivery>, StoreError> {
    let claim = Claim { queue: queue()?, limit: 1, lease: DUTY_LEASE, durable: true };
    Ok(broker.0.store.claim(claim).await?.into_iter().next())
}

/// Puts the message there, unless it is. Once in the life of a store, and again should it ever be used up.
/// True when it was not there.
async fn provide(broker: &Broker) -> Result<bool, StoreError> {
    let message = NewMessage {
        key: Some(OrderingKey(Bytes::from_static(b"housekeeping"))),
        max_attempts: ATTEMPTS_MAX,
        lane_max: Some(1),
        nonce: (broker.0.nonce)(),
        ..NewMessage::new(queue()?, Bytes::new())
    };
    // Full: another node holds it.
    Ok(matches!(one(broker.0.store.enqueue(vec![message]).await?)??, Enqueued::New { .. }))
}

fn queue() -> Result<turnwise_core::QueueName, StoreError> {
    Ok(Name::new("", Kind::Sys, "housekeeping")?)
}

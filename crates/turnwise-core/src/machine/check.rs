//! Refuses batches that break a limit, before anything changes (clause Q15).

use crate::error::{Result, StoreError};
use crate::lease::{Claim, Outcome, Settlement};
use crate::limits::{
    AT_END_EFFECTS_MAX, ATTEMPTS_MAX, BATCH_ITEMS_MAX, CLAIM_LIMIT_MAX, DEDUP_KEY_BYTES_MAX,
    DEDUP_WINDOW_MAX, EFFECTS_MAX, ENDED_HEADER_BYTES, EVENT_TYPE_BYTES_MAX, HEADERS_BYTES_MAX,
    KEY_BYTES_MAX, LEASE_MAX, PAYLOAD_BYTES_MAX, PRIORITY_MAX, REASON_BYTES_MAX, RETRY_DELAY_MAX,
};
use crate::message::{Dedup, Effect, NewMessage};
use crate::topic::NewEvent;
use std::time::Duration;

fn limit(what: &str, value: usize, max: usize) -> Result<()> {
    if value <= max {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("{what} is {value}, the limit is {max}")))
}

/// At most as many items as a batch takes.
///
/// # Errors
/// `Invalid` over a limit.
pub fn batch(items: usize) -> Result<()> {
    limit("the number of items", items, BATCH_ITEMS_MAX)
}

/// The length of a lease.
///
/// # Errors
/// `Invalid` over a limit.
pub fn lease(lease: Duration) -> Result<()> {
    if lease.is_zero() || lease > LEASE_MAX {
        return Err(StoreError::Invalid(format!("a lease lasts more than 0 and at most {LEASE_MAX:?}")));
    }
    Ok(())
}

/// A claim.
///
/// # Errors
/// `Invalid` over a limit.
pub fn claim(claim: &Claim) -> Result<()> {
    limit("the claim's limit", claim.limit as usize, CLAIM_LIMIT_MAX as usize)?;
    lease(claim.lease)
}

fn dedup(dedup: Option<&Dedup>) -> Result<()> {
    let Some(dedup) = dedup else { return Ok(()) };
    limit("the dedup key's length", dedup.key.len(), DEDUP_KEY_BYTES_MAX)?;
    if dedup.window > DEDUP_WINDOW_MAX {
        return Err(StoreError::Invalid(format!("a dedup window lasts at most {DEDUP_WINDOW_MAX:?}")));
    }
    Ok(())
}

/// Events to append.
///
/// # Errors
/// `Invalid` over a limit.
pub fn events(events: &[NewEvent]) -> Result<()> {
    batch(events.len())?;
    events.iter().try_for_each(event)
}

fn event(event: &NewEvent) -> Result<()> {
    limit("the event type's length", event.event_type.len(), EVENT_TYPE_BYTES_MAX)?;
    limit("the event's data", event.data.len(), PAYLOAD_BYTES_MAX)?;
    dedup(event.dedup.as_ref())
}

/// A message to store.
///
/// # Errors
/// `Invalid` over a limit.
pub fn message(message: &NewMessage) -> Result<()> {
    limit("the payload", message.payload.len(), PAYLOAD_BYTES_MAX)?;
    limit("the headers", headers_bytes(message), HEADERS_BYTES_MAX)?;
    limit("the ordering key's length", message.key.as_ref().map_or(0, |key| key.0.len()), KEY_BYTES_MAX)?;
    limit("the priority", message.priority.0.into(), PRIORITY_MAX.into())?;
    limit("max_attempts", message.max_attempts as usize, ATTEMPTS_MAX as usize)?;
    if message.max_attempts == 0 {
        return Err(StoreError::Invalid("max_attempts is at least 1".into()));
    }
    limit("the number of at_end effects", message.at_end.len(), AT_END_EFFECTS_MAX)?;
    dedup(message.dedup.as_ref())?;
    message.at_end.iter().try_for_each(at_end)
}

fn headers_bytes(message: &NewMessage) -> usize {
    message.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Leaves room for the header that the store adds.
fn at_end(last: &Effect) -> Result<()> {
    if let Effect::Enqueue(message) = last {
        let room = HEADERS_BYTES_MAX - ENDED_HEADER_BYTES;
        limit("the headers of a message in at_end", headers_bytes(message), room)?;
    }
    effect(last)
}

fn effect(effect: &Effect) -> Result<()> {
    match effect {
        Effect::Enqueue(new) => message(new),
        Effect::Publish(new) => event(new),
    }
}

/// The effects of one settlement or removal.
///
/// # Errors
/// `Invalid` over a limit.
pub fn effects(effects: &[Effect]) -> Result<()> {
    limit("the number of effects", effects.len(), EFFECTS_MAX)?;
    effects.iter().try_for_each(effect)
}

/// The end of a lease.
///
/// # Errors
/// `Invalid` over a limit.
pub fn settlement(settlement: &Settlement) -> Result<()> {
    effects(&settlement.effects)?;
    match &settlement.outcome {
        Outcome::Retry { delay, reason } => {
            limit("the reason's length", reason.len(), REASON_BYTES_MAX)?;
            if *delay > RETRY_DELAY_MAX {
                return Err(StoreError::Invalid(format!("a retry waits at most {RETRY_DELAY_MAX:?}")));
            }
            Ok(())
        }
        Outcome::Dead { reason } => limit("the reason's length", reason.len(), REASON_BYTES_MAX),
        Outcome::Ack | Outcome::Release => Ok(()),
    }
}

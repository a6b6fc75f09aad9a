//! What a callback says, and how a try of it ends.

use super::claim::Callback;
use super::record::{Happened, HistoryRecord, happened, history_topic};
use crate::broker::{Broker, reply_topic_of};
use crate::confirm::Confirmed;
use crate::error::BrokerError;
use crate::turn::TurnEnd;
use std::time::Duration;
use turnwise_core::limits::REASON_BYTES_MAX;
use turnwise_core::{Effect, Outcome, Receipt, Settlement};

/// The end of a turn, for its callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAnswer {
    /// How it ended.
    pub end: TurnEnd,
    /// The text of a streamed answer that has no whole one.
    pub text: Option<String>,
}

/// How a try ended. Reasons are shown to operators: nothing of the URL or of the answer belongs in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// Taken.
    Delivered {
        /// The receiver's.
        status: u16,
    },
    /// Not taken; again after the delay, unless that was the last try.
    Failed {
        /// The receiver's, if it answered.
        status: Option<u16>,
        /// A few words.
        reason: String,
        /// Holds up the later ones of its conversation and host, and nothing else.
        delay: Duration,
    },
    /// Never to be taken: kept as a dead letter.
    Dead {
        /// The receiver's, if it answered.
        status: Option<u16>,
        /// A few words.
        reason: String,
    },
    /// Not tried, for a reason that is not its host's fault: no slot is free, or this node could not.
    Deferred {
        /// Not before.
        delay: Duration,
    },
    /// Not tried: back to its place at once.
    Released,
}

pub(super) fn settlement(receipt: Receipt, outcome: Outcome, effects: Vec<Effect>) -> Settlement {
    Settlement { receipt, outcome, effects }
}

impl Broker {
    /// The end that a callback tells; `None` when it is not kept any longer.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn callback_answer(&self, callback: &Callback) -> Result<Option<CallbackAnswer>, BrokerError> {
        let topic = reply_topic_of(&callback.org, callback.turn)?;
        let Some(terminal) = self.terminal(&topic).await?.filter(|it| it.is_of(callback.turn)) else {
            return Ok(None);
        };
        let end = terminal.end();
        let text = if end.answer.is_none() { self.partial(&topic).await? } else { None };
        Ok(Some(CallbackAnswer { end, text }))
    }

    /// Ends a try and its lease, and notes it, in one step. Answers what became of the callback: a try that failed
    /// is its death when no further one is allowed.
    ///
    /// # Errors
    /// `LeaseLost` when it took too long: it will be tried again. Other errors: it may be.
    pub async fn settle_callback(
        &self,
        callback: &Callback,
        outcome: CallbackOutcome,
    ) -> Result<CallbackOutcome, BrokerError> {
        let retention = self.0.config.retention;
        let became = became(outcome, callback.attempt, self.0.config.callbacks.attempts_max);
        let (what, status, reason, outcome) = match became.clone() {
            CallbackOutcome::Delivered { status } => {
                (Some(Happened::Delivered), Some(status), None, Outcome::Ack)
            }
            CallbackOutcome::Failed { status, reason, delay } => {
                (Some(Happened::Failed), status, Some(reason.clone()), Outcome::Retry { delay, reason })
            }
            CallbackOutcome::Dead { status, reason } => {
                (Some(Happened::Dead), status, Some(reason.clone()), Outcome::Dead { reason })
            }
            CallbackOutcome::Deferred { delay } => {
                let reason = "not tried yet".to_owned();
                (None, None, None, Outcome::Retry { delay, reason })
            }
            CallbackOutcome::Released => (None, None, None, Outcome::Release),
        };
        let mut effects = Vec::new();
        if let Some(what) = what {
            let record = HistoryRecord {
                callback: callback.id.to_string(),
                at: self.0.now().0,
                attempt: callback.attempt,
                status,
                reason,
            };
            let topic = history_topic(&callback.org, callback.id.nonce())?;
            // As long as the turn, or a dead letter of the callback, may be looked at.
            let kept = if what == Happened::Delivered { retention } else { retention.saturating_mul(2) };
            let keep_until = self.0.now().after(kept);
            effects.push(Effect::Publish(happened(topic, what, &record, keep_until)));
        }
        let settlement = settlement(callback.receipt.clone(), outcome, effects);
        let answer = self.settle_confirmed(&settlement).await;
        self.0.callback_ring.mark(&callback.org);
        match answer? {
            // An earlier try has done it, or else it is repeated: both are fine.
            Confirmed::Done | Confirmed::DoneOrLost => Ok(became),
            Confirmed::LeaseLost => Err(BrokerError::LeaseLost),
        }
    }
}

/// The outcome as it is stored.
fn became(outcome: CallbackOutcome, attempt: u32, attempts_max: u32) -> CallbackOutcome {
    match outcome {
        CallbackOutcome::Failed { status, reason, .. } if attempt >= attempts_max => {
            let reason = cut(&format!("given up after {attempt} tries: {reason}"));
            CallbackOutcome::Dead { status, reason }
        }
        CallbackOutcome::Failed { status, reason, delay } => {
            CallbackOutcome::Failed { status, reason: cut(&reason), delay }
        }
        CallbackOutcome::Dead { status, reason } => CallbackOutcome::Dead { status, reason: cut(&reason) },
        other @ (CallbackOutcome::Delivered { .. }
        | CallbackOutcome::Deferred { .. }
        | CallbackOutcome::Released) => other,
    }
}

fn cut(reason: &str) -> String {
    reason.chars().take(REASON_BYTES_MAX / 4).collect()
}

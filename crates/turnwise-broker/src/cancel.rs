//! Taking a turn back.

use crate::broker::{Broker, reply_topic_of};
use crate::callback;
use crate::error::BrokerError;
use crate::limits::CANCEL_TRIES_MAX;
use crate::news::News;
use crate::orgs::OrgScope;
use crate::record::{AnswerPlace, TerminalRecord, TurnHeaders};
use crate::submit::one;
use crate::timeline::StepKind;
use crate::turn::{TurnEnd, TurnState};
use crate::wait::Found;
use turnwise_core::{Effect, MessageId, MessageInfo, Removed, Stage, StopRequested, StoreError};

/// The answer to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It had not started and never will.
    Cancelled,
    /// Its call is being stopped; its readers get `cancelled`, unless the
    /// answer is quicker.
    Stopping,
    /// It was over before.
    Over(TurnState),
    /// Not known, or another org's.
    NotFound,
}

impl Broker {
    /// Cancels a waiting turn, or has a running one stopped.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn cancel(&self, orgs: &OrgScope, id: MessageId) -> Result<Cancel, BrokerError> {
        for _turn_moved in 0..CANCEL_TRIES_MAX {
            let (org, info) = match self.find(orgs, id).await? {
                None => return Ok(Cancel::NotFound),
                Some((_, Found::Over(terminal))) => return Ok(Cancel::Over(terminal.state)),
                Some((org, Found::Live(info))) => (org, info),
            };
            match info.stage {
                Stage::Leased => {
                    let asked = self.0.store.request_stop(&info.queue, id).await?;
                    if asked == StopRequested::Asked {
                        self.stop_here(id);
                        return Ok(Cancel::Stopping);
                    }
                }
                Stage::Scheduled | Stage::Ready | Stage::Dead => {
                    if self.cancel_waiting(&org, &info).await? {
                        return Ok(Cancel::Cancelled);
                    }
                }
            }
        }
        let reason = "the turn kept moving while it was to be cancelled";
        Err(StoreError::Unavailable(reason.to_owned()).into())
    }

    fn stop_here(&self, id: MessageId) {
        let lease = self.0.running.lock().get(&id).and_then(std::sync::Weak::upgrade);
        if let Some(lease) = lease {
            lease.ask_to_stop(self.0.now());
        }
    }

    /// False when the turn has moved meanwhile. One that failed since it was
    /// looked up is a dead letter, which the store does not remove with effects.
    async fn cancel_waiting(&self, org: &str, info: &MessageInfo) -> Result<bool, BrokerError> {
        let inner = &self.0;
        let headers = TurnHeaders::read(&info.headers, info.enqueued_at);
        let user = headers.user.clone();
        let record = TerminalRecord {
            id: Some(info.id.to_string()),
            user: headers.user.clone(),
            client: headers.client,
            accepted_at: headers.accepted_at.0,
            started_at: None,
            attempts: info.attempt,
            token: None,
            answer: AnswerPlace::None,
            error: None,
            callback: headers.callback.is_some(),
            redrive_of: headers.redrive_of.map(|id| id.to_string()),
            stop_asked_at: None,
        };
        let now = inner.now();
        let topic = reply_topic_of(org, info.id)?;
        let keep_until = now.after(inner.config.retention);
        let mut effects = vec![Effect::Publish(record.event(&topic, TurnState::Cancelled, keep_until))];
        if let Some(note) = &headers.callback {
            let place = (org, info.id.nonce());
            effects.push(callback::effect(place, Some(info.id), info.key.as_ref(), &headers.user, note)?);
        }
        let answers = inner.store.remove(&info.queue, vec![(info.id, effects)]).await?;
        if one(answers)?? != Removed::Done {
            return Ok(false);
        }
        let end = TurnEnd { state: TurnState::Cancelled, answer: None, error: None, finished_at: now };
        inner.counts.ended(TurnState::Cancelled, None);
        inner.board.tell(|| News {
            id: info.id,
            org: org.to_owned(),
            user,
            step: StepKind::Ended(TurnState::Cancelled),
            at: now,
            attempt: None,
            after: None,
            code: None,
        });
        let counted = inner.local.ended(info.id, end);
        if let Some(key) = info.key.clone() {
            inner.counters.ended(org, key, counted);
        }
        inner.counters.one_more_ended();
        inner.ring.mark(org);
        if headers.callback.is_some() {
            inner.callback_ring.mark(org);
        }
        Ok(true)
    }
}

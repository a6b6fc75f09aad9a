//! Storing an agent's events and the end of its call, fenced by the lease
//! (clauses C3 to C6).

use crate::broker::{Broker, reply_topic_of};
use crate::callback;
use crate::confirm::Confirmed;
use crate::error::BrokerError;
use crate::lease::{AgentEvent, Renewed, Turn, TurnOutcome};
use crate::limits::{
    APPEND_BACKOFF, APPEND_BACKOFF_MAX, APPEND_PATIENCE, RETRY_DELAY_MIN, UNSAVED_IN_SETTLEMENT_MAX,
};
use crate::local::Appended;
use crate::news::News;
use crate::record::{AnswerPlace, BusyCall, BusyRecord, TerminalRecord, agent_event, busy, processing};
use crate::timeline::StepKind;
use crate::turn::{TurnEnd, TurnError, TurnState};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use turnwise_core::limits::{BATCH_ITEMS_MAX, REASON_BYTES_MAX};
use turnwise_core::{Effect, Event, NewEvent, Outcome, Position, Settlement, StoreError, TopicName};

/// How a settlement is to go, and what readers are told then.
struct Ending {
    outcome: Outcome,
    effects: Vec<Effect>,
    end: Option<TurnEnd>,
}

impl Broker {
    /// Stores events of the agent's answer, `processing` before the first.
    /// Readers see them when this returns. One call at a time per turn. While the store says that it stored nothing,
    /// this is repeated, for [`APPEND_PATIENCE`] at most: a store that is started again ends no answer.
    ///
    /// # Errors
    /// `LeaseLost`: stop, somebody else may have the turn. Other errors: the
    /// events may be stored; do not append them again, finish with a failure.
    pub async fn append(&self, turn: &Turn, events: Vec<AgentEvent>) -> Result<(), BrokerError> {
        let _gate = turn.lease.gate.write().await;
        self.append_gated(turn, events).await
    }

    async fn append_gated(&self, turn: &Turn, events: Vec<AgentEvent>) -> Result<(), BrokerError> {
        if events.is_empty() {
            return Ok(());
        }
        self.hold(turn).await?;
        let lease = &turn.lease;
        let topic = reply_topic_of(&turn.org, turn.id)?;
        let mut batch = Vec::with_capacity(events.len() + 1);
        if !lease.processing_stored.load(Ordering::Acquire) {
            batch.push(processing(&topic));
        }
        batch.extend(events.into_iter().map(|event| agent_event(&topic, event)));
        let (mut wait, mut waited) = (APPEND_BACKOFF, Duration::ZERO);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH_ITEMS_MAX));
            let had_events = lease.events_stored.swap(true, Ordering::AcqRel);
            match self.0.store.append_held(&turn.receipt, batch.clone()).await {
                Err(StoreError::Unavailable(why)) if waited < APPEND_PATIENCE => {
                    lease.events_stored.store(had_events, Ordering::Release);
                    tracing::debug!(id = %turn.id, why, "a part of an answer is not stored yet; again");
                    batch.extend(rest);
                    sleep(wait).await;
                    waited += wait;
                    wait = (wait * 2).min(APPEND_BACKOFF_MAX);
                    self.still_held(turn)?;
                    continue;
                }
                Ok(None) => {
                    lease.events_stored.store(had_events, Ordering::Release);
                    self.lost(lease);
                    return Err(BrokerError::LeaseLost);
                }
                Ok(Some(answers)) => {
                    let positions = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
                    self.tell_appended(turn, batch, &positions);
                }
                Err(error) => {
                    if let StoreError::Unavailable(_) | StoreError::Invalid(_) = error {
                        lease.events_stored.store(had_events, Ordering::Release);
                    }
                    return Err(error.into());
                }
            }
            lease.processing_stored.store(true, Ordering::Release);
            batch = rest;
        }
        Ok(())
    }

    /// Renews a lease that is nearly over: an answer that is on its way would be lost with it.
    async fn hold(&self, turn: &Turn) -> Result<(), BrokerError> {
        if turn.lease.is_held(self.0.now(), self.0.config.turn_lease / 4) {
            return Ok(());
        }
        self.still_held(turn)?;
        match self.renew(turn).await? {
            Renewed::Ok | Renewed::Stop => Ok(()),
            Renewed::Lost => Err(BrokerError::LeaseLost),
        }
    }

    fn still_held(&self, turn: &Turn) -> Result<(), BrokerError> {
        if turn.lease.is_held(self.0.now(), Duration::ZERO) {
            return Ok(());
        }
        self.lost(&turn.lease);
        Err(BrokerError::LeaseLost)
    }

    /// Hands stored events to this node's readers, who would find them in the store too.
    fn tell_appended(&self, turn: &Turn, batch: Vec<NewEvent>, positions: &[Position]) {
        let Some(epoch) = positions.first().map(|position| position.epoch) else { return };
        let appended_at = self.0.now();
        let bytes = batch.iter().map(|event| event.data.len() + event.event_type.len()).sum();
        self.0.local.appended(turn.id, bytes, || {
            let events = batch.into_iter().zip(positions).map(|(event, position)| Event {
                offset: position.offset,
                event_type: event.event_type,
                data: event.data,
                appended_at,
            });
            Appended { epoch, events: events.collect() }
        });
    }

    /// Ends the call and with it the lease, all in one step with what readers
    /// are to see. Repeats by itself when the store does not confirm.
    ///
    /// # Errors
    /// `LeaseLost`: nothing was stored, the turn is not this caller's any more.
    pub async fn finish(&self, turn: &Turn, outcome: TurnOutcome) -> Result<(), BrokerError> {
        let _gate = turn.lease.gate.write().await;
        let completed = matches!(outcome, TurnOutcome::Completed { .. });
        let ending = self.ending(turn, outcome).await?;
        match self.settle(turn, ending).await {
            Err(BrokerError::Store(StoreError::Invalid(_))) if completed => {
                let error = TurnError::new("agent_error", 502, "The agent's answer is too large to keep.");
                let ending = self.failed(turn, error)?;
                self.settle(turn, ending).await
            }
            answer => answer,
        }
    }

    async fn ending(&self, turn: &Turn, outcome: TurnOutcome) -> Result<Ending, BrokerError> {
        match outcome {
            TurnOutcome::Completed { answer, unsaved } => self.completed(turn, answer, unsaved).await,
            TurnOutcome::Failed(error) => self.failed(turn, error),
            TurnOutcome::Cancelled => {
                self.over(turn, TurnState::Cancelled, Vec::new(), AnswerPlace::None, None)
            }
            TurnOutcome::RetryAfter(_) | TurnOutcome::Release if turn.events_stored() => {
                self.failed(turn, TurnError::answer_interrupted())
            }
            TurnOutcome::RetryAfter(delay) => self.retry(turn, delay),
            TurnOutcome::Release => Ok(Ending { outcome: Outcome::Release, effects: Vec::new(), end: None }),
        }
    }

    async fn completed(
        &self,
        turn: &Turn,
        answer: Option<Bytes>,
        mut unsaved: Vec<AgentEvent>,
    ) -> Result<Ending, BrokerError> {
        if unsaved.len() > UNSAVED_IN_SETTLEMENT_MAX {
            let last = unsaved.split_off(unsaved.len() - UNSAVED_IN_SETTLEMENT_MAX);
            self.append_gated(turn, unsaved).await?;
            unsaved = last;
        }
        let place = match &answer {
            None => AnswerPlace::None,
            Some(answer) if !turn.events_stored() && unsaved.is_empty() => {
                unsaved.push(AgentEvent { name: None, data: answer.clone() });
                AnswerPlace::Previous
            }
            Some(answer) => AnswerPlace::Inline(String::from_utf8_lossy(answer).into_owned()),
        };
        let mut ending = self.over(turn, TurnState::Completed, unsaved, place, None)?;
        if let Some(end) = &mut ending.end {
            end.answer = answer;
        }
        Ok(ending)
    }

    fn failed(&self, turn: &Turn, error: TurnError) -> Result<Ending, BrokerError> {
        self.over(turn, TurnState::Failed, Vec::new(), AnswerPlace::None, Some(error))
    }

    fn retry(&self, turn: &Turn, delay: Duration) -> Result<Ending, BrokerError> {
        let now = self.0.now();
        let delay = delay.max(RETRY_DELAY_MIN);
        let since = turn.busy_since.unwrap_or(now);
        if now.since(since).saturating_add(delay) > self.0.config.retry_after_total_max {
            return self.failed(turn, TurnError::agent_busy());
        }
        let record = BusyRecord {
            since: since.0,
            first_claimed: turn.first_claimed_at.0,
            call: Some(BusyCall { attempt: turn.attempt, claimed: turn.lease.started_at.0 }),
        };
        let topic = reply_topic_of(&turn.org, turn.id)?;
        Ok(Ending {
            outcome: Outcome::Retry { delay, reason: "the agent was busy".to_owned() },
            effects: vec![Effect::Publish(busy(&topic, &record))],
            end: None,
        })
    }

    fn over(
        &self,
        turn: &Turn,
        state: TurnState,
        unsaved: Vec<AgentEvent>,
        answer: AnswerPlace,
        error: Option<TurnError>,
    ) -> Result<Ending, BrokerError> {
        let topic = reply_topic_of(&turn.org, turn.id)?;
        let now = self.0.now();
        let mut events = Vec::with_capacity(unsaved.len() + 2);
        if !turn.lease.processing_stored.load(Ordering::Acquire) {
            events.push(processing(&topic));
        }
        events.extend(unsaved.into_iter().map(|event| agent_event(&topic, event)));
        let outcome = match &error {
            Some(error) => Outcome::Dead { reason: reason_of(error) },
            None => Outcome::Ack,
        };
        let record = TerminalRecord {
            id: Some(turn.id.to_string()),
            user: turn.user.clone(),
            client: turn.client.clone(),
            accepted_at: turn.accepted_at.0,
            started_at: Some(turn.lease.started_at.0),
            attempts: turn.attempt,
            token: Some(turn.receipt.token.0),
            answer,
            error: error.clone().map(Into::into),
            callback: turn.callback.is_some(),
            redrive_of: turn.redrive_of.map(|id| id.to_string()),
            stop_asked_at: turn.lease.stop_asked_at().map(|at| at.0),
        };
        events.push(record.event(&topic, state, now.after(self.0.config.retention)));
        let mut effects: Vec<Effect> = events.into_iter().map(Effect::Publish).collect();
        if let Some(note) = &turn.callback {
            let place = (turn.org.as_str(), turn.id.nonce());
            effects.push(callback::effect(place, Some(turn.id), turn.key.as_ref(), &turn.user, note)?);
        }
        let end = Some(TurnEnd { state, answer: None, error, finished_at: now });
        Ok(Ending { outcome, effects, end })
    }

    async fn settle(&self, turn: &Turn, ending: Ending) -> Result<(), BrokerError> {
        let topic = reply_topic_of(&turn.org, turn.id)?;
        let Ending { outcome, effects, end } = ending;
        let again = match outcome {
            Outcome::Retry { .. } => Some("busy"),
            Outcome::Release => Some("released"),
            Outcome::Ack | Outcome::Dead { .. } => None,
        };
        let settlement = Settlement { receipt: turn.receipt.clone(), outcome, effects };
        let done = match self.settle_confirmed(&settlement).await? {
            Confirmed::Done => true,
            Confirmed::DoneOrLost => self.ended_by(turn, &topic).await?,
            Confirmed::LeaseLost => false,
        };
        if !done {
            self.lost(&turn.lease);
            return Err(BrokerError::LeaseLost);
        }
        turn.lease.lose();
        again.into_iter().for_each(|why| self.0.counts.again.one(why));
        if again == Some("busy") {
            self.0.board.tell(|| turn.news(StepKind::Busy, self.0.now()));
        }
        self.settled(turn, end);
        Ok(())
    }

    /// Whether the turn's last word is that of its own lease.
    async fn ended_by(&self, turn: &Turn, topic: &TopicName) -> Result<bool, BrokerError> {
        let token = self.terminal(topic).await?.and_then(|terminal| terminal.record.token);
        Ok(token == Some(turn.receipt.token.0))
    }

    fn settled(&self, turn: &Turn, end: Option<TurnEnd>) {
        let inner = &self.0;
        if let Some(end) = end {
            if turn.callback.is_some() {
                inner.callback_ring.mark(&turn.org);
            }
            let ran = end.finished_at.since(turn.lease.started_at);
            inner.counts.ended_by_call(&end, ran);
            inner.board.tell(|| News {
                after: Some(ran),
                code: end.error.as_ref().map(|error| error.code.clone()),
                ..turn.news(StepKind::Ended(end.state), end.finished_at)
            });
            let counted = inner.local.ended(turn.id, end);
            inner.counters.one_more_ended();
            if let Some(key) = &turn.key {
                inner.counters.ended(&turn.org, key.clone(), counted);
            }
        }
        inner.ring.mark(&turn.org);
    }
}

/// Only the code: details may quote what a user said.
fn reason_of(error: &TurnError) -> String {
    error.code.chars().take(REASON_BYTES_MAX / 4).collect()
}

//! Every step of a turn with its time, from what is stored: nothing is
//! remembered for it, and no time is made up. A call that was lost to a crash
//! left nothing behind; its number is missing.

use crate::broker::{Broker, reply_topic_of};
use crate::callback::{CallbackState, CallbackView};
use crate::limits::{TIMELINE_PAGE, TIMELINE_STEPS_MAX};
use crate::pages::each_event;
use crate::record::{Stored, kind_of, parse_busy};
use crate::turn::TurnState;
use std::ops::ControlFlow;
use turnwise_core::{MessageId, StoreError, Timestamp};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Stored.
    Accepted,
    /// Handed out for a call.
    Claimed,
    /// The agent asked for patience.
    Busy,
    /// The first event of the answer was stored.
    FirstEvent,
    /// A client of the node that ran it asked to stop.
    StopAsked,
    /// Over.
    Ended(TurnState),
    /// Its callback was stored, in the same step.
    CallbackQueued,
    /// Its callback was taken.
    CallbackDelivered,
    /// Its callback was given up.
    CallbackDead,
}

/// One step of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happened.
    pub kind: StepKind,
    /// When.
    pub at: Timestamp,
    /// Of which call it tells, or try of the callback; 1 for the first.
    pub attempt: Option<u32>,
}

/// What is known besides the events.
pub(crate) struct Known<'a> {
    pub(crate) accepted_at: Timestamp,
    /// The last call, its number and its start.
    pub(crate) claimed: Option<(u32, Timestamp)>,
    pub(crate) stop_asked_at: Option<Timestamp>,
    pub(crate) ended: Option<(TurnState, Timestamp)>,
    pub(crate) callback: Option<&'a CallbackView>,
}

fn step(kind: StepKind, at: Timestamp, attempt: Option<u32>) -> Step {
    Step { kind, at, attempt }
}

/// The last end of a callback, also when it was redriven before.
fn steps_of(callback: &CallbackView, turn_ended_at: Timestamp) -> impl Iterator<Item = Step> {
    let end = match callback.state {
        CallbackState::Delivered => Some(StepKind::CallbackDelivered),
        CallbackState::Dead => Some(StepKind::CallbackDead),
        CallbackState::Waiting | CallbackState::Delivering | CallbackState::Dropped => None,
    };
    let end = end.zip(callback.last.as_ref());
    let end = end.map(|(kind, last)| step(kind, last.at, Some(callback.attempts)));
    std::iter::once(step(StepKind::CallbackQueued, turn_ended_at, None)).chain(end)
}

impl Broker {
    /// Puts the steps in their order: a busy agent comes before the first
    /// event of the answer, and that before the end.
    pub(crate) async fn timeline(
        &self,
        org: &str,
        id: MessageId,
        known: Known<'_>,
    ) -> Result<Vec<Step>, StoreError> {
        let mut steps = vec![step(StepKind::Accepted, known.accepted_at, None)];
        let first_event = self.calls_before(org, id, &mut steps).await?;
        if let Some((attempt, at)) = known.claimed {
            steps.push(step(StepKind::Claimed, at, Some(attempt)));
        }
        steps.extend(first_event.map(|at| step(StepKind::FirstEvent, at, None)));
        steps.extend(known.stop_asked_at.map(|at| step(StepKind::StopAsked, at, None)));
        if let Some((state, at)) = known.ended {
            steps.push(step(StepKind::Ended(state), at, None));
            steps.extend(known.callback.into_iter().flat_map(|callback| steps_of(callback, at)));
        }
        Ok(steps)
    }

    /// The calls that found the agent busy; answers when the first event of the answer came.
    async fn calls_before(
        &self,
        org: &str,
        id: MessageId,
        steps: &mut Vec<Step>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let topic = reply_topic_of(org, id)?;
        let mut first_event = None;
        each_event(self.0.store.as_ref(), &topic, TIMELINE_PAGE, |event| {
            match kind_of(&event.event_type) {
                Stored::Agent(_) => {
                    first_event = Some(event.appended_at);
                    return ControlFlow::Break(());
                }
                Stored::Terminal(_) => return ControlFlow::Break(()),
                Stored::Busy if steps.len() < TIMELINE_STEPS_MAX => {
                    let call = parse_busy(&event.data).and_then(|record| record.call);
                    if let Some(call) = call {
                        steps.push(step(StepKind::Claimed, Timestamp(call.claimed), Some(call.attempt)));
                    }
                    let attempt = call.map(|call| call.attempt);
                    steps.push(step(StepKind::Busy, event.appended_at, attempt));
                }
                Stored::Busy | Stored::Processing | Stored::Other => {}
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(first_event)
    }
}

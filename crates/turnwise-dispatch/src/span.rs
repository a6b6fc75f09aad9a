//! A call of the agent, and the wait before it, as spans: where they are in the trace, and what is told of them.

use crate::counts::word;
use std::sync::Arc;
use std::time::Duration;
use turnwise_broker::{Turn, TurnOutcome};
use turnwise_metrics::{Place, Span, SpanKind, SpanValue, Spans};

/// A call whose span has begun.
pub(crate) struct Begun {
    spans: Arc<dyn Spans>,
    /// Later calls of a turn waited for the agent, not in the queue.
    wait: Option<Place>,
    call: Place,
    wait_parent: Option<u64>,
    call_parent: Option<u64>,
}

impl Begun {
    /// Begins it if somebody wants to know. The turn carries the call's place from now on: the agent is told that.
    pub(crate) fn with(spans: Option<&Arc<dyn Spans>>, turn: &mut Turn) -> Option<Begun> {
        let spans = Arc::clone(spans?);
        let parent = turn.traceparent.as_deref().and_then(Place::of_header);
        let wait = (turn.attempt == 1).then(|| spans.below(parent));
        // Stored by somebody who began no trace: then the wait does, or the call itself.
        let call_parent = parent.or(wait);
        let call = spans.below(call_parent);
        turn.traceparent = Some(call.header());
        let wait_parent = parent.map(|parent| parent.span);
        Some(Begun { spans, wait, call, wait_parent, call_parent: call_parent.map(|parent| parent.span) })
    }

    /// The call is over; no outcome when its lease was lost.
    pub(crate) fn end(self, turn: &Turn, outcome: Option<&TurnOutcome>, took: Duration) {
        let id = || ("turnwise.message_id", SpanValue::Word(turn.id.to_string().into()));
        let attempt = || ("turnwise.attempt", SpanValue::Number(turn.attempt.into()));
        if let Some(wait) = self.wait {
            self.spans.ended(Span {
                name: "turn wait".into(),
                kind: SpanKind::Internal,
                place: wait,
                parent: self.wait_parent,
                took: turn.first_claimed_at.since(turn.accepted_at),
                ended_ago: took,
                failed: false,
                attributes: vec![id(), attempt()],
            });
        }
        let outcome_word = ("turnwise.outcome", SpanValue::Word(word(outcome).to_owned().into()));
        self.spans.ended(Span {
            name: "agent call".into(),
            kind: SpanKind::Client,
            place: self.call,
            parent: self.call_parent,
            took,
            ended_ago: Duration::ZERO,
            failed: matches!(outcome, None | Some(TurnOutcome::Failed(_))),
            attributes: vec![id(), attempt(), outcome_word],
        });
    }
}

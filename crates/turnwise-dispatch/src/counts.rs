//! What a scraper is told about calls to the agent.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use turnwise_broker::{TurnError, TurnOutcome};
use turnwise_metrics::{Gauge, Held, Histogram, Page, Source, TIMES, Words};

/// What a call can come to.
const ANSWERS: [&str; 9] = [
    "answered",
    "busy",
    "agent_rejected",
    "agent_error",
    "agent_timeout",
    "agent_unreachable",
    "stopped",
    "given_back",
    "lease_lost",
];

/// Counts since this process started.
pub(crate) struct AgentCounts {
    in_flight: Gauge,
    answers: Words<9>,
    times: Histogram,
    /// In microseconds; 0 while it does not answer.
    probe_micros: AtomicU64,
}

impl Default for AgentCounts {
    fn default() -> AgentCounts {
        AgentCounts {
            in_flight: Gauge::default(),
            answers: Words::new(ANSWERS),
            times: Histogram::of_times(TIMES),
            probe_micros: AtomicU64::new(0),
        }
    }
}

impl AgentCounts {
    /// A call is on its way while what is returned lives.
    pub(crate) fn call(&self) -> Held {
        self.in_flight.hold()
    }

    /// The agent was asked for its health and took so long; `None` if it did not answer.
    pub(crate) fn probed(&self, took: Option<Duration>) {
        let micros = took.map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        self.probe_micros.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn probe(&self) -> Option<Duration> {
        let micros = self.probe_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// A call is over; `None` when its lease was lost.
    pub(crate) fn over(&self, outcome: Option<&TurnOutcome>, took: Duration) {
        self.times.took(took);
        self.answers.one(word(outcome));
    }
}

/// What a call came to, in a word; `None` when its lease was lost.
pub(crate) fn word(outcome: Option<&TurnOutcome>) -> &str {
    match outcome {
        None => "lease_lost",
        Some(TurnOutcome::Completed { .. }) => "answered",
        Some(TurnOutcome::Failed(TurnError { code, .. })) => code,
        Some(TurnOutcome::Cancelled) => "stopped",
        Some(TurnOutcome::RetryAfter(_)) => "busy",
        Some(TurnOutcome::Release) => "given_back",
    }
}

impl Source for AgentCounts {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let in_flight = self.in_flight.get() as f64;
        page.gauge("turnwise_agent_calls_in_flight", "Calls on their way to the agent.", in_flight)?;
        page.counters("turnwise_agent_calls", "Calls that are over.", "answer", self.answers.get())?;
        let up = f64::from(u8::from(self.probe().is_some()));
        page.gauge("turnwise_agent_up", "1 while the agent answers when asked for its health.", up)?;
        page.histogram(
            "turnwise_agent_call_seconds",
            "How long a call took, its stream included.",
            &self.times,
        )
    }
}

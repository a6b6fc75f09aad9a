//! What a scraper is told about callbacks. What waits and what is dead is
//! counted where it is kept, in the broker.

use std::fmt;
use std::time::Duration;

use turnwise_broker::CallbackOutcome;
use turnwise_metrics::{Gauge, Held, Histogram, Page, Source, TIMES, Words};

/// What can become of a callback that was leased.
const OUTCOMES: [&str; 7] =
    ["delivered", "again", "dead", "deferred", "given_back", "lease_lost", "not_stored"];
/// Why one is tried again.
const AGAIN: [&str; 9] =
    ["unreachable", "no_address", "tls", "timeout", "broken", "redirect", "busy", "status_5xx", "other"];
/// Why one was given up.
const DEAD: [&str; 6] =
    ["refused", "attempts_exhausted", "url_refused", "address_refused", "answer_gone", "other"];

/// Counts since this process started.
pub(super) struct CallbackCounts {
    in_flight: Gauge,
    outcomes: Words<7>,
    again: Words<9>,
    dead: Words<6>,
    tries: Histogram,
    delivered: Histogram,
}

impl Default for CallbackCounts {
    fn default() -> CallbackCounts {
        CallbackCounts {
            in_flight: Gauge::default(),
            outcomes: Words::new(OUTCOMES),
            again: Words::new(AGAIN),
            dead: Words::new(DEAD),
            tries: Histogram::of_times(TIMES),
            delivered: Histogram::of_times(TIMES),
        }
    }
}

/// The end of one lease, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    outcome: &'static str,
    class: &'static str,
}

impl Mark {
    /// What became of it. `class` says how the try ended, `may_pass` that this alone is no reason to give it up.
    pub(super) fn of(became: &CallbackOutcome, class: &'static str, may_pass: bool) -> Mark {
        let (outcome, class) = match became {
            CallbackOutcome::Delivered { .. } => ("delivered", class),
            CallbackOutcome::Failed { .. } => ("again", class),
            CallbackOutcome::Dead { .. } if may_pass => ("dead", "attempts_exhausted"),
            CallbackOutcome::Dead { .. } => ("dead", class),
            CallbackOutcome::Deferred { .. } => ("deferred", class),
            CallbackOutcome::Released => ("given_back", class),
        };
        Mark { outcome, class }
    }
}

impl CallbackCounts {
    /// A try is on its way while what is returned lives.
    pub(super) fn begun(&self) -> Held {
        self.in_flight.hold()
    }

    /// A try is over.
    pub(super) fn tried(&self, took: Duration) {
        self.tries.took(took);
    }

    /// The end of a lease is stored; `since` is how long ago the turn ended.
    pub(super) fn settled(&self, mark: Mark, since: Duration) {
        self.outcomes.one(mark.outcome);
        match mark.outcome {
            "delivered" => self.delivered.took(since),
            "again" => self.again.one(mark.class),
            "dead" => self.dead.one(mark.class),
            _ => {}
        }
    }

    /// The lease had been lost: it will be tried again.
    pub(super) fn lost(&self) {
        self.outcomes.one("lease_lost");
    }

    /// The store did not take the end: it will be tried again.
    pub(super) fn not_stored(&self) {
        self.outcomes.one("not_stored");
    }
}

impl Source for CallbackCounts {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let in_flight = self.in_flight.get() as f64;
        page.gauge("turnwise_callbacks_in_flight", "Callbacks on their way to hosts.", in_flight)?;
        let outcomes = "Callbacks that were taken up, by what came of it.";
        page.counters("turnwise_callback_tries", outcomes, "outcome", self.outcomes.get())?;
        let again = "Tries that are repeated.";
        page.counters("turnwise_callbacks_again", again, "reason", self.again.get())?;
        let dead = "Callbacks that were given up.";
        page.counters("turnwise_callbacks_given_up", dead, "reason", self.dead.get())?;
        page.histogram("turnwise_callback_try_seconds", "How long a try took.", &self.tries)?;
        let delivered = "From the end of a turn until its callback was taken.";
        page.histogram("turnwise_callback_delivery_seconds", delivered, &self.delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_that_fails_counts_as_given_up() {
        let failed = CallbackOutcome::Failed { status: None, reason: String::new(), delay: Duration::ZERO };
        let dead = CallbackOutcome::Dead { status: None, reason: String::new() };
        assert_eq!(Mark::of(&failed, "tls", true), Mark { outcome: "again", class: "tls" });
        let last = Mark { outcome: "dead", class: "attempts_exhausted" };
        assert_eq!(Mark::of(&dead, "tls", true), last);
        assert_eq!(Mark::of(&dead, "refused", false), Mark { outcome: "dead", class: "refused" });
    }
}

//! What a scraper is told about turns. Written where the broker keeps its own
//! books, when a step is known to have happened; nothing is decided from it.

use crate::broker::Inner;
use crate::turn::{TurnEnd, TurnState};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use turnwise_core::{Depth, Timestamp};
use turnwise_metrics::{Counter, Histogram, Page, Source, TIMES, Words};

/// How a turn can end: two states, and the codes of those that failed.
const OUTCOMES: [&str; 11] = [
    "completed",
    "cancelled",
    "expired",
    "agent_timeout",
    "agent_unreachable",
    "agent_error",
    "agent_rejected",
    "agent_busy",
    "answer_interrupted",
    "attempts_exhausted",
    "other",
];
/// Why a turn is handed out once more.
const AGAIN: [&str; 3] = ["busy", "released", "lost"];
/// Nothing waits.
const NEVER: i64 = i64::MAX;

/// Counts since this process started.
pub(crate) struct TurnCounts {
    pub(crate) accepted: Counter,
    pub(crate) repeated: Counter,
    pub(crate) again: Words<3>,
    pub(crate) leases_lost: Counter,
    pub(crate) housekeeping_failed: Counter,
    ended: Words<11>,
    waited: Histogram,
    ran: Histogram,
    stages: [AtomicU64; 4],
    oldest: AtomicI64,
    /// Waiting, being tried, and dead.
    callbacks: [AtomicU64; 3],
    oldest_callback: AtomicI64,
    probe_micros: AtomicU64,
}

impl Default for TurnCounts {
    fn default() -> TurnCounts {
        TurnCounts {
            accepted: Counter::default(),
            repeated: Counter::default(),
            again: Words::new(AGAIN),
            leases_lost: Counter::default(),
            housekeeping_failed: Counter::default(),
            ended: Words::new(OUTCOMES),
            waited: Histogram::of_times(TIMES),
            ran: Histogram::of_times(TIMES),
            stages: Default::default(),
            oldest: AtomicI64::new(NEVER),
            callbacks: Default::default(),
            oldest_callback: AtomicI64::new(NEVER),
            probe_micros: AtomicU64::new(0),
        }
    }
}

impl TurnCounts {
    /// A turn's first call begins.
    pub(crate) fn started(&self, waited: Duration) {
        self.waited.took(waited);
    }

    /// A call ended its turn.
    pub(crate) fn ended_by_call(&self, end: &TurnEnd, ran: Duration) {
        self.ran.took(ran);
        self.ended(end.state, end.error.as_ref().map(|error| error.code.as_str()));
    }

    /// A turn is over.
    pub(crate) fn ended(&self, state: TurnState, code: Option<&str>) {
        let word = match state {
            TurnState::Completed => "completed",
            TurnState::Cancelled => "cancelled",
            TurnState::Failed | TurnState::Queued | TurnState::Processing => code.unwrap_or("other"),
        };
        self.ended.one(word);
    }

    /// Turns for which nobody called in time.
    pub(crate) fn expired(&self, turns: u64) {
        self.ended.add("expired", turns);
    }

    /// What all queues hold, added up.
    pub(crate) fn hold(&self, all: &Depth) {
        for (count, now) in self.stages.iter().zip([all.ready, all.scheduled, all.leased, all.dead]) {
            count.store(now, Ordering::Relaxed);
        }
        self.oldest.store(all.oldest_waiting.map_or(NEVER, |at| at.0), Ordering::Relaxed);
    }

    /// Callbacks that wait or are tried, and dead ones, at most a poll interval ago.
    pub(crate) fn callbacks_held(&self) -> (u64, u64) {
        let [waiting, leased, dead] = &self.callbacks;
        let [waiting, leased, dead] = [waiting, leased, dead].map(|count| count.load(Ordering::Relaxed));
        (waiting + leased, dead)
    }

    /// What all queues of callbacks hold, added up.
    pub(crate) fn hold_callbacks(&self, all: &Depth) {
        let now = [all.ready.saturating_add(all.scheduled), all.leased, all.dead];
        for (count, now) in self.callbacks.iter().zip(now) {
            count.store(now, Ordering::Relaxed);
        }
        self.oldest_callback.store(all.oldest_waiting.map_or(NEVER, |at| at.0), Ordering::Relaxed);
    }

    /// The store took so long to say whether it takes new work.
    pub(crate) fn probed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.probe_micros.store(micros, Ordering::Relaxed);
    }
}

/// What a node holds and has done, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Turns that wait for their turn, a slot, or a busy agent.
    pub waiting: u64,
    /// Turns in progress.
    pub in_flight: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// How long the oldest waiting turn has waited.
    pub oldest_waiting: Option<Duration>,
    /// Accepted since this process started.
    pub accepted: u64,
    /// Ended since then, by outcome; in a fixed order.
    pub ended: Vec<(&'static str, u64)>,
    /// Leases lost since then.
    pub leases_lost: u64,
    /// How long the store took to answer last.
    pub store_probe: Duration,
    /// For how long this broker has run.
    pub uptime: Duration,
}

impl Inner {
    pub(crate) fn numbers(&self) -> Numbers {
        let counts = &self.counts;
        let [ready, scheduled, leased, dead] = &counts.stages;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let oldest = Some(counts.oldest.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        Numbers {
            waiting: get(ready) + get(scheduled),
            in_flight: get(leased),
            dead: get(dead),
            oldest_waiting: oldest.map(|at| self.now().since(Timestamp(at))),
            accepted: counts.accepted.get(),
            ended: counts.ended.get().collect(),
            leases_lost: counts.leases_lost.get(),
            store_probe: Duration::from_micros(get(&counts.probe_micros)),
            uptime: self.now().since(self.started_at),
        }
    }
}

impl Source for Inner {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = &self.counts;
        let numbers = self.numbers();
        let [ready, scheduled, leased, dead] = &counts.stages;
        let stages = [("waiting", ready), ("scheduled", scheduled), ("leased", leased), ("dead", dead)]
            .map(|(stage, count)| (stage, count.load(Ordering::Relaxed) as f64));
        let oldest = numbers.oldest_waiting.unwrap_or_default().as_secs_f64();
        page.counter("turnwise_turns_accepted", "Turns stored.", numbers.accepted)?;
        page.counter(
            "turnwise_turns_repeated",
            "Submissions of a turn known before.",
            counts.repeated.get(),
        )?;
        page.counters("turnwise_turns_ended", "Turns that ended.", "outcome", counts.ended.get())?;
        let again = "Turns handed out or put back once more.";
        page.counters("turnwise_turns_again", again, "reason", counts.again.get())?;
        page.histogram("turnwise_turn_wait_seconds", "From stored to the first call.", &counts.waited)?;
        page.histogram("turnwise_turn_run_seconds", "From the last call to the end.", &counts.ran)?;
        page.gauges("turnwise_turns", "Turns held, at most a second ago.", "stage", &stages)?;
        page.gauge("turnwise_oldest_waiting_seconds", "Age of the oldest waiting turn.", oldest)?;
        self.tell_callbacks(page)?;
        self.work.tell(page)?;
        self.checks.tell(page)?;
        self.bus.tell(page)?;
        page.counter("turnwise_leases_lost", "Leases that ended under a call.", numbers.leases_lost)?;
        let conversations = self.counters.lanes.lock().active.len() as f64;
        page.gauge("turnwise_conversations_active", "Conversations that hold turns.", conversations)?;
        let kept = self.counters.ended_kept.load(Ordering::Relaxed) as f64;
        page.gauge("turnwise_turns_kept", "Ended turns that can be read.", kept)?;
        let up = u8::from(self.counters.store_ok.load(Ordering::Relaxed));
        page.gauge("turnwise_store_up", "1 while the store takes new work.", f64::from(up))?;
        let probe = "Time the store took to say so.";
        page.gauge("turnwise_store_probe_seconds", probe, numbers.store_probe.as_secs_f64())?;
        let failed = counts.housekeeping_failed.get();
        page.counter("turnwise_housekeeping_failed", "Rounds that stopped early.", failed)?;
        let published = self.feeds.published.get();
        page.counter("turnwise_topic_events_published", "Events stored in public topics.", published)
    }
}

impl Inner {
    fn tell_callbacks(&self, page: &mut Page<'_>) -> fmt::Result {
        let [waiting, leased, dead] = &self.counts.callbacks;
        let stages = [("waiting", waiting), ("leased", leased), ("dead", dead)]
            .map(|(stage, count)| (stage, count.load(Ordering::Relaxed) as f64));
        page.gauges("turnwise_callbacks", "Callbacks held, at most a second ago.", "stage", &stages)?;
        let oldest = Some(self.counts.oldest_callback.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        let oldest = oldest.map(|at| self.now().since(Timestamp(at))).unwrap_or_default().as_secs_f64();
        let help = "Age of the oldest waiting callback.";
        page.gauge("turnwise_oldest_waiting_callback_seconds", help, oldest)
    }
}

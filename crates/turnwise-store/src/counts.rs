//! What an engine on a server counts about its operations and its connections: the same for every engine.

use crate::clock::Moment;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use turnwise_core::{Operation, StoreError};
use turnwise_metrics::{COMMIT_TIMES, Counter, Gauge, Held, Histogram, Page, Source, Words};

const ERRORS: [&str; 4] = ["unavailable", "unknown", "invalid", "corrupt"];

/// Counters of one store.
#[derive(Debug)]
pub(crate) struct Counts {
    operations: Box<[Histogram]>,
    errors: Words<4>,
    open: Gauge,
    in_use: Gauge,
    /// Most connections that were open at once.
    most: AtomicU64,
    reconnects: Counter,
    connects_failed: Counter,
    waiting: Gauge,
    waits: Histogram,
    losses: Counter,
}

impl Default for Counts {
    fn default() -> Counts {
        let times = || Histogram::of_times(COMMIT_TIMES);
        Counts {
            operations: Operation::ALL.iter().map(|_| times()).collect(),
            errors: Words::new(ERRORS),
            open: Gauge::default(),
            in_use: Gauge::default(),
            most: AtomicU64::new(0),
            reconnects: Counter::default(),
            connects_failed: Counter::default(),
            waiting: Gauge::default(),
            waits: times(),
            losses: Counter::default(),
        }
    }
}

impl Counts {
    /// An operation was answered.
    pub(crate) fn answered(&self, operation: Operation, began: Moment) {
        if let Some(times) = self.operations.get(operation as usize) {
            times.took(began.elapsed());
        }
    }

    /// An operation, or an item of a batch, failed.
    pub(crate) fn failed(&self, error: &StoreError) {
        self.errors.one(match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Unknown(_) => "unknown",
            StoreError::Invalid(_) => "invalid",
            StoreError::Corrupt(_) => "corrupt",
        });
    }

    /// A connection was tried and could not be made.
    pub(crate) fn connect_failed(&self) {
        self.connects_failed.one();
    }

    /// Somebody waits for a connection, until what is returned is dropped.
    pub(crate) fn waits(&self) -> Waiting<'_> {
        Waiting { counts: self, since: Moment::now(), _one: self.waiting.hold() }
    }

    /// The server came back without what it had acknowledged.
    pub(crate) fn lost(&self) {
        self.losses.one();
    }

    /// How often it did.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.get()
    }
}

/// Waits for a connection.
pub(crate) struct Waiting<'a> {
    counts: &'a Counts,
    since: Moment,
    _one: Held,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waits.took(self.since.elapsed());
    }
}

/// A connection as it counts: made, used by some, over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    open: Option<Held>,
    users: u64,
    in_use: Option<Held>,
}

impl Connection {
    /// It can be used from now on, until the last clone is dropped or it is over.
    pub(crate) fn made(&self, counts: &Counts) {
        let mut state = self.0.lock();
        if state.is_over || state.open.is_some() {
            return;
        }
        state.open = Some(counts.open.hold());
        let open = counts.open.get();
        // There were as many before: it takes the place of one that was lost.
        if counts.most.fetch_max(open, Ordering::Relaxed) >= open {
            counts.reconnects.one();
        }
    }

    /// Nothing new goes through it any more.
    pub(crate) fn over(&self) {
        let mut state = self.0.lock();
        (state.is_over, state.open, state.in_use) = (true, None, None);
    }

    /// Somebody uses it, until what is returned is dropped.
    pub(crate) fn used(&self, counts: &Counts) -> Used {
        let mut state = self.0.lock();
        state.users += 1;
        if state.open.is_some() && state.in_use.is_none() {
            state.in_use = Some(counts.in_use.hold());
        }
        Used(self.clone())
    }
}

/// Uses a connection.
pub(crate) struct Used(Connection);

impl Drop for Used {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.users = state.users.saturating_sub(1);
        if state.users == 0 {
            state.in_use = None;
        }
    }
}

impl Source for Counts {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let words = Operation::ALL.iter().map(|operation| operation.word());
        let help = "How long an operation of the store took, with all its waits.";
        page.histograms(
            "turnwise_store_operation_seconds",
            help,
            "operation",
            words.zip(self.operations.iter()),
        )?;
        let help = "Operations of the store, and items of batches, that failed.";
        page.counters("turnwise_store_errors", help, "kind", self.errors.get())?;
        let in_use = self.in_use.get();
        let idle = self.open.get().saturating_sub(in_use);
        let states = [("in_use", in_use as f64), ("idle", idle as f64)];
        page.gauges("turnwise_store_connections", "Connections to the server.", "state", &states)?;
        let help = "Connections that took the place of one that was lost.";
        page.counter("turnwise_store_reconnects", help, self.reconnects.get())?;
        let help = "Connections that could not be made.";
        page.counter("turnwise_store_connects_failed", help, self.connects_failed.get())?;
        let waiting = self.waiting.get() as f64;
        page.gauge("turnwise_store_connection_waiting", "Who waits for a connection.", waiting)?;
        let help = "How long an operation waited for a connection.";
        page.histogram("turnwise_store_connection_wait_seconds", help, &self.waits)?;
        let help = "Times the server came back without what it had acknowledged.";
        page.counter("turnwise_store_losses", help, self.losses())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn numbers(counts: &Counts) -> (u64, u64, u64) {
        (counts.open.get(), counts.in_use.get(), counts.reconnects.get())
    }

    #[test]
    fn a_connection_counts_from_made_to_over_and_what_replaces_it_as_a_reconnect() {
        let counts = Counts::default();
        let (one, two) = (Connection::default(), Connection::default());
        let early = one.used(&counts);
        assert_eq!(numbers(&counts), (0, 0, 0), "nothing is open yet");
        drop(early);
        one.made(&counts);
        two.made(&counts);
        two.made(&counts);
        let (first, second) = (one.used(&counts), one.used(&counts));
        assert_eq!(numbers(&counts), (2, 1, 0));
        drop(first);
        assert_eq!(numbers(&counts), (2, 1, 0), "somebody still uses it");
        one.over();
        assert_eq!(numbers(&counts), (1, 0, 0));
        drop(second);
        one.made(&counts);
        assert_eq!(numbers(&counts), (1, 0, 0), "what is over is over");
        let three = Connection::default();
        three.made(&counts);
        assert_eq!(numbers(&counts), (2, 0, 1));
        drop((two, three));
        assert_eq!(numbers(&counts), (0, 0, 1));
    }

    #[test]
    fn every_operation_and_error_has_a_word_of_its_own() {
        let counts = Arc::new(Counts::default());
        for (at, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, at);
        }
        let text = String::new;
        for error in [
            StoreError::Unavailable(text()),
            StoreError::Unknown(text()),
            StoreError::Invalid(text()),
            StoreError::Corrupt(text()),
        ] {
            counts.failed(&error);
        }
        drop(counts.waits());
        let page = turnwise_metrics::render(&[counts as Arc<dyn Source>]);
        for kind in ERRORS {
            assert!(page.contains(&format!("turnwise_store_errors_total{{kind=\"{kind}\"}} 1\n")), "{page}");
        }
        let waited =
            page.lines().find(|line| line.starts_with("turnwise_store_connection_wait_seconds_count"));
        assert!(waited.unwrap().ends_with(" 1"), "{page}");
    }
}

//! A clock that moves only when a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use turnwise_core::Timestamp;

/// Where every manual clock starts: a whole second in November 2023.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// A clock for engines under test. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}

impl ManualClock {
    /// A clock that shows [`START`].
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock(Arc::new(AtomicI64::new(START.0)))
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    /// Steps backward.
    pub fn step_back(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.set(Timestamp(self.now().0.saturating_sub(micros)));
    }

    /// Shows this time from now on.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }

    /// The clock as an engine takes it.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

//! The only place that asks the operating system for the time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use turnwise_core::Timestamp;

/// Where a store takes its time from; tests pass their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The operating system's clock as it stood when this was called, carried on
/// by the monotonic clock: setting the system's time does not stretch or cut
/// the leases of a running store (clause X4).
#[must_use]
pub fn system_clock() -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (start, anchor) = (Timestamp(0).after(since), Instant::now());
    Arc::new(move || start.after(anchor.elapsed()))
}

/// A moment on the monotonic clock: for waiting and measuring, never stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Moment {
        Moment(Instant::now())
    }

    /// How long ago this moment was.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

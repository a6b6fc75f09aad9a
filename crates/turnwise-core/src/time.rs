//! Points in time as the store counts them. Knows no clock.

use std::time::Duration;

/// Microseconds since the Unix epoch, UTC, on the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every other point in time.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After every other point in time.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// This point plus `by`; saturates.
    #[must_use]
    pub fn after(self, by: Duration) -> Timestamp {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

//! How the messages of one queue are retried, given up on and kept.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use turnwise_core::limits::RETRY_DELAY_MAX;

/// Delays are computed in steps of this many parts.
const PARTS: f64 = 4_294_967_296.0;

/// What holds for the messages of a queue that say nothing else themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkPolicy {
    /// Wait before the second attempt, in seconds.
    pub retry_base_seconds: f64,
    /// Each further wait is so many times the one before.
    pub retry_factor: f64,
    /// And at most this many seconds.
    pub retry_cap_seconds: f64,
    /// A wait is longer or shorter by a random part of at most this much; 0 for none, at most 1.
    pub retry_jitter: f64,
    /// Leases a message may take before it is a dead letter.
    pub max_attempts: u32,
    /// Messages that were not leased in so many seconds expire; none for never.
    pub ttl_seconds: Option<f64>,
    /// Messages in hand at once, over all nodes; none for no limit.
    pub concurrency: Option<u32>,
    /// Messages that each node hands out a second at most; none for no limit.
    pub rate_per_second: Option<f64>,
    /// Messages the queue holds at most, dead letters included, as last counted; none for no limit of its own.
    pub messages_max: Option<u64>,
    /// Dead letters are dropped so many seconds after their message was stored.
    pub dead_seconds: f64,
}

impl Default for WorkPolicy {
    fn default() -> WorkPolicy {
        WorkPolicy {
            retry_base_seconds: 1.0,
            retry_factor: 2.0,
            retry_cap_seconds: 600.0,
            retry_jitter: 0.2,
            max_attempts: 12,
            ttl_seconds: None,
            concurrency: None,
            rate_per_second: None,
            messages_max: None,
            dead_seconds: 14.0 * 86_400.0,
        }
    }
}

impl WorkPolicy {
    /// The wait after this attempt, counted from 1. `random` are 64 random bits.
    pub(super) fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doublings = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let curve = self.retry_base_seconds * self.retry_factor.powi(doublings);
        // What is no number any more is more than the cap.
        let capped =
            if curve.is_finite() { curve.min(self.retry_cap_seconds) } else { self.retry_cap_seconds };
        let part = f64::from((random >> 32) as u32) / PARTS;
        let spread = capped * (1.0 + self.retry_jitter * (2.0 * part - 1.0));
        duration(spread).min(RETRY_DELAY_MAX)
    }

    /// For how long dead letters are kept.
    pub(super) fn dead_for(&self) -> Duration {
        duration(self.dead_seconds)
    }

    /// How long a message waits at most.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.ttl_seconds.map(duration)
    }
}

/// Seconds as a time; what is none is nothing.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread() {
        let policy = WorkPolicy { retry_jitter: 0.0, ..WorkPolicy::default() };
        let seconds: Vec<u64> = (1..=12).map(|attempt| policy.delay(attempt, 7).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(policy.delay(u32::MAX, 7), Duration::from_secs(600));
        let spread = WorkPolicy::default();
        assert_eq!(spread.delay(1, 0), Duration::from_millis(800));
        let most = spread.delay(1, u64::MAX);
        assert!(most > Duration::from_millis(1_199) && most <= Duration::from_millis(1_200), "{most:?}");
        let none = WorkPolicy { retry_base_seconds: 0.0, ..WorkPolicy::default() };
        assert_eq!(none.delay(9, u64::MAX), Duration::ZERO);
    }
}

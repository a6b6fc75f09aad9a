//! The only place that asks the operating system for the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// The time of a server that several nodes share, as far as this node knows it: its own monotonic clock, and by how
/// much the server's was ahead when it was asked last. Leases end by the server's clock, so a node whose own is wrong
/// would think that it holds what another one has, or give up what is its own.
pub(crate) struct ServerClock {
    own: Clock,
    ahead_micros: AtomicI64,
}

impl ServerClock {
    /// As long as nobody has asked, the server's time is taken for our own.
    pub(crate) fn new(own: Clock) -> ServerClock {
        ServerClock { own, ahead_micros: AtomicI64::new(0) }
    }

    /// The server's time now, wrong by at most half of the way there and back when it was asked, and what the two
    /// clocks have drifted apart since.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp((self.own)().0.saturating_add(self.ahead_micros.load(Ordering::Acquire)))
    }

    /// By the node's own clock.
    pub(crate) fn own(&self) -> Timestamp {
        (self.own)()
    }

    /// The server read `told` somewhere between `asked` and `answered` of our own clock. Moves no further than this
    /// proves it wrong: time does not jump with each answer that was slow.
    pub(crate) fn learn(&self, asked: Timestamp, told: Timestamp, answered: Timestamp) {
        let least = told.0.saturating_sub(answered.0);
        let most = told.0.saturating_sub(asked.0).max(least);
        let ahead = self.ahead_micros.load(Ordering::Acquire).clamp(least, most);
        self.ahead_micros.store(ahead, Ordering::Release);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_clock_is_known_within_the_way_there_and_back() {
        let own = Arc::new(AtomicI64::new(1_000));
        let hand = Arc::clone(&own);
        let clock = ServerClock::new(Arc::new(move || Timestamp(hand.load(Ordering::Relaxed))));
        assert_eq!(clock.now(), Timestamp(1_000));
        // An hour ahead: 50 micros between question and answer.
        let hour = 3_600_000_000;
        clock.learn(Timestamp(1_000), Timestamp(hour + 1_030), Timestamp(1_050));
        own.store(1_050, Ordering::Relaxed);
        let known = clock.now().0 - hour;
        assert!((1_030..=1_080).contains(&known), "{known}");
        // A slow answer that agrees moves nothing, a quick one narrows it down, one that is behind turns it back.
        clock.learn(Timestamp(2_000), Timestamp(hour + 5_000), Timestamp(9_000));
        assert_eq!(clock.now().0 - hour, known);
        clock.learn(Timestamp(9_000), Timestamp(hour + 9_000), Timestamp(9_000));
        assert_eq!(clock.now().0, hour + 1_050);
        clock.learn(Timestamp(9_000), Timestamp(8_000), Timestamp(9_010));
        assert_eq!(clock.now().0, 50);
    }
}

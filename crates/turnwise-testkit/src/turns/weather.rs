//! What happens to a node from outside: freezes, a store that fails, a store
//! whose process dies; and the clock that all of them share.

use super::lock;
use crate::clock::{ManualClock, START};
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use turnwise_core::Timestamp;

/// The store's time: the runtime's paused time, and jumps.
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
    jumped_micros: AtomicI64,
    shown: ManualClock,
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock { origin: Instant::now(), jumped_micros: AtomicI64::new(0), shown: ManualClock::new() }
    }
}

impl SimClock {
    /// The time now; inside the runtime only.
    pub fn now(&self) -> Timestamp {
        let jumped = self.jumped_micros.load(Ordering::SeqCst);
        let now = Timestamp(START.after(self.origin.elapsed()).0.saturating_add(jumped));
        self.shown.set(now);
        now
    }

    /// Microseconds since the start, without jumps.
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Moves it by so many microseconds, ahead or back.
    pub fn jump(&self, micros: i64) {
        self.jumped_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// What a store on another thread reads: the time of the latest [`SimClock::now`].
    #[must_use]
    pub fn shown(&self) -> &ManualClock {
        &self.shown
    }
}

/// What one node has to live with.
#[derive(Debug, Default)]
pub struct Weather {
    frozen: AtomicBool,
    dead: AtomicBool,
    fault_percent: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Weather {
    /// Cuts the node off from store and agents, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
        lock(&self.waiting).drain(..).for_each(Waker::wake);
    }

    /// The node is gone; what it left open closes.
    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.freeze(false);
    }

    /// Whether it is gone.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// How many of 100 operations of the store fail from now on.
    pub fn set_faults(&self, percent: u64) {
        self.fault_percent.store(percent, Ordering::SeqCst);
    }

    pub(super) fn fault_percent(&self) -> u64 {
        self.fault_percent.load(Ordering::SeqCst)
    }

    /// Ready unless the node is frozen.
    pub fn poll_awake(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.frozen.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        lock(&self.waiting).push(context.waker().clone());
        Poll::Pending
    }

    /// Waits while the node is frozen.
    pub async fn awake(&self) {
        poll_fn(|context| self.poll_awake(context)).await;
    }
}

/// Whether the store's process lives.
#[derive(Debug, Default)]
pub struct Power {
    out: AtomicBool,
    told: Notify,
}

impl Power {
    /// The process dies now. Any thread may say so.
    pub fn cut(&self) {
        self.out.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Whether it is dead.
    pub fn is_out(&self) -> bool {
        self.out.load(Ordering::SeqCst)
    }

    /// Waits for its death, but no longer than this.
    pub async fn wait(&self, limit: Duration) {
        if !self.is_out() {
            let _ = tokio::time::timeout(limit, self.told.notified()).await;
        }
    }
}

//! What the owner thread measures about itself.

use super::config::COMMITS_MEASURED;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations of the latest commits.
#[derive(Debug, Default)]
pub(super) struct Stats {
    commits: Mutex<VecDeque<Duration>>,
    live_bytes: AtomicU64,
}

impl Stats {
    pub(super) fn committed(&self, took: Duration, live_bytes: u64) {
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        let mut commits = self.commits.lock();
        if commits.len() >= COMMITS_MEASURED {
            commits.pop_front();
        }
        commits.push_back(took);
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn commit_p50(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.commits.lock().iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

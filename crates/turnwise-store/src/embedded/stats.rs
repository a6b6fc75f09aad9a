//! What the owner thread measures about itself.

use super::config::COMMITS_MEASURED;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use turnwise_metrics::{COMMIT_TIMES, Histogram, ITEMS, Page, Source};

/// How the store is, by the place of its name in [`CONDITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Open = 0,
    Full = 1,
    Corrupt = 2,
    Stopped = 3,
}

const CONDITIONS: [&str; 4] = ["open", "full", "corrupt", "stopped"];

/// Durations of the latest commits, and counts of all.
#[derive(Debug)]
pub(super) struct Stats {
    commits: Mutex<VecDeque<Duration>>,
    live_bytes: AtomicU64,
    times: Histogram,
    operations: Histogram,
    condition: AtomicUsize,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            commits: Mutex::default(),
            live_bytes: AtomicU64::new(0),
            times: Histogram::of_times(COMMIT_TIMES),
            operations: Histogram::of_items(ITEMS),
            condition: AtomicUsize::new(Condition::Open as usize),
        }
    }
}

impl Stats {
    /// A commit answered so many operations.
    pub(super) fn committed(&self, took: Duration, operations: usize, live_bytes: u64) {
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        self.times.took(took);
        self.operations.record(operations as u64);
        let mut commits = self.commits.lock();
        if commits.len() >= COMMITS_MEASURED {
            commits.pop_front();
        }
        commits.push_back(took);
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_now(&self, condition: Condition) {
        self.condition.store(condition as usize, Ordering::Relaxed);
    }

    pub(super) fn commit_p50(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.commits.lock().iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

impl Source for Stats {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let now = self.condition.load(Ordering::Relaxed);
        let is = |at: usize| f64::from(u8::from(at == now));
        let conditions: Vec<(&str, f64)> =
            CONDITIONS.iter().enumerate().map(|(at, name)| (*name, is(at))).collect();
        page.histogram("turnwise_store_commit_seconds", "How long a commit took.", &self.times)?;
        let help = "Operations answered by one commit.";
        page.histogram("turnwise_store_commit_operations", help, &self.operations)?;
        let live = self.live_bytes() as f64;
        page.gauge("turnwise_store_live_bytes", "Bytes kept, as of the last commit.", live)?;
        page.gauges("turnwise_store_condition", "1 for how the store is.", "condition", &conditions)
    }
}

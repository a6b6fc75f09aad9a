//! What is counted with: a few atomics each, no locks, nothing allocated on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds for what people wait for, in microseconds: 1 ms to 1 h.
pub const TIMES: &[u64] = &[
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];
/// Upper bounds for what a disk does, in microseconds: 50 µs to 10 s.
pub const COMMIT_TIMES: &[u64] =
    &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 10_000_000];
/// Upper bounds for how many at once.
pub const ITEMS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are just now.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// One more, until what is returned is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(&self.0))
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Counts as one in its [`Gauge`].
#[derive(Debug)]
pub struct Held(Arc<AtomicU64>);

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever sees that it is gone sees what was counted before.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// One counter for each word of a fixed list.
#[derive(Debug)]
pub struct Words<const N: usize> {
    words: [&'static str; N],
    counts: [Counter; N],
}

impl<const N: usize> Words<N> {
    /// Counters at zero. The last word takes what is none of the others.
    #[must_use]
    pub fn new(words: [&'static str; N]) -> Words<N> {
        Words { words, counts: std::array::from_fn(|_| Counter::default()) }
    }

    /// One more of this word.
    pub fn one(&self, word: &str) {
        self.add(word, 1);
    }

    /// So many more of this word.
    pub fn add(&self, word: &str, more: u64) {
        let at = self.words.iter().position(|known| *known == word).unwrap_or(N.saturating_sub(1));
        if let Some(count) = self.counts.get(at) {
            count.add(more);
        }
    }

    /// Each word and its count.
    pub fn get(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.words.into_iter().zip(self.counts.iter().map(Counter::get))
    }
}

/// How long things took, or how many came at once, by upper bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// Raw units in one of the unit that is shown.
    scale: f64,
}

impl Histogram {
    /// Of times, shown in seconds; the bounds are microseconds.
    #[must_use]
    pub fn of_times(bounds: &'static [u64]) -> Histogram {
        Histogram::new(bounds, 1e6)
    }

    /// Of how many at once.
    #[must_use]
    pub fn of_items(bounds: &'static [u64]) -> Histogram {
        Histogram::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0), scale }
    }

    /// One that took so long.
    pub fn took(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// One of this size.
    pub fn record(&self, raw: u64) {
        let at = self.bounds.partition_point(|bound| *bound < raw);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(raw, Ordering::Relaxed);
    }

    /// The sum, and each upper bound with how many lie under it and above the one before.
    pub(crate) fn snapshot(&self) -> (f64, Vec<(f64, u64)>) {
        let scaled = |raw: u64| raw as f64 / self.scale;
        let bounds = self.bounds.iter().map(|bound| scaled(*bound)).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        (scaled(self.sum.load(Ordering::Relaxed)), bounds.zip(counts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_under_the_first_bound_that_holds_it() {
        let times = Histogram::of_times(&[1_000, 5_000]);
        for micros in [1, 1_000, 1_001, 5_000, 5_001, u64::from(u32::MAX)] {
            times.took(Duration::from_micros(micros));
        }
        let (_, buckets) = times.snapshot();
        assert_eq!(buckets, [(0.001, 2), (0.005, 2), (f64::INFINITY, 2)]);
    }

    #[test]
    fn a_word_that_is_not_on_the_list_counts_as_the_last() {
        let words = Words::new(["done", "failed", "other"]);
        ["done", "x", "done", "y"].iter().for_each(|word| words.one(word));
        assert_eq!(words.get().collect::<Vec<_>>(), [("done", 2), ("failed", 0), ("other", 2)]);
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let gauge = Gauge::default();
        let (one, two) = (gauge.hold(), gauge.hold());
        assert_eq!(gauge.get(), 2);
        drop((one, two));
        assert_eq!(gauge.get(), 0);
    }
}

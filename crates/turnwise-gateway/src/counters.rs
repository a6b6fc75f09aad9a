//! What the inbound side counts, for whoever watches it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use turnwise_metrics::{Page, Source};

/// Counts since the start; each only grows, but for `connections`.
#[derive(Debug, Default)]
pub struct Counters {
    panics: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
    crowded: AtomicU64,
    refused: AtomicU64,
    stalled: AtomicU64,
}

impl Counters {
    /// Handlers and connections that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Connections being served.
    #[must_use]
    pub fn connections(&self) -> u64 {
        let closed = self.closed.load(Ordering::Acquire);
        self.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Connections that were turned away because there were too many.
    #[must_use]
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Requests that were refused for their form before anything else was looked at.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections given up because the client had stopped reading.
    #[must_use]
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.crowded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn was_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn has_stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection until the answer is dropped.
    pub(crate) fn open(self: &std::sync::Arc<Counters>) -> Open {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Open(std::sync::Arc::clone(self))
    }
}

impl Source for Counters {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("turnwise_http_connections", "Connections open.", self.connections() as f64)?;
        let accepted = self.opened.load(Ordering::Relaxed);
        page.counter("turnwise_http_connections_accepted", "Connections accepted.", accepted)?;
        page.counter("turnwise_http_connections_crowded", "Turned away: too many.", self.crowded())?;
        page.counter(
            "turnwise_http_connections_stalled",
            "Given up: the client read nothing.",
            self.stalled(),
        )?;
        page.counter("turnwise_http_requests_malformed", "Refused for their form.", self.refused())?;
        page.counter("turnwise_panics", "Handlers and connections that panicked.", self.panics())
    }
}

/// A connection being served.
pub(crate) struct Open(std::sync::Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Release);
    }
}

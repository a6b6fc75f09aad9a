//! What the inbound side counts, for whoever watches it.

use std::fmt;
use turnwise_metrics::{Counter, Gauge, Held, Page, Source};

/// Counts since the start; each only grows, but for `connections`.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) panics: Counter,
    accepted: Counter,
    connections: Gauge,
    pub(crate) crowded: Counter,
    pub(crate) refused: Counter,
    pub(crate) stalled: Counter,
}

impl Counters {
    /// Handlers and connections that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Connections that are open: those being served, and those that are told that there are too many.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// Connections that were turned away because there were too many.
    #[must_use]
    pub fn crowded(&self) -> u64 {
        self.crowded.get()
    }

    /// Requests that were refused for their form before anything else was looked at.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Connections given up because the client had stopped reading.
    #[must_use]
    pub fn stalled(&self) -> u64 {
        self.stalled.get()
    }

    /// Counts a connection as open until the answer is dropped.
    pub(crate) fn open(&self) -> Held {
        self.accepted.one();
        self.connections.hold()
    }
}

impl Source for Counters {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("turnwise_http_connections", "Connections open.", self.connections() as f64)?;
        let accepted = self.accepted.get();
        page.counter("turnwise_http_connections_accepted", "Connections opened.", accepted)?;
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

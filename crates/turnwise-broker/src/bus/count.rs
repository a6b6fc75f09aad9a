//! What the bus counts.

use super::view::BusSettled;
use std::fmt;
use turnwise_metrics::{Counter, Page};

#[derive(Default)]
pub(crate) struct BusCounts {
    /// Messages that were sent, repeats among them.
    pub(super) sent: Counter,
    /// Put into inboxes.
    pub(super) queued: Counter,
    /// Refused for one recipient.
    pub(super) bounced: Counter,
    /// Handed out of inboxes.
    pub(super) delivered: Counter,
    /// Told live to connections.
    pub(super) live: Counter,
    /// Settled by agents.
    settled: Counter,
    /// Gaps in what is told live.
    pub(super) missed: Counter,
}

impl BusCounts {
    pub(super) fn settled(&self, answer: &BusSettled) {
        if *answer == BusSettled::Done {
            self.settled.one();
        }
    }

    pub(crate) fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("turnwise_bus_sent", "Messages sent between agents.", self.sent.get())?;
        page.counter("turnwise_bus_queued", "Of these, put into inboxes.", self.queued.get())?;
        page.counter("turnwise_bus_bounced", "Not taken for a recipient.", self.bounced.get())?;
        page.counter("turnwise_bus_delivered", "Handed out of inboxes.", self.delivered.get())?;
        page.counter("turnwise_bus_live", "Told live to connections.", self.live.get())?;
        page.counter("turnwise_bus_settled", "Settled by agents.", self.settled.get())?;
        page.counter(
            "turnwise_bus_missed",
            "Times a node was too far behind what is told live.",
            self.missed.get(),
        )
    }
}

//! What a scraper is told about work queues: sums over all of them, never a
//! queue's name.

use super::Work;
use std::fmt;
use turnwise_metrics::{Counter, Page, Words};

/// How a lease ends.
const OUTCOMES: [&str; 5] = ["ack", "retry", "release", "dead", "lease_lost"];

/// Counts since this process started.
pub(crate) struct WorkCounts {
    pub(super) sent: Counter,
    pub(super) repeated: Counter,
    pub(super) claimed: Counter,
    pub(super) settled: Words<5>,
    pub(super) returned: Counter,
}

impl Default for WorkCounts {
    fn default() -> WorkCounts {
        WorkCounts {
            sent: Counter::default(),
            repeated: Counter::default(),
            claimed: Counter::default(),
            settled: Words::new(OUTCOMES),
            returned: Counter::default(),
        }
    }
}

impl Work {
    pub(crate) fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = &self.counts;
        page.counter("turnwise_queue_messages_sent", "Messages stored in queues.", counts.sent.get())?;
        let repeated = "Messages that were stored before, by their dedup key.";
        page.counter("turnwise_queue_messages_repeated", repeated, counts.repeated.get())?;
        let claimed = "Messages handed out under a lease.";
        page.counter("turnwise_queue_messages_claimed", claimed, counts.claimed.get())?;
        let settled = "Leases that were settled, by how; lease_lost changed nothing.";
        page.counters("turnwise_queue_messages_settled", settled, "outcome", counts.settled.get())?;
        let returned = "Messages handed out to somebody who had gone, and given back.";
        page.counter("turnwise_queue_messages_returned", returned, counts.returned.get())?;
        let sums = self.levels.sums();
        let stages = [
            ("ready", sums.ready as f64),
            ("scheduled", sums.scheduled as f64),
            ("leased", sums.leased as f64),
            ("dead", sums.dead as f64),
        ];
        page.gauges("turnwise_queue_messages", "Messages in queues, as last counted.", "stage", &stages)?;
        page.gauge("turnwise_queues", "Queues that hold messages.", sums.queues as f64)?;
        page.gauge("turnwise_queues_waited_for", "Queues that somebody waits for.", self.bells.len() as f64)
    }
}

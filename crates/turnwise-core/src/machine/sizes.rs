//! How much a machine holds, for tests of what is left behind.

use super::Machine;
use super::index::Queue;
use super::topics::{Topic, Topics};

impl Machine {
    /// How many of each thing are in memory. What grows with the number of organisations alone is left out.
    #[doc(hidden)]
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        // Without `..`: a new field has to be thought of here.
        let Machine {
            meta: _,
            last_seq: _,
            last_token: _,
            queues,
            entries,
            due,
            leases,
            expiring,
            dedup,
            topics,
            changes,
            hinted_queues,
            hinted_topics,
        } = self;
        let Topics { by_name, by_seq, keep, cursors, dropped: _ } = topics;
        let sum = |of: fn(&Queue) -> usize| queues.values().map(of).sum();
        let chunks = |topic: &Topic| topic.chunks.len();
        let (dedup_hashes, dedup_ends) = dedup.sizes();
        vec![
            ("messages", entries.len()),
            ("due", due.len()),
            ("leases", leases.len()),
            ("expiring", expiring.len()),
            ("lanes", sum(|queue| queue.lanes.len())),
            ("scheduled lanes", sum(Queue::scheduled_lanes)),
            ("claimable", sum(|queue| queue.claimable.len())),
            ("members", sum(|queue| queue.members.iter().map(|stage| stage.len()).sum())),
            ("dedup hashes", dedup_hashes),
            ("dedup ends", dedup_ends),
            ("topics", by_name.len()),
            ("chunks", by_name.values().map(chunks).sum()),
            ("chunks by place", by_seq.len()),
            ("ends of topics", keep.len()),
            ("cursors", cursors.len()),
            ("changes", changes.len()),
            ("hinted queues", hinted_queues.len()),
            ("hinted topics", hinted_topics.len()),
        ]
    }
}

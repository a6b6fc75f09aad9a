//! How much a broker holds in memory, for tests of what is left behind.

use crate::broker::{Broker, Inner};

impl Broker {
    /// How many of each thing are kept for turns and conversations. What grows with the number of
    /// organisations alone is left out.
    #[doc(hidden)]
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        // Without `..`: a new field has to be thought of here.
        let Inner {
            store: _,
            config: _,
            nonce: _,
            clock: _,
            started_at: _,
            orgs: _,
            local,
            running,
            ring: _,
            callback_ring: _,
            callbacks_in_hand,
            counters,
            counts: _,
            // A fixed number of each.
            checks: _,
            board: _,
            groups,
            feeds: _,
            // As many as were used last, however many there are.
            streams: _,
            work,
            bus,
        } = self.0.as_ref();
        let lanes = counters.lanes.lock();
        let mut all = vec![
            ("running turns", running.lock().len()),
            ("callbacks in hand", callbacks_in_hand.len()),
            ("active conversations", lanes.active.len()),
            ("conversations to look up", lanes.maybe_idle.len()),
            ("queues waited for", work.bells.len()),
            ("queues handed out at a rate", work.paces.len()),
            ("agents' connections", bus.links()),
        ];
        drop(lanes);
        all.extend(local.sizes());
        all.extend(groups.sizes());
        all
    }
}

//! How often each thing happened that the simulation is there for. A run in
//! which one never happened proves nothing about it.

use crate::tally;
use crate::trial::Verdict;
use std::fmt;

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident = $name:literal),* $(,)?) => {
        /// One number per thing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $field: u64),* }

        impl Counts {
            /// Adds another run's counts.
            pub fn add(&mut self, other: &Counts) {
                $(self.$field += other.$field;)*
            }

            /// Each count with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field)),*]
            }
        }
    };
}

counts! {
    /// Histories.
    seeds = "seeds",
    /// Events the history drew.
    events = "events",
    /// Operations of the store.
    operations = "store operations",
    /// Turns accepted.
    accepted = "turns accepted",
    /// Calls that reached an agent.
    calls = "agent calls",
    /// Turns that ended with an answer.
    completed = "turns completed",
    /// The store's process died.
    crashes = "crashes",
    /// It died with writes that were not synced.
    crashes_with_unsynced = "crashes with unsynced writes",
    /// One node died, the store lived on.
    node_crashes = "node crashes",
    /// A node was drained and started again.
    drains = "drains",
    /// A node stood still.
    freezes = "freezes",
    /// The store's clock jumped ahead.
    clock_ahead = "clock jumps ahead",
    /// The store's clock stepped back.
    clock_back = "clock steps back",
    /// A lease ran out and its message was handed out again.
    lapsed = "lapsed leases",
    /// A settle or an extend came too late and was told so.
    stale = "refused stale tokens",
    /// A repeated submission was recognised.
    dedup = "dedup hits",
    /// A repeated submission with other content was refused.
    conflicts = "dedup conflicts",
    /// A full conversation refused a submission.
    lane_full = "depth limit reached",
    /// A reader was told that events are missing.
    gaps = "gaps",
    /// A turn was given up on and kept.
    dead = "dead letters",
    /// A turn waited for a busy agent.
    retries = "retries",
    /// A waiting turn was taken back.
    cancels = "cancels",
    /// A running turn was asked to stop.
    stops = "stops",
    /// A reader left before the end.
    cuts = "readers cut",
    /// A reader went on from where another had left.
    resumes = "readers resumed",
    /// An operation of the store failed, or its answer was lost.
    store_faults = "store faults",
    /// A connection to an agent was refused.
    closed_port = "closed ports",
    /// An answer was garbage, or broke off.
    broken_answers = "broken answers",
    /// An agent that did not answer in time.
    hangs = "hanging agents",
    /// A call ran beside another one whose lease was over.
    overtaken = "calls beside a lapsed one",
}

impl Counts {
    /// Fails if anything never happened.
    ///
    /// # Errors
    /// The name of the count that is zero.
    pub fn require_all(&self) -> Verdict {
        tally::require_all(self.named())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tally::show(f, self.named())
    }
}

//! Deliberate faults of the store's machine, one at a time: the whole way of a turn must show them.

use crate::{alone, tell, world};
use std::panic::{AssertUnwindSafe, catch_unwind};
use turnwise_core::machine::mutants::{Mutant, set};

/// Seeds after which a fault counts as missed.
const SEEDS: u64 = 12;
/// Where they begin for a fault that needs a rare thing: that a node freezes just between a look at its lease and an
/// append, for longer than the lease. Of the first seeds this one is it.
const APPEND_AFTER_A_FREEZE: u64 = 174;

/// Faults that no turn can meet: it has no priority, no schedule and no
/// subscription, nobody redrives it, its answers are shorter than a page, and
/// its attempts are counted by the broker.
/// A cancel looks before it removes, and seldom finds that the turn failed in
/// between. The last five change when something happens or how a turn ends, and the
/// simulation judges neither: no turn gets old enough to expire in it, and a
/// stop may always come too late. The suite of the store finds all of them.
const OUT_OF_REACH: [Mutant; 13] = [
    Mutant::PriorityIgnored,
    Mutant::AttemptsIgnored,
    Mutant::RedriveKeepsAttempts,
    Mutant::CursorGoesBack,
    Mutant::PageUnbounded,
    Mutant::DeadRemovedAgain,
    Mutant::DueJumpsQueue,
    Mutant::ExpiredLeased,
    Mutant::AtEndForgotten,
    Mutant::EndedUnnamed,
    Mutant::DelayIgnored,
    Mutant::ReleaseCounts,
    Mutant::StopLost,
];

/// The first seed that shows the fault, and what it shows.
fn noticed(mutant: Mutant) -> Option<(u64, String)> {
    let first = if mutant == Mutant::AppendUnfenced { APPEND_AFTER_A_FREEZE } else { 1 };
    (first..first + SEEDS).find_map(|seed| match catch_unwind(AssertUnwindSafe(|| world::run(seed))) {
        Ok(outcome) => outcome.broken.into_iter().next().map(|broken| (seed, broken)),
        Err(_) => Some((seed, "panic".to_owned())),
    })
}

#[test]
fn deliberate_faults_are_noticed() {
    let _alone = alone();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutant in Mutant::ALL.iter().filter(|mutant| !OUT_OF_REACH.contains(mutant)) {
        set(Some(*mutant));
        match noticed(*mutant) {
            Some((seed, broken)) => {
                let line: String = broken.chars().take(120).collect();
                tell(&format!("{:<24}seed {seed:<4}{line}\n", mutant.name()));
            }
            None => {
                tell(&format!("{:<24}-\n", mutant.name()));
                missed.push(mutant.name());
            }
        }
        set(None);
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

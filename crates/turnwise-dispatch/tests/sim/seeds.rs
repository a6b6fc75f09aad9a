//! Many seeds, or one; each must be clean, and together they must have met
//! everything the simulation is there for.

use crate::world::{self, Outcome};
use crate::{alone, tell};
use std::time::Instant;
use turnwise_testkit::model::SEED_ENV;
use turnwise_testkit::turns::Counts;

/// Threads, each with its own seeds.
const THREADS: u64 = 2;
/// Seeds without `TURNWISE_SIM_TURN_SEEDS`.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn told(seed: u64, outcome: &Outcome) -> String {
    format!("{SEED_ENV}={seed}:\n  {}\n", outcome.broken.join("\n  "))
}

/// Every share-th seed from `first` on; the counts, and the seeds that broke.
fn run_share(first: u64, last: u64) -> (Counts, Vec<u64>) {
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for seed in (first..=last).step_by(usize::try_from(THREADS).unwrap()) {
        let outcome = world::run(seed);
        counts.add(&outcome.counts);
        if !outcome.broken.is_empty() {
            tell(&told(seed, &outcome));
            broken.push(seed);
        }
    }
    (counts, broken)
}

#[test]
fn turns_keep_every_promise() {
    let _alone = alone();
    if let Some(seed) = number(SEED_ENV) {
        let outcome = world::run(seed);
        tell(&format!("\n{}\n{}", outcome.story, outcome.counts));
        assert!(outcome.broken.is_empty(), "{}", told(seed, &outcome));
        return;
    }
    let last = number("TURNWISE_SIM_TURN_SEEDS").unwrap_or(SEEDS);
    let started = Instant::now();
    let threads: Vec<_> =
        (1..=THREADS).map(|first| std::thread::spawn(move || run_share(first, last))).collect();
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for thread in threads {
        let (part, seeds) = thread.join().unwrap();
        counts.add(&part);
        broken.extend(seeds);
    }
    tell(&format!("\n{counts}{:<32}{:>12.1}\n", "seconds", started.elapsed().as_secs_f64()));
    assert!(broken.is_empty(), "broken seeds, each can be run again with {SEED_ENV}: {broken:?}");
    counts.require_all().unwrap();
}

#[test]
fn a_seed_tells_everything() {
    let _alone = alone();
    for seed in 1..=3 {
        let (first, second) = (world::run(seed), world::run(seed));
        // How often a reader looks depends on threads; what happens does not.
        assert!(first.story == second.story, "seed {seed} went two ways");
    }
}

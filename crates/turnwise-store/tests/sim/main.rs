//! The bare machine over a faulty disk, many seeds on two threads.
//!
//! `TURNWISE_SIM_SEEDS` says how many; `TURNWISE_SEED` runs just one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::time::Instant;
use turnwise_testkit::model::SEED_ENV;
use turnwise_testkit::sim::{Counts, run, run_seed};

/// Operations of one seed, the final drain not counted.
const STEPS: u32 = 50;
/// Threads, each with its own seeds.
const THREADS: u64 = 2;
/// Seeds without `TURNWISE_SIM_SEEDS`.
const SEEDS: u64 = if cfg!(debug_assertions) { 3_000 } else { 200_000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn simulation_keeps_every_invariant() {
    if let Some(seed) = number(SEED_ENV) {
        match run_seed(seed, STEPS) {
            Ok(counts) => println!("{counts}"),
            Err(broken) => panic!("{broken}"),
        }
        return;
    }
    let seeds = number("TURNWISE_SIM_SEEDS").unwrap_or(SEEDS).max(THREADS);
    let started = Instant::now();
    let share = seeds / THREADS;
    let threads: Vec<_> =
        (0..THREADS).map(|n| std::thread::spawn(move || run(1 + n * share, share, STEPS))).collect();
    let mut counts = Counts::default();
    for thread in threads {
        match thread.join().unwrap() {
            Ok(part) => counts.add(&part),
            Err(broken) => panic!("{broken}"),
        }
    }
    let told = format!("\n{counts}{:<32}{:>12.1}\n", "seconds", started.elapsed().as_secs_f64());
    let _ = std::io::stderr().write_all(told.as_bytes());
    counts.require_all().unwrap();
}

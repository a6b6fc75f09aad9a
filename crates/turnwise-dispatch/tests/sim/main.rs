//! The whole way of a turn over a store that crashes, nodes that freeze and
//! agents that misbehave: many seeds on two threads.
//!
//! `TURNWISE_SIM_TURN_SEEDS` says how many; `TURNWISE_SEED` runs just one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod disk;
mod judge;
mod mutants;
mod node;
mod people;
mod pipe;
#[path = "../../../turnwise-store/tests/conformance/power_cut.rs"]
#[allow(dead_code, reason = "shared with the suite of the store")]
mod power_cut;
mod seeds;
mod world;

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A deliberate fault is on for the whole process: whoever holds this is alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Past the capture of test output: the table is what this run is for.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

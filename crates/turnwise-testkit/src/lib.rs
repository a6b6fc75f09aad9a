//! Conformance suite and fault tools, for tests only.
//!
//! The clauses of `docs/semantics.md` as named checks, a naive model driven by
//! random histories, a simulation of the machine over a faulty disk, and the
//! parts of one of the whole way of a turn.

pub mod clauses;
pub mod clock;
pub mod faulty;
pub mod harness;
pub mod model;
#[cfg(debug_assertions)]
pub mod mutants;
pub mod prng;
pub mod proxy;
pub mod report;
pub mod servers;
pub mod sim;
mod tally;
pub mod trial;
pub mod turns;

pub use clock::ManualClock;
pub use harness::Harness;
pub use prng::Prng;
pub use proxy::{Cut, Flow, Passed, Proxy};
pub use trial::{Broken, Trial, Verdict};

//! Every deliberate fault must be noticed. One switch for the whole process,
//! so this binary runs one test and nothing beside it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "a test may panic; engines are shared"
)]

#[path = "../conformance/engines.rs"]
mod engines;
#[path = "../conformance/power_cut.rs"]
mod power_cut;

use engines::PowerCut;
use std::io::Write as _;
use turnwise_testkit::Harness;
use turnwise_testkit::mutants::{run, run_all};

/// Messages for clause Q17 here: no fault is about size.
const BACKLOG: usize = 2_000;

#[test]
fn every_mutant_is_caught() {
    let harness = || Box::new(PowerCut::with_backlog(BACKLOG)) as Box<dyn Harness>;
    std::panic::set_hook(Box::new(|_| {}));
    let sound = run(None, &harness);
    // Past the capture of test output: the table is what this run is for.
    let tell = |line: &str| {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    };
    let all = run_all(&harness, &tell);
    let _ = std::panic::take_hook();
    let missed: Vec<_> =
        all.iter().filter(|caught| !caught.by_any()).map(|caught| caught.mutant.name()).collect();
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
    assert_eq!(sound, (Vec::new(), false, false), "without a fault everything holds");
}

//! Every deliberate fault must be noticed. A fault is on for a whole process, so each has one of its own: this program
//! again, told by `TURNWISE_MUTANT` which.

#![cfg(debug_assertions)]
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
use std::collections::VecDeque;
use std::io::Write as _;
use std::process::{Command, Output};
use std::sync::Mutex;
use turnwise_store::mutants::Mutant;
use turnwise_testkit::Harness;
use turnwise_testkit::mutants::{Caught, line, run};

/// Says which fault is on in this process.
const MUTANT_ENV: &str = "TURNWISE_MUTANT";
/// What it says where none is.
const SOUND: &str = "none";
/// Messages for clause Q17 here: no fault is about size.
const BACKLOG: usize = 2_000;
/// Processes for each processor: half of the time they wait for a disk.
const PER_PROCESSOR: usize = 2;

/// Past the capture of test output: the table is what this run is for.
fn tell(text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}

fn caught(mutant: Option<Mutant>) -> Caught {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = run(mutant, &|| Box::new(PowerCut::with_backlog(BACKLOG)) as Box<dyn Harness>);
    let _ = std::panic::take_hook();
    caught
}

/// This process is one of those with a fault.
fn one(name: &str) {
    if name == SOUND {
        assert_eq!(caught(None), Caught::default(), "without a fault everything holds");
        return;
    }
    let mutant = Mutant::named(name).expect("a fault of this name");
    let caught = caught(Some(mutant));
    tell(format!("{}\n", line(mutant, &caught)).as_bytes());
    assert!(caught.by_any(), "nobody noticed {name}");
}

fn process(test: &str, name: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(MUTANT_ENV, name).output().unwrap()
}

#[test]
fn every_mutant_is_caught() {
    if let Ok(name) = std::env::var(MUTANT_ENV) {
        return one(&name);
    }
    let names: VecDeque<_> = std::iter::once(SOUND).chain(Mutant::ALL.iter().map(|one| one.name())).collect();
    let (names, failed) = (Mutex::new(names), Mutex::new(Vec::new()));
    let at_once = PER_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let next = || names.lock().unwrap().pop_front();
                while let Some(name) = next() {
                    let ended = process("every_mutant_is_caught", name);
                    tell(&ended.stderr);
                    // Where nothing of that name ran, all is well too.
                    let ran = String::from_utf8_lossy(&ended.stdout).contains("1 passed");
                    if !ran || !ended.status.success() {
                        tell(&ended.stdout);
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "not noticed, or noticed without a fault: {failed:?}");
}

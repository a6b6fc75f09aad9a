//! Runs clauses, histories and simulation with one deliberate fault on, and
//! tells who noticed. A fault nobody notices means a rule nobody checks.

use crate::clauses::ALL;
use crate::harness::Harness;
use crate::trial::Ran;
use crate::{model, report, sim};
use std::time::Duration;
use turnwise_core::machine::mutants::{Mutant, set};

/// A clause that takes longer counts as broken: the fault made it hang.
const CLAUSE_MAX: Duration = Duration::from_secs(60);
/// Histories and steps against the engine.
const HISTORIES: (u64, u32) = (8, 60);
/// Seeds and steps of the simulation.
const SIMULATION: (u64, u32) = (200, 50);

/// Who noticed a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Clauses that were broken, short.
    pub clauses: Vec<&'static str>,
    /// A history was broken.
    pub model: bool,
    /// A simulated seed was broken.
    pub simulation: bool,
}

impl Caught {
    /// Whether anybody noticed.
    #[must_use]
    pub fn by_any(&self) -> bool {
        !self.clauses.is_empty() || self.model || self.simulation
    }
}

fn panics_or_breaks<T, E>(run: impl FnOnce() -> Result<T, E>) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_or(true, |answer| answer.is_err())
}

/// Runs everything with one fault on. Nothing else of this process may use a
/// store meanwhile.
///
/// `harness` is asked for a fresh harness for each run.
pub fn run(mutant: Option<Mutant>, harness: &dyn Fn() -> Box<dyn Harness>) -> Caught {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads starts");
    set(mutant);
    let mut clauses = Vec::new();
    for (name, clause) in ALL {
        let engine = harness();
        let check = async { tokio::time::timeout(CLAUSE_MAX, report::check(*clause, &*engine)).await };
        if !matches!(runtime.block_on(check), Ok(Ran::Holds | Ran::NotRun(_))) {
            clauses.push(name.split('_').next().unwrap_or(name));
        }
    }
    let (count, steps) = HISTORIES;
    let model = panics_or_breaks(|| runtime.block_on(model::run(&*harness(), count, steps)));
    let (count, steps) = SIMULATION;
    let simulation = panics_or_breaks(|| sim::run(1, count, steps));
    set(None);
    Caught { clauses, model, simulation }
}

/// One line of the table mutant by who noticed: model, simulation, clauses.
#[must_use]
pub fn line(mutant: Mutant, caught: &Caught) -> String {
    let word = |noticed| if noticed { "caught" } else { "-" };
    let clauses = if caught.clauses.is_empty() { "-".to_owned() } else { caught.clauses.join(" ") };
    let (model, simulation) = (word(caught.model), word(caught.simulation));
    format!("{:<24}model {model:<8}sim {simulation:<8}{clauses}", mutant.name())
}

//! Running clauses and telling what held, as a table clause by engine.

use crate::clauses::{ALL, Clause};
use crate::harness::Harness;
use crate::trial::{Broken, Verdict};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

/// Runs one clause; a panic of the engine breaks it.
pub async fn check(clause: Clause, harness: &dyn Harness) -> Verdict {
    match AssertUnwindSafe(clause(harness)).catch_unwind().await {
        Ok(verdict) => verdict,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Broken(format!("panic: {text}")))
        }
    }
}

/// The clause of this name.
#[must_use]
pub fn named(name: &str) -> Option<Clause> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, clause)| *clause)
}

/// Which clause held on which engine.
#[derive(Debug, Default)]
pub struct Table {
    cells: Mutex<BTreeMap<(String, String), bool>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Table {
        Table { cells: Mutex::new(BTreeMap::new()) }
    }

    /// Enters one cell; the whole table once `engines` full columns are there.
    pub fn enter(&self, clause: &str, engine: &str, held: bool, engines: usize) -> Option<String> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.insert((clause.to_owned(), engine.to_owned()), held);
        (cells.len() == ALL.len() * engines).then(|| print(&cells))
    }
}

fn print(cells: &BTreeMap<(String, String), bool>) -> String {
    let mut engines: Vec<&str> = cells.keys().map(|(_, engine)| engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    let mut text = format!("{:<52}", "clause");
    for engine in &engines {
        let _ = write!(text, "{engine:>10}");
    }
    for (name, _) in ALL {
        let _ = write!(text, "\n{name:<52}");
        for engine in &engines {
            let held = cells.get(&((*name).to_owned(), (*engine).to_owned()));
            let word = match held {
                Some(true) => "holds",
                Some(false) => "BROKEN",
                None => "-",
            };
            let _ = write!(text, "{word:>10}");
        }
    }
    text.push('\n');
    text
}

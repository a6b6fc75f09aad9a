//! Running clauses and telling what held, as a table clause by engine.

use crate::clauses::{ALL, Clause};
use crate::harness::Harness;
use crate::trial::{Broken, Ran};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

/// Runs one clause; a panic of the engine breaks it.
pub async fn check(clause: Clause, harness: &dyn Harness) -> Ran {
    match AssertUnwindSafe(clause(harness)).catch_unwind().await {
        Ok(ran) => ran,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Ran::Broken(Broken(format!("panic: {text}")))
        }
    }
}

/// The clause of this name.
#[must_use]
pub fn named(name: &str) -> Option<Clause> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, clause)| *clause)
}

type Cells = BTreeMap<(String, String), Ran>;

/// Which clause held on which engine.
#[derive(Debug, Default)]
pub struct Table {
    cells: Mutex<Cells>,
}

/// A table without empty cells.
#[derive(Debug)]
pub struct Full {
    /// For a person to read.
    pub text: String,
    /// Clauses that ran on no engine: nothing shows that they hold.
    pub never_ran: Vec<&'static str>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Table {
        Table { cells: Mutex::new(BTreeMap::new()) }
    }

    /// Enters one cell; the whole table once `engines` full columns are there.
    pub fn enter(&self, clause: &str, engine: &str, ran: Ran, engines: usize) -> Option<Full> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.insert((clause.to_owned(), engine.to_owned()), ran);
        (cells.len() == ALL.len() * engines).then(|| full(&cells))
    }
}

fn full(cells: &Cells) -> Full {
    let ran = |name: &&str| {
        let of_clause = cells.iter().filter(|((clause, _), _)| clause == name);
        of_clause.into_iter().any(|(_, ran)| !matches!(ran, Ran::NotRun(_)))
    };
    let never_ran = ALL.iter().map(|(name, _)| *name).filter(|name| !ran(name)).collect();
    Full { text: print(cells), never_ran }
}

fn print(cells: &Cells) -> String {
    let mut engines: Vec<&str> = cells.keys().map(|(_, engine)| engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    let mut text = format!("{:<52}", "clause");
    for engine in &engines {
        let _ = write!(text, "{engine:>10}");
    }
    let mut reasons = String::new();
    for (name, _) in ALL {
        let _ = write!(text, "\n{name:<52}");
        for engine in &engines {
            let word = match cells.get(&((*name).to_owned(), (*engine).to_owned())) {
                Some(Ran::Holds) => "holds",
                Some(Ran::Broken(_)) => "BROKEN",
                Some(Ran::NotRun(why)) => {
                    let _ = write!(reasons, "\nn/a: {name} on {engine}: {why}");
                    "n/a"
                }
                None => "-",
            };
            let _ = write!(text, "{word:>10}");
        }
    }
    text + &reasons + "\n"
}

#[cfg(test)]
mod tests {
    use super::{ALL, Table};
    use crate::trial::Ran;

    #[test]
    fn a_clause_that_ran_nowhere_is_named() {
        let table = Table::new();
        let (skipped, _) = *ALL.first().expect("there are clauses");
        let ran = |name: &str, engine: &str| match name == skipped && engine == "a" {
            true => Ran::NotRun("no switch"),
            false => Ran::Holds,
        };
        let filled = |engine: &str, engines: usize| {
            ALL.iter().filter_map(|(name, _)| table.enter(name, engine, ran(name, engine), engines)).last()
        };
        let alone = filled("a", 1).expect("the table is full");
        assert_eq!(alone.never_ran, [skipped]);
        assert!(alone.text.contains(&format!("n/a: {skipped} on a: no switch")), "{}", alone.text);
        let both = filled("b", 2).expect("the table is full");
        assert!(both.never_ran.is_empty(), "{:?}", both.never_ran);
    }
}

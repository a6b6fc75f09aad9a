//! Turns a deliberate fault on. Only in builds made to show that the tests find it.

use super::Outcome;
use crate::failure::{Exit, Failure};
use turnwise_core::machine::mutants::{self, Mutant};

pub(crate) fn set(name: Option<&str>) -> Outcome {
    let Some(name) = name else { return Ok(()) };
    let mutant = Mutant::named(name).ok_or_else(|| {
        let all: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        Failure::new(Exit::Usage, "no such mutant", all.join(", "))
    })?;
    mutants::set(Some(mutant));
    Ok(())
}

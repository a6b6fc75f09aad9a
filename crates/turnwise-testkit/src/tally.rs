//! Counts of what a simulation was there for, by name: judged and shown alike.

use crate::hold;
use crate::trial::Verdict;
use std::fmt;

/// Fails if anything never happened: such a run proves nothing.
///
/// # Errors
/// The name of the count that is zero.
pub(crate) fn require_all(named: impl IntoIterator<Item = (&'static str, u64)>) -> Verdict {
    for (name, count) in named {
        hold!(count > 0, "this run had no {name}: it is invalid, not green");
    }
    Ok(())
}

/// One line per count.
pub(crate) fn show(
    f: &mut fmt::Formatter<'_>,
    named: impl IntoIterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    for (name, count) in named {
        writeln!(f, "{name:<32}{count:>12}")?;
    }
    Ok(())
}

//! The result of a measurement: rows with a value, what it is compared with,
//! and the goal.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write;

/// Milliseconds that the server may add beside its commits.
const ADDED_MS: f64 = 0.5;

/// What is right for a row: for its ratio, or its value if it is compared with nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Not less.
    Least(f64),
    /// Not more.
    Most(f64),
    /// Not more than half a millisecond and so many of what it is compared with.
    Added(f64),
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Stable name for scripts.
    pub(crate) id: &'static str,
    /// What it is.
    pub(crate) name: Cow<'static, str>,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// Value divided by that of the row `of`.
    pub(crate) ratio: Option<f64>,
    /// What it is compared with.
    pub(crate) of: Option<&'static str>,
    /// In words.
    pub(crate) goal: Option<String>,
    /// Whether the goal is met.
    pub(crate) met: Option<bool>,
}

impl Row {
    /// A value on its own.
    pub(crate) fn new(
        id: &'static str,
        name: impl Into<Cow<'static, str>>,
        value: f64,
        unit: &'static str,
    ) -> Row {
        Row { id, name: name.into(), value, unit, ratio: None, of: None, goal: None, met: None }
    }

    /// Compared with another row's value.
    pub(crate) fn over(mut self, of: &'static str, other: f64) -> Row {
        self.ratio = Some(self.value / other.max(1e-9));
        self.of = Some(of);
        self
    }

    /// With what is right.
    pub(crate) fn goal(mut self, goal: Goal) -> Row {
        let judged = self.ratio.unwrap_or(self.value);
        let of = self.of.map_or_else(|| self.unit.to_owned(), |of| format!("× {of}"));
        let (words, met) = match goal {
            Goal::Least(least) => (format!("at least {least} {of}"), judged >= least),
            Goal::Most(most) => (format!("at most {most} {of}"), judged <= most),
            Goal::Added(most) => {
                let rest = judged * (self.value - ADDED_MS) / self.value.max(1e-9);
                (format!("at most {ADDED_MS} ms + {most} {of}"), rest <= most)
            }
        };
        self.goal = Some(words);
        self.met = Some(met);
        self
    }
}

/// Rows for people.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let ratio = match (row.ratio, row.of) {
            (Some(ratio), Some(of)) => format!("{ratio:.2} × {of}"),
            _ => String::new(),
        };
        let goal = match (&row.goal, row.met) {
            (Some(goal), Some(true)) => format!("{goal}: met"),
            (Some(goal), _) => format!("{goal}: MISSED"),
            (None, _) => String::new(),
        };
        let value =
            if row.value >= 100.0 { format!("{:.0}", row.value) } else { format!("{:.2}", row.value) };
        let line = format!("{:<44} {value:>9} {:<4}  {ratio:<22} {goal}", row.name, row.unit);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_judges_the_ratio_or_else_the_value() {
        let row = |goal| Row::new("a", "a", 6.0, "ms").over("commit", 2.0).goal(goal);
        assert_eq!(row(Goal::Added(2.75)).met, Some(true));
        assert_eq!(row(Goal::Added(2.7)).met, Some(false));
        assert_eq!(row(Goal::Least(3.0)).met, Some(true));
        assert_eq!((row(Goal::Most(3.0)).met, row(Goal::Most(2.9)).met), (Some(true), Some(false)));
        assert_eq!(row(Goal::Least(3.1)).met, Some(false));
        assert_eq!(Row::new("a", "a", 6.0, "ms").goal(Goal::Least(7.0)).met, Some(false));
        assert!(render(&[row(Goal::Added(2.0))]).contains("at most 0.5 ms + 2 × commit: MISSED"));
    }
}

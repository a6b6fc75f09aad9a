//! The result of a measurement: rows with a value, what it is compared with,
//! and the goal.

use serde::Serialize;
use std::fmt::Write;

/// What is right for a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// None was set.
    None,
    /// The ratio is at least this.
    RatioMin(f64),
    /// The ratio is at most this.
    RatioMax(f64),
    /// The value is at most this.
    ValueMax(f64),
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Stable name for scripts.
    pub(crate) id: &'static str,
    /// What it is.
    pub(crate) name: &'static str,
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
    pub(crate) fn new(id: &'static str, name: &'static str, value: f64, unit: &'static str) -> Row {
        Row { id, name, value, unit, ratio: None, of: None, goal: None, met: None }
    }

    /// Compared with another row's value.
    pub(crate) fn over(mut self, of: &'static str, other: f64) -> Row {
        self.ratio = Some(self.value / other.max(1e-9));
        self.of = Some(of);
        self
    }

    /// With what is right.
    pub(crate) fn goal(mut self, goal: Goal) -> Row {
        let ratio = self.ratio.unwrap_or(0.0);
        let (words, met) = match goal {
            Goal::None => return self,
            Goal::RatioMin(least) => {
                (format!("at least {least} × {}", self.of.unwrap_or("")), ratio >= least)
            }
            Goal::RatioMax(most) => (format!("at most {most} × {}", self.of.unwrap_or("")), ratio <= most),
            Goal::ValueMax(most) => (format!("at most {most} {}", self.unit), self.value <= most),
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

//! The readers of the broker's own records, for the fuzz targets alone. Each
//! reads a record and writes it again.

use crate::record::{parse_busy, parse_terminal};

pub use crate::callback::fuzzing::{history_again, message_again};

/// The last event of a turn.
#[must_use]
pub fn terminal_again(data: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec(&parse_terminal(data).ok()?).ok()
}

/// That the agent was busy.
#[must_use]
pub fn busy_again(data: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec(&parse_busy(data)?).ok()
}

//! `turnwise version`.

use super::{Context, Outcome, print};
use serde_json::json;

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(context: &Context) -> Outcome {
    if context.json {
        print::json(&json!({ "name": "turnwise", "version": VERSION }));
    } else {
        print::line(&format!("turnwise {VERSION}"));
    }
    Ok(())
}

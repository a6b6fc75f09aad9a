//! Lines on stdout. A reader that went away, such as `head`, is no failure.

use serde::Serialize;
use std::io::Write;

/// One line.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Text as it is, at once.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// One JSON object as one line.
pub(crate) fn json(value: &impl Serialize) {
    line(&serde_json::to_string(value).expect("plain data has a JSON form"));
}

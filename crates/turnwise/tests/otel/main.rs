//! The binary with the feature `otel`, from outside.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where it is wrong")]

mod spans;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the binary")]
mod support;

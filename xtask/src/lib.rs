//! House rules as a program: `cargo xtask tidy` reads the tree and says what
//! breaks them, `readme` runs the README's own examples, `interop` lets clients
//! written by others use a server, `fuzz` feeds the parsers with anything.
//! Knows the tree, not the product: it depends on no crate of the workspace.

pub mod fuzz;
pub mod interop;
pub mod readme;
mod running;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The folder that holds the workspace's Cargo.toml.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder cargo builds into; a relative CARGO_TARGET_DIR counts from the workspace.
fn target_folder(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

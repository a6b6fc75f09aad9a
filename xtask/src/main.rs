//! The command line: `xtask tidy`, `xtask readme PROGRAM`, `xtask interop PROGRAM`, `xtask build-fuzz` and
//! `xtask fuzz [TARGET…]`.

use anyhow::{Result, bail};
use std::path::Path;
use xtask::{fuzz, interop, readme, tidy, workspace_root};

const USAGE: &str = "usage: cargo xtask tidy | readme PATH-TO-THE-TURNWISE-PROGRAM | interop PATH-TO-IT | build-fuzz | fuzz [TARGET…]";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => {
            let report = tidy::tidy(&workspace_root())?;
            print!("{report}");
            if !report.passed() {
                bail!("the tree breaks {} house rules", report.failures.len());
            }
            Ok(())
        }
        ["build-fuzz"] => fuzz::build(&workspace_root()).map(drop),
        ["fuzz", names @ ..] => fuzz::run(&workspace_root(), names),
        ["readme", program] => readme::run(&workspace_root(), Path::new(program)),
        ["interop", program] => interop::run(&workspace_root(), Path::new(program)),
        _ => bail!("{USAGE}"),
    }
}

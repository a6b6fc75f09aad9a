//! The command line: `xtask tidy` and `xtask readme PROGRAM`.

use anyhow::{Result, bail};
use std::path::Path;
use xtask::{readme, tidy, workspace_root};

const USAGE: &str = "usage: cargo run -p xtask -- tidy | readme PATH-TO-THE-TURNWISE-PROGRAM";

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
        ["readme", program] => readme::run(&workspace_root(), Path::new(program)),
        _ => bail!("{USAGE}"),
    }
}

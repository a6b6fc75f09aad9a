//! Pages that point into the tree point at something: relative links lead to
//! files, and a test named behind such a link stands in that file.

use super::{Report, Source};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Pages whose links are followed.
const PAGES: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "docs/semantics.md", "docs/operations.md", "docs/security.md"];
/// The page on which every row of a table names its tests.
const TESTED_ROWS: &str = "docs/security.md";

/// A link and the names in backticks that follow it up to the next one.
#[derive(Debug, PartialEq, Eq)]
struct Proof<'a> {
    target: &'a str,
    names: Vec<&'a str>,
}

pub(crate) fn check(root: &Path, sources: &[Source], report: &mut Report) -> Result<()> {
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).with_context(|| format!("reading {page}"))?;
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in (1..).zip(text.lines()) {
            let tested = page == TESTED_ROWS;
            check_line(root, folder, line, tested, sources, &mut |complaint| {
                report.failures.push(format!("{page}:{number}: {complaint}"));
            });
        }
    }
    Ok(())
}

fn check_line(
    root: &Path,
    folder: &str,
    line: &str,
    tested: bool,
    sources: &[Source],
    complain: &mut dyn FnMut(String),
) {
    let proofs = proofs(line);
    if tested && is_row(line) && !proofs.iter().any(|proof| !proof.names.is_empty()) {
        complain("the row names no test behind a link".to_owned());
    }
    for proof in proofs {
        let Some(path) = resolve(folder, proof.target) else {
            complain(format!("the link {} leads out of the tree", proof.target));
            continue;
        };
        if !root.join(&path).exists() {
            complain(format!("the link {} leads nowhere", proof.target));
            continue;
        }
        let Some(source) = sources.iter().find(|source| source.path == path).filter(|_| tested) else {
            continue;
        };
        for name in proof.names {
            if !defines(&source.code, name) {
                complain(format!("{path} has no test `{name}`"));
            }
        }
    }
}

/// A row of a table that is neither its head nor the line below that.
fn is_row(line: &str) -> bool {
    line.starts_with('|') && !line.starts_with("|-") && !line.starts_with("| no. |")
}

fn proofs(line: &str) -> Vec<Proof<'_>> {
    let mut found = Vec::new();
    let mut pieces = line.split("](");
    pieces.next();
    for piece in pieces {
        let Some((target, rest)) = piece.split_once(')') else { continue };
        let target = target.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") {
            continue;
        }
        found.push(Proof { target, names: rest.split('`').skip(1).step_by(2).collect() });
    }
    found
}

/// The path from the root of a link written in `folder`.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn defines(code: &str, name: &str) -> bool {
    code.split("fn ")
        .skip(1)
        .any(|after| after.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['(', '<'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_proven_by_a_test_that_exists() {
        let root = crate::workspace_root();
        let here = "xtask/src/tidy/proofs.rs".to_owned();
        let sources = [Source::new(here, "fn is_refused() {}".to_owned())];
        let complaints = |line: &str| {
            let mut said = Vec::new();
            check_line(&root, "docs", line, true, &sources, &mut |complaint| said.push(complaint));
            said
        };
        let row = |test: &str| format!("| a key in the query | 400 | {test} |");
        let link = "[proofs](../xtask/src/tidy/proofs.rs)";
        assert_eq!(complaints(&row(&format!("{link} `is_refused`"))), Vec::<String>::new());
        assert_eq!(complaints("|---|---|---|"), Vec::<String>::new());
        assert_eq!(complaints(&row(&format!("{link} `is_accepted`"))).len(), 1);
        assert_eq!(complaints(&row(&format!("{link} `is_ref`"))).len(), 1);
        assert_eq!(complaints(&row(link)).len(), 1);
        assert_eq!(complaints(&row("[lost](../xtask/lost.rs) `is_refused`")).len(), 1);
        assert_eq!(complaints(&row("[out](../../lost.rs) `is_refused`")).len(), 1);
    }
}

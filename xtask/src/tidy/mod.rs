//! The house rules, one file per family. A failure breaks the build; a warning
//! asks for a thought. Rules that need types are clippy's, not ours.

mod attributes;
mod calls;
mod crates;
mod lexer;
mod proofs;
mod sizes;
mod words;

use anyhow::{Context, Result};
use std::fmt;
use std::path::Path;

/// What tidy found.
#[derive(Debug, Default)]
pub struct Report {
    /// Each breaks a rule.
    pub failures: Vec<String>,
    /// Each is close to breaking one.
    pub warnings: Vec<String>,
    /// Number of source files.
    pub files: usize,
    /// Lines of all of them.
    pub lines: usize,
    /// Lines of the one in the middle.
    pub median_lines: usize,
}

impl Report {
    /// Whether no rule is broken.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED:  {failure}")?;
        }
        writeln!(
            f,
            "tidy: {} files, {} lines, median file {} lines; {} failures, {} warnings",
            self.files,
            self.lines,
            self.median_lines,
            self.failures.len(),
            self.warnings.len()
        )
    }
}

/// One Rust file of the tree.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// The same with comments and the insides of literals blanked, line for line.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Source {
        let code = lexer::blank(&text);
        Source { path, text, code }
    }
}

/// Checks every rule on the tree under `root`.
///
/// # Errors
/// When a file cannot be read or a Cargo.toml cannot be parsed.
pub fn tidy(root: &Path) -> Result<Report> {
    let mut sources = Vec::new();
    walk(root, "", &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let mut report = Report::default();
    sizes::check(&sources, &mut report);
    words::check(&sources, &mut report);
    attributes::check(&sources, &mut report);
    calls::check(&sources, &mut report);
    crates::check(root, &mut report)?;
    proofs::check(root, &sources, &mut report)?;
    Ok(report)
}

fn walk(root: &Path, folder: &str, sources: &mut Vec<Source>) -> Result<()> {
    let here = root.join(folder);
    let entries = std::fs::read_dir(&here).with_context(|| format!("reading {}", here.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            walk(root, &path, sources)?;
        } else if path.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).with_context(|| format!("reading {path}"))?;
            sources.push(Source::new(path, text));
        }
    }
    Ok(())
}

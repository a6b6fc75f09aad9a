//! Who may use whom: the table of ARCHITECTURE.md, read from the Cargo.toml files.

use super::Report;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;
use toml::{Table, Value};

/// What a crate may use from the workspace. Dev-dependencies are free.
const WORKSPACE: [(&str, &[&str]); 11] = [
    ("turnwise-core", &[]),
    ("turnwise-metrics", &[]),
    ("turnwise-store", &["turnwise-core", "turnwise-metrics"]),
    ("turnwise-broker", &["turnwise-core", "turnwise-metrics"]),
    ("turnwise-api", &[]),
    ("turnwise-gateway", &["turnwise-broker", "turnwise-api", "turnwise-core", "turnwise-metrics"]),
    ("turnwise-dispatch", &["turnwise-broker", "turnwise-api", "turnwise-core", "turnwise-metrics"]),
    ("turnwise-mock", &["turnwise-api"]),
    ("turnwise-testkit", &["turnwise-core", "turnwise-mock"]),
    (
        "turnwise",
        &[
            "turnwise-core",
            "turnwise-store",
            "turnwise-broker",
            "turnwise-api",
            "turnwise-gateway",
            "turnwise-dispatch",
            "turnwise-mock",
            "turnwise-metrics",
        ],
    ),
    ("xtask", &[]),
];

/// Packages from outside that have one home.
const HOMES: [(&str, &[&str]); 11] = [
    ("redb", &["turnwise-store"]),
    ("redis", &["turnwise-store"]),
    ("sqlx", &["turnwise-store"]),
    ("rusqlite", &["turnwise-store"]),
    ("tokio-postgres", &["turnwise-store"]),
    ("postcard", &["turnwise-store"]),
    ("prometheus-client", &["turnwise-metrics"]),
    ("axum", &["turnwise-gateway"]),
    ("clap", &["turnwise"]),
    ("figment", &["turnwise"]),
    ("anyhow", &["turnwise", "xtask"]),
];

/// All that the core may use: no I/O, no runtime, no serialization, no clock.
const CORE: [&str; 4] = ["async-trait", "bytes", "futures-core", "thiserror"];

/// Checks every crate of the workspace.
pub(crate) fn check(root: &Path, report: &mut Report) -> Result<()> {
    let mut folders = vec![root.join("xtask")];
    for entry in std::fs::read_dir(root.join("crates")).context("reading crates/")? {
        folders.push(entry?.path());
    }
    folders.sort();
    for folder in folders {
        let file = folder.join("Cargo.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let manifest: Table = text.parse().with_context(|| format!("parsing {}", file.display()))?;
        let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report.failures.extend(broken_rules(&folder_name, &manifest));
    }
    Ok(())
}

/// What one manifest breaks.
fn broken_rules(folder: &str, manifest: &Table) -> Vec<String> {
    let mut broken = Vec::new();
    let package = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let Some(name) = package.filter(|name| *name == folder) else {
        return vec![format!("crates/{folder}: the folder and the crate have one name")];
    };
    let Some((_, allowed)) = WORKSPACE.iter().find(|(krate, _)| *krate == name) else {
        return vec![format!("{name}: not in the table of who may use whom (ARCHITECTURE.md and xtask)")];
    };
    let inside = |dep: &str| WORKSPACE.iter().any(|(krate, _)| *krate == dep);
    for dep in dependencies(manifest) {
        if inside(&dep) && !allowed.contains(&dep.as_str()) {
            broken.push(format!("{name} may not use {dep}"));
        }
        if name == "turnwise-core" && !CORE.contains(&dep.as_str()) {
            broken.push(format!("turnwise-core may not use {dep}: it does no I/O and knows no format"));
        }
        let home = HOMES.iter().find(|(package, _)| *package == dep);
        if home.is_some_and(|(_, homes)| !homes.contains(&name)) {
            broken.push(format!("{name} may not use {dep}, its home is elsewhere"));
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if lints != Some(true) {
        broken.push(format!("{name}: `[lints] workspace = true` is missing"));
    }
    broken
}

/// Names of normal and build dependencies, those of single targets included.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let mut tables = vec![manifest];
    tables.extend(targets.into_iter().flat_map(Table::values).filter_map(Value::as_table));
    for table in tables {
        for section in ["dependencies", "build-dependencies"] {
            let deps = table.get(section).and_then(Value::as_table);
            for (key, value) in deps.into_iter().flatten() {
                let renamed = value.get("package").and_then(Value::as_str);
                names.insert(renamed.unwrap_or(key).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::broken_rules;

    #[test]
    fn a_forbidden_dependency_is_named() {
        let lints = "[lints]\nworkspace = true\n";
        for (name, body, expected) in [
            ("turnwise-broker", "[dependencies]\nturnwise-core.workspace = true\n", None),
            ("turnwise-broker", "[dependencies]\nturnwise-store.workspace = true\n", Some("turnwise-store")),
            ("turnwise-broker", "[dev-dependencies]\nturnwise-store.workspace = true\n", None),
            ("turnwise-gateway", "[target.'cfg(unix)'.dependencies]\nredb = \"4\"\n", Some("redb")),
            ("turnwise-core", "[dependencies]\ntokio = \"1\"\n", Some("tokio")),
            ("turnwise-new", "", Some("table")),
        ] {
            let text = format!("[package]\nname = \"{name}\"\n{body}{lints}");
            let manifest = text.parse().expect("the test's own manifest");
            let broken = broken_rules(name, &manifest);
            assert_eq!(broken.len(), usize::from(expected.is_some()), "{text}: {broken:?}");
            assert!(broken.iter().all(|line| expected.is_some_and(|word| line.contains(word))), "{broken:?}");
        }
    }
}

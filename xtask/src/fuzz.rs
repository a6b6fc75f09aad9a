//! `xtask fuzz`: builds the fuzz targets with libFuzzer on the stable compiler
//! and runs them, three at a time for each processor, each from its committed
//! corpus. What is found new goes to a folder of its own.

use crate::target_folder;
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How long each target runs, in seconds.
const SECONDS_ENV: &str = "TURNWISE_FUZZ_SECONDS";
const SECONDS: u64 = 60;
/// Bytes of an input: parsers of text and records need no more to be led everywhere.
const INPUT_BYTES_MAX: u32 = 4096;
/// Seconds one input may take, by the wall clock and while everything else goes first; and megabytes a target may use.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MB_MAX: u32 = 512;
/// Targets that share a processor: new ways are found early in a minute, and nine minutes are many.
const PER_PROCESSOR: usize = 3;
/// Lines shown of a target that failed.
const LINES_SHOWN: usize = 60;

/// Runs the targets of these names, or all of them.
///
/// # Errors
/// When something does not build, or a target finds an input that breaks it.
pub fn run(root: &Path, names: &[&str]) -> Result<()> {
    let began = Instant::now();
    let seconds = match std::env::var(SECONDS_ENV) {
        Ok(text) => text.parse().with_context(|| format!("{SECONDS_ENV} is a number of seconds"))?,
        Err(_) => SECONDS,
    };
    let program = build(root)?;
    println!("fuzz: built after {} s", began.elapsed().as_secs());
    let known = corpora(root)?;
    let wanted: VecDeque<String> = match names {
        [] => known,
        names => names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let at_once = PER_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from);
    let (queue, failed) = (Mutex::new(wanted), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                // Not in the condition: the lock would be held for the whole turn.
                let next = || locked(&queue).pop_front();
                while let Some(name) = next() {
                    if let Err(error) = fuzz(root, &program, &name, seconds) {
                        eprintln!("{error:#}");
                        locked(&failed).push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "broken by an input: {}", failed.join(", "));
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builds the targets: one program, whose path it answers. The same compiler and libraries as the tests, also the same
/// choice of their features, so that they are built once: therefore an example of the whole workspace. Only our own
/// crates are instrumented.
///
/// # Errors
/// When it does not build.
pub fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--workspace", "--features", "fuzz/libfuzzer", "--example", "fuzz"])
        .env("RUSTC_WORKSPACE_WRAPPER", root.join("fuzz/instrument.sh"))
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the fuzz targets do not build (libFuzzer needs a C++ compiler)");
    Ok(target_folder(root).join("debug/examples/fuzz"))
}

/// Every folder of `fuzz/corpus` is a target.
fn corpora(root: &Path) -> Result<VecDeque<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/corpus")).context("reading fuzz/corpus")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.into())
}

fn fuzz(root: &Path, program: &Path, name: &str, seconds: u64) -> Result<()> {
    let corpus = root.join("fuzz/corpus").join(name);
    ensure!(corpus.is_dir(), "there is no target {name}: {} is missing", corpus.display());
    let found = target_folder(root).join("fuzz-found").join(name);
    fs::create_dir_all(&found)?;
    let output = Command::new(program)
        .env("TURNWISE_FUZZ_TARGET", name)
        .env("RUST_BACKTRACE", "0")
        .arg(&found)
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-use_value_profile=1", "-verbosity=1"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LINES_SHOWN);
        bail!("{name}: an input breaks it\n{}", lines.get(from..).unwrap_or_default().join("\n"));
    }
    let stat = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.map_or("?", |value| value.trim_start_matches(':').trim()).to_owned()
    };
    println!(
        "fuzz: {name:<14} {seconds} s, {} inputs, {} /s, {} new ones kept, {} MB",
        stat("stat::number_of_executed_units"),
        stat("stat::average_exec_per_sec"),
        stat("stat::new_units_added"),
        stat("stat::peak_rss_mb"),
    );
    Ok(())
}

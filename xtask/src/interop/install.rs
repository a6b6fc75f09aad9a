//! The clients, installed from their registries in the pinned versions: below
//! the target folder, once per lock file.

use crate::target_folder;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the clients are; an error says why they are not there.
pub(super) struct Clients {
    /// The scripts, beside what they import.
    pub(super) folder: PathBuf,
    /// What npm has.
    pub(super) node: Result<(), String>,
    /// The Python of the environment with what PyPI has.
    pub(super) python: Result<PathBuf, String>,
}

/// Installs what is not there yet.
pub(super) fn all(root: &Path) -> Result<Clients> {
    let folder = target_folder(root).join("interop");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for entry in fs::read_dir(root.join("interop")).context("reading interop/")? {
        let file = entry?.path();
        if let Some(name) = file.file_name() {
            fs::copy(&file, folder.join(name)).with_context(|| format!("copying {}", file.display()))?;
        }
    }
    let node = once(&folder, "package-lock.json", |folder| {
        let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        finish(Command::new("npm").args(flags).current_dir(folder))
    });
    let python = folder.join("venv/bin/python");
    let installed = once(&folder, "requirements.txt", |folder| {
        finish(Command::new("python3").args(["-m", "venv", "--clear", "venv"]).current_dir(folder))?;
        let flags = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
        finish(Command::new(&python).args(flags).args(["-r", "requirements.txt"]).current_dir(folder))
    });
    Ok(Clients {
        folder,
        node: node.map_err(|error| format!("{error:#}")),
        python: installed.map(|()| python).map_err(|error| format!("{error:#}")),
    })
}

/// Runs `install` unless it has succeeded for a lock file of this content before.
fn once(folder: &Path, lock: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let wanted = fs::read(folder.join(lock)).with_context(|| format!("reading {lock}"))?;
    let installed = folder.join(format!("installed-{lock}"));
    if fs::read(&installed).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    install(folder)?;
    fs::write(&installed, wanted).with_context(|| format!("writing {}", installed.display()))
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{:?} ended with {}: {last}", command.get_program(), output.status);
    Ok(())
}

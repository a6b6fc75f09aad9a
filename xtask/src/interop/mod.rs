//! Clients that others wrote, against a real server with the fake agent: npm
//! `eventsource` and PyPI `httpx-sse` with their connection cut at every event,
//! a browser, the suite and the client of the Durable Streams protocol, and
//! schemathesis over `/openapi.json`. Their versions are pinned
//! in `interop/`; they are installed below the target folder and kept there.

mod clients;
mod install;
mod proxy;
mod streams;

use crate::running::{Running, Scratch, free_port};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Runs every part with the program at `turnwise`.
///
/// # Errors
/// When a client finds the server wanting; in CI also when it could not be installed.
pub fn run(root: &Path, turnwise: &Path) -> Result<()> {
    let turnwise =
        turnwise.canonicalize().with_context(|| format!("no program at {}", turnwise.display()))?;
    let scene = Scene { turnwise, clients: install::all(root)? };
    let mut failed = Vec::new();
    for (name, part) in clients::PARTS {
        let began = Instant::now();
        match part(&scene) {
            Ok(Outcome::Ran(shown)) => {
                println!("interop: {name}: ok, {:.1} s: {}", began.elapsed().as_secs_f32(), shown.trim());
            }
            Ok(Outcome::NotRun(why)) => {
                println!("NOT RUN: {name}: {why}");
                ensure!(std::env::var("CI").as_deref() != Ok("true"), "in CI every client must run");
            }
            Err(error) => {
                println!("interop: {name}: FAILED after {:.1} s: {error:#}", began.elapsed().as_secs_f32());
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "these clients found something: {}", failed.join(", "));
    Ok(())
}

/// What every part has.
struct Scene {
    turnwise: PathBuf,
    clients: install::Clients,
}

/// How a part came out when it found nothing.
enum Outcome {
    /// What it says.
    Ran(String),
    /// Why it could not be.
    NotRun(String),
}

/// A server, and where it is: with the fake agent unless the settings name another.
struct Server {
    port: u16,
    scratch: Scratch,
    _running: Running,
}

impl Server {
    fn start(scene: &Scene, settings: &[(&str, &str)]) -> Result<Server> {
        Server::start_with(scene, settings, "")
    }

    /// The same with this in its TOML file.
    fn start_with(scene: &Scene, settings: &[(&str, &str)], toml: &str) -> Result<Server> {
        let port = free_port()?;
        let scratch = Scratch::new(port)?;
        std::fs::write(scratch.0.join("turnwise.toml"), toml)?;
        let mut command = Command::new(&scene.turnwise);
        command.arg("serve").current_dir(&scratch.0);
        if !settings.iter().any(|(name, _)| *name == "WORKER_BASE_URL") {
            command.arg("--mock-agent");
        }
        command.env("PORT", port.to_string()).env("TURNWISE_STORE", "memory").env("LOG_LEVEL", "ERROR");
        command.envs(settings.iter().copied());
        let running = Running::start(&mut command, port).context("starting turnwise serve")?;
        Ok(Server { port, scratch, _running: running })
    }

    fn url(&self) -> String {
        url(self.port)
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

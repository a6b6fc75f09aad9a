//! A server in a child process of this same binary: started, killed and
//! started again by `demo`, `bench` and the tests. Ends with its parent.

use crate::config::settings::{OTHER_ENV, SETTINGS};
use crate::failure::{Exit, Failure};
use crate::process::resident_bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child as Process, ChildStdin, Command};

/// A server that is not ready by then has failed. Reading a store of gigabytes takes its time.
const READY_MAX: Duration = Duration::from_secs(120);
/// One that was told to stop and has not by then is killed.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How much of its log is shown when it failed.
const LOG_SHOWN_BYTES: usize = 2_000;

/// How the server is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// A folder of its own: data and log go there.
    pub(crate) folder: PathBuf,
    /// The agent's URL, if there is one.
    pub(crate) agent: Option<String>,
    /// More settings, as environment variables.
    pub(crate) env: Vec<(&'static str, String)>,
    /// More arguments of `serve`.
    pub(crate) arguments: Vec<String>,
}

impl Setup {
    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn log_tail(&self) -> String {
        tail(&self.log_path())
    }
}

/// A running server.
pub(crate) struct ServerProcess {
    setup: Setup,
    process: Process,
    /// Open as long as we live: the child ends when it closes.
    stdin: Option<ChildStdin>,
    port: u16,
}

impl ServerProcess {
    /// Starts one on a free port and waits until it is ready.
    pub(crate) async fn start(setup: Setup) -> Result<ServerProcess, Failure> {
        let (process, stdin, port) = launch(&setup, 0).await?;
        Ok(ServerProcess { setup, process, stdin, port })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same as an address.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it holds in memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        self.pid()
            .and_then(resident_bytes)
            .ok_or_else(|| Failure::new(Exit::Failure, "the server's memory is unknown", "it needs /proc"))
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.process.kill().await?)
    }

    /// Tells it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        self.stdin = None;
        match tokio::time::timeout(STOP_MAX, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => Err(Failure::new(Exit::Failure, "the server did not end well", self.setup.log_tail())),
            Err(_) => {
                self.kill().await?;
                Err(Failure::new(Exit::Failure, "the server did not end", self.setup.log_tail()))
            }
        }
    }

    /// Starts it again on the same folder and port.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        let (process, stdin, _) = launch(&self.setup, self.port).await?;
        self.process = process;
        self.stdin = stdin;
        Ok(())
    }
}

async fn launch(setup: &Setup, port: u16) -> Result<(Process, Option<ChildStdin>, u16), Failure> {
    let log_path = setup.log_path();
    let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
    let mut command = Command::new(std::env::current_exe()?);
    for name in SETTINGS.iter().map(|setting| setting.env).chain(OTHER_ENV.iter().map(|(name, _)| *name)) {
        command.env_remove(name);
    }
    if let Some(agent) = &setup.agent {
        command.env("WORKER_BASE_URL", agent);
    }
    command
        .envs(setup.env.iter().map(|(name, text)| (*name, text.as_str())))
        .args(["serve", "--json", "--end-with-stdin", "--host", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .arg("--data-dir")
        .arg(setup.folder.join("data"))
        .args(&setup.arguments)
        .current_dir(&setup.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    let mut process = command.spawn()?;
    let stdin = process.stdin.take();
    let port = tokio::time::timeout(READY_MAX, ready_port(&mut process)).await.ok().flatten();
    match port {
        Some(port) => Ok((process, stdin, port)),
        None => {
            let _ = process.start_kill();
            Err(Failure::new(Exit::Failure, "the server did not start", tail(&log_path)))
        }
    }
}

/// The port in the ready line.
async fn ready_port(process: &mut Process) -> Option<u16> {
    let mut lines = BufReader::new(process.stdout.take()?).lines();
    let line = lines.next_line().await.ok()??;
    let ready: serde_json::Value = serde_json::from_str(&line).ok()?;
    ready.get("port")?.as_u64()?.try_into().ok()
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut from = text.len().saturating_sub(LOG_SHOWN_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let shown = text.get(from..).unwrap_or_default().trim();
    if shown.is_empty() { "it wrote nothing to its log".into() } else { shown.to_owned() }
}

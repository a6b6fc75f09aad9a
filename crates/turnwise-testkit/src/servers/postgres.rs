//! A private PostgreSQL.

use super::{Launch, Server, command, find, not_run};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where distributions keep the programs that they do not link into `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The one database of every private server.
const DATABASE: &str = "template1";
/// The superuser of every private server; it has no password.
const USER: &str = "turnwise";

/// A PostgreSQL that runs, or was killed and can run again. Nothing is shared with any other.
pub struct Postgres {
    server: Server,
}

/// Folders that may hold the server's programs, newest version first.
fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// The server's program, links followed: it looks for its own files beside itself.
fn program(name: &str) -> Option<PathBuf> {
    find(name, &folders())?.canonicalize().ok()
}

/// Whether the programs are there.
#[must_use]
pub fn is_installed() -> bool {
    program("postgres").is_some() && program("initdb").is_some()
}

fn run(mut command: Command, what: &str) {
    let output = command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs it on a text.
fn feed(mut command: Command, text: &str) {
    let mut child = command
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server runs alone");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    std::mem::drop(input);
    assert!(child.wait().is_ok_and(|status| status.success()), "the server alone failed");
}

/// An empty database folder, made once by this process: that takes seconds, a copy does not.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let initdb = program("initdb").expect("initdb stands beside the server");
        let version = std::fs::metadata(&initdb).and_then(|file| file.modified()).expect("a time");
        let version = version.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let uid = rustix::process::geteuid().as_raw();
        let folder = super::folder();
        let data = folder.path().join("data");
        let beside = folder.path().parent().unwrap_or(folder.path());
        let kept = beside.join(format!("turnwise-postgres-{uid}-{version}-1"));
        if kept.join("PG_VERSION").is_file() {
            return kept;
        }
        let mut make = command(&initdb);
        make.args(["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        make.args(["--no-sync", "--wal-segsize=1", "--pgdata"]).arg(&data);
        run(make, "initdb");
        // One database is enough; a server that was killed looks at every file when it starts again.
        let mut drop = command(&program("postgres").expect("the server"));
        drop.args(["--single", "-D"]).arg(&data).arg(DATABASE);
        feed(drop, "ALTER DATABASE template0 IS_TEMPLATE false;\nDROP DATABASE template0;\nDROP DATABASE postgres;\n");
        // Whoever comes first; the others use what is there.
        if std::fs::rename(&data, &kept).is_err() {
            assert!(kept.join("PG_VERSION").is_file(), "no template at {}", kept.display());
        }
        kept
    })
}

fn prepare(folder: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(template()).arg(folder.join("data"));
    run(copy, "copying an empty database folder");
}

fn arguments(port: u16, folder: &Path, extra: &[String]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), folder.join("data").into()];
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=100".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "logging_collector=off".to_owned(),
        "log_statement=none".to_owned(),
        "log_min_messages=warning".to_owned(),
    ];
    for setting in settings.iter().chain(extra) {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments
}

impl Postgres {
    /// Starts one with an empty database, or says that it is not installed.
    #[must_use]
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(&[])
    }

    /// The same with more settings, which win over the usual ones.
    #[must_use]
    pub fn start_with(extra: &[&str]) -> Option<Postgres> {
        let extra: Vec<String> = extra.iter().map(|setting| (*setting).to_owned()).collect();
        let Some(program) = program("postgres") else {
            not_run("postgres");
            return None;
        };
        let launch = Launch {
            name: "postgres",
            program,
            arguments: Box::new(move |port, folder| arguments(port, folder, &extra)),
            ready: "ready to accept connections",
            prepare: Some(Box::new(prepare)),
        };
        Some(Postgres { server: Server::start(launch) })
    }

    /// Kills it and starts it again on the same port with an empty database.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_empty(&self) {
        self.server.kill();
        let data = self.server.folder().join("data");
        std::fs::remove_dir_all(&data).expect("a killed server holds nothing");
        prepare(self.server.folder());
        self.server.restart();
    }

    /// The URL of its database, with `schema` for the tables of one store.
    #[must_use]
    pub fn url(&self, schema: &str) -> String {
        let port = self.server.port();
        format!("postgres://{USER}@127.0.0.1:{port}/{DATABASE}?schema={schema}")
    }

    /// The process, its port and its folder.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Ended at once, but by itself: it would leave a segment of shared memory behind.
        self.server.end(Signal::QUIT);
    }
}

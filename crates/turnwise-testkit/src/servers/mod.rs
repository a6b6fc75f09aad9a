//! Database servers of a test's own: a free port, a temporary folder, ended with their owner. No instance
//! that runs already is ever touched. What a power cut, a frozen host or a crash of the server does to an
//! engine is done to these.

pub mod postgres;
pub mod redis;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server that has not said that it is ready by then has failed.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone.
const GONE_MAX: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// A server that was asked to end and has not by then is killed.
const END_MAX: Duration = Duration::from_secs(5);
/// Starts on another port before giving up: somebody may take a free port before the server does.
const STARTS_MAX: u32 = 5;
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";
/// With less room than this there, files go to the disk.
const MEMORY_ROOM: u64 = 4 * 1024 * 1024 * 1024;
/// Lines of a server's log that are kept to be shown.
const LOG_LINES_MAX: usize = 60;
/// Whom a server runs as when the tests run as root: database servers refuse to be root. Nobody, everywhere.
const UNPRIVILEGED: u32 = 65_534;

/// The program of this name, in `PATH` or in one of these folders.
#[must_use]
pub fn find(program: &str, beside: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(beside.iter().cloned());
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Says that a test did not run because `server` is not installed.
///
/// # Panics
/// In CI, where every server has to be there.
pub fn not_run(server: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "NOT RUN: {server}: it is not installed, and in CI every server has to be");
    eprintln!("NOT RUN: {server}");
}

/// A command that runs unprivileged, also when the tests are root.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command
}

/// A temporary folder that an unprivileged server may write to.
///
/// # Panics
/// When there is no room for one.
#[must_use]
pub fn folder() -> tempfile::TempDir {
    let room = |at: &Path| rustix::fs::statvfs(at).map_or(0, |told| told.f_bavail * told.f_frsize);
    let memory = Path::new(MEMORY);
    // What is killed loses nothing that it wrote; a disk would only make the many restarts slow.
    let folder = match room(memory) >= MEMORY_ROOM {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a temporary folder");
    if rustix::process::geteuid().is_root() {
        let owner = Some(UNPRIVILEGED);
        std::os::unix::fs::chown(folder.path(), owner, owner).expect("root may give a folder away");
    }
    folder
}

/// A port that nobody listens on just now.
///
/// # Panics
/// When there is none left.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

type Arguments = Box<dyn Fn(u16, &Path) -> Vec<OsString> + Send + Sync>;
type Prepare = Box<dyn Fn(&Path) + Send + Sync>;

/// How a server is started.
pub struct Launch {
    /// For messages.
    pub name: &'static str,
    /// What runs.
    pub program: PathBuf,
    /// Its arguments, for this port and folder.
    pub arguments: Arguments,
    /// What a line of its output holds when it takes connections.
    pub ready: &'static str,
    /// Fills the empty folder before the first start.
    pub prepare: Option<Prepare>,
}

/// A server that runs, or was killed and can run again.
pub struct Server {
    launch: Launch,
    folder: tempfile::TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
    log: Arc<Log>,
}

/// The last lines a server wrote.
#[derive(Default)]
struct Log(Mutex<VecDeque<String>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn push(&self, line: String) {
        let mut lines = lock(&self.0);
        if lines.len() >= LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        lock(&self.0).iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Server {
    /// Starts one in a folder of its own and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(launch: Launch) -> Server {
        let folder = folder();
        if let Some(prepare) = &launch.prepare {
            prepare(folder.path());
        }
        let mut server =
            Server { launch, folder, port: 0, child: Mutex::new(None), log: Arc::new(Log::default()) };
        let mut failure = String::new();
        for _ in 0..STARTS_MAX {
            server.port = free_port();
            match server.run() {
                Ok(()) => return server,
                Err(what) => failure = what,
            }
        }
        panic!("{} does not start: {failure}", server.launch.name);
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    /// What it wrote last.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Kills it and all processes it started, without warning.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            // Stopped first, so that it starts no others and tells those that it has nothing.
            signal_all(&family(child.id()), Signal::STOP);
            let family = family(child.id());
            let open =
                |pid: &u32| pidfd_open(Pid::from_raw(i32::try_from(*pid).ok()?)?, PidfdFlags::empty()).ok();
            let ends: Vec<OwnedFd> = family.iter().filter_map(open).collect();
            signal_all(&family, Signal::KILL);
            let _ = child.kill();
            let _ = child.wait();
            // What they shared is free when the last of them is gone.
            for end in &ends {
                let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&GONE_MAX));
            }
        }
    }

    /// Asks it to end with this signal, so that it leaves nothing behind; kills it if it does not.
    pub fn end(&self, signal: Signal) {
        if let Some(mut child) = lock(&self.child).take() {
            signal_all(&family(child.id()), Signal::CONT);
            signal_all(&[child.id()], signal);
            let (ended, end) = sync_channel(1);
            let waiting = std::thread::spawn(move || {
                let _ = child.wait();
                let _ = ended.try_send(());
                child
            });
            if end.recv_timeout(END_MAX).is_ok() {
                let _ = waiting.join();
            }
        }
        self.kill();
    }

    /// Starts it again on the same folder and port, after [`Server::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.kill();
        if let Err(failure) = self.run() {
            panic!("{} does not start again: {failure}", self.launch.name);
        }
    }

    /// Stops its process in mid-step (`true`), or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        if let Some(pid) = self.pid() {
            signal_all(&family(pid), signal);
        }
    }

    fn run(&self) -> Result<(), String> {
        let mut command = command(&self.launch.program);
        command
            .args((self.launch.arguments)(self.port, self.folder.path()))
            .current_dir(self.folder.path())
            .env_clear()
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (ready, answer) = sync_channel(2);
        if let Some(output) = child.stdout.take() {
            self.listen(output, ready.clone());
        }
        if let Some(output) = child.stderr.take() {
            self.listen(output, ready);
        }
        match wait_ready(&answer) {
            Ok(()) => {
                *lock(&self.child) = Some(child);
                Ok(())
            }
            Err(what) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{what}; it wrote:\n{}", self.log()))
            }
        }
    }

    /// Reads what it writes, for as long as it runs.
    fn listen(&self, output: impl Read + Send + 'static, ready: SyncSender<()>) {
        let (log, sign) = (Arc::clone(&self.log), self.launch.ready);
        let mut ready = Some(ready);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let is_ready = line.contains(sign);
                log.push(line);
                if is_ready && let Some(ready) = ready.take() {
                    let _ = ready.try_send(());
                }
            }
        });
    }
}

/// A process and all that descend from it, itself first.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}

fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _ = kill_process(pid, signal);
    }
}

fn wait_ready(answer: &Receiver<()>) -> Result<(), String> {
    answer.recv_timeout(READY_MAX).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("it is not ready after {READY_MAX:?}"),
        RecvTimeoutError::Disconnected => "it ended".to_owned(),
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

//! The power goes while the server is under load: the file system under its
//! data is shut down in the middle of writes, as it would be by a power cut,
//! and mounted again. What was synced is there, the rest is not. Nothing that
//! was acknowledged may be lost. A killed process alone would prove nothing
//! about syncs: the system keeps its writes.
//!
//! With real power nobody hears an answer after the cut. Here one can: Linux may
//! answer 0 to an fdatasync that overlaps the shutdown of the file system,
//! and write nothing (seen with a program of one loop, on ext4 and xfs). So in every
//! second cycle the server is stopped first, with no system call under way: whatever
//! was answered was synced before the cut, and every answer counts. In the others it
//! runs on and ends by itself; answers that came after the cut are told apart.

use crate::support::{ORG, Running, serve};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use turnwise_mock::{AgentConfig, CallOutcome, Conn, FakeAgent};

/// Cuts of each file system, unless [`CYCLES_ENV`] says otherwise.
const CYCLES: u32 = 10;
/// Asks for more cuts, or fewer.
const CYCLES_ENV: &str = "TURNWISE_POWER_CYCLES";
/// Clients that write at once: even ones wait for the answer, odd ones do not.
const CLIENTS: usize = 8;
/// A server whose disk is gone has ended by then.
const END_MAX: Duration = Duration::from_secs(60);
/// Bytes of the disk; xfs takes no smaller one.
const DISK_BYTES: u64 = 320 * 1024 * 1024;

/// A file system in a file.
struct LoopDisk {
    folder: tempfile::TempDir,
    kind: &'static str,
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A command as root, who alone mounts file systems and shuts them down.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

impl LoopDisk {
    fn make(kind: &'static str) -> Option<LoopDisk> {
        let disk = LoopDisk { folder: tempfile::tempdir().unwrap(), kind };
        std::fs::create_dir(disk.path()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(DISK_BYTES).unwrap();
        let made = works(as_root(&format!("mkfs.{kind}")).arg("-q").arg(disk.image()));
        let has_tool = works(as_root("xfs_io").arg("-V"));
        let me = rustix::process::geteuid().as_raw().to_string();
        if made && has_tool && disk.mount() && works(as_root("chown").arg(me).arg(disk.path())) {
            return Some(disk);
        }
        println!("NOT RUN: power cuts on {kind}: needs root, loop mounts, mkfs.{kind} and xfs_io");
        None
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&self) -> bool {
        works(as_root("mount").args(["-o", "loop", "-t", self.kind]).arg(self.image()).arg(self.path()))
    }

    /// Nothing more reaches the disk, and nothing that was not synced ever did.
    fn cut(&self) {
        assert!(works(as_root("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path())), "the cut");
    }

    fn unmount(&self) -> bool {
        works(as_root("umount").arg(self.path()))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    sent: AtomicU64,
    accepted: Mutex<Vec<String>>,
    completed: Mutex<Vec<String>>,
    /// Set just before the power of a running server goes.
    cut: AtomicBool,
    /// Answers that came after that.
    late: Mutex<Vec<String>>,
}

impl Told {
    async fn count(&self) -> usize {
        self.accepted.lock().await.len() + self.completed.lock().await.len()
    }
}

async fn client(told: Arc<Told>, url: String, number: usize, cycle: u32) {
    let mut conn = Conn::new(&url);
    while !told.stop.load(Ordering::SeqCst) {
        let sent = told.sent.fetch_add(1, Ordering::SeqCst);
        let body = json!({"user_id": format!("user-{number}-{}", sent % 3), "org_id": ORG, "client_id": "web",
            "message": format!("message {sent} {}", "x".repeat(600)), "client_message_id": format!("{cycle}-{sent}")});
        let headers: &[(&'static str, &str)] =
            if number.is_multiple_of(2) { &[] } else { &[("prefer", "respond-async")] };
        let answer = conn.call(Method::POST, "/api/v1/message", headers, body.to_string().into()).await;
        let Ok(answer) = answer else { return };
        let Ok(turn) = answer.json::<Value>() else { return };
        let Some(id) = turn["message_id"].as_str().filter(|_| answer.status.is_success()) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let heard = match (told.cut.load(Ordering::SeqCst), turn["status"] == "completed") {
            (true, _) => &told.late,
            (false, true) => &told.completed,
            (false, false) => &told.accepted,
        };
        heard.lock().await.push(id.to_owned());
    }
}

/// Load, and clients that were told enough to go on.
async fn load(server: &Running, told: &Arc<Told>, cycle: u32) -> JoinSet<()> {
    told.stop.store(false, Ordering::SeqCst);
    told.cut.store(false, Ordering::SeqCst);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(Arc::clone(told), server.url().to_owned(), number, cycle));
    }
    // Not after a time: a slow machine would have told its clients nothing yet.
    let enough = told.count().await + 25 + cycle as usize * 7 % 60;
    let busy = async {
        while told.count().await < enough {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(END_MAX, busy).await.expect("the server answers");
    clients
}

/// Stops every thread of the server, each outside of the system: one that syncs comes back first.
async fn freeze(server: &Running) {
    server.signal(rustix::process::Signal::STOP);
    let threads = format!("/proc/{}/task", server.process.id().unwrap());
    let is_stopped = || {
        std::fs::read_dir(&threads).unwrap().all(|thread| {
            // A thread that ends meanwhile has not stopped. Its state stands after its name, which may hold anything.
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        })
    };
    let stopped = async {
        while !is_stopped() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(END_MAX, stopped).await.expect("the server stops");
}

/// The power goes while nothing runs: whatever the clients are told was answered before.
async fn cut_frozen(server: &mut Running, disk: &LoopDisk) {
    freeze(server).await;
    disk.cut();
    server.process.kill().await.unwrap();
}

/// The power goes in the middle of everything; the server ends by itself when its disk is gone.
async fn cut_running(server: &mut Running, disk: &LoopDisk, told: &Told) -> Duration {
    told.cut.store(true, Ordering::SeqCst);
    disk.cut();
    let cut = Instant::now();
    let ended = tokio::time::timeout(END_MAX, server.process.wait()).await;
    let took = cut.elapsed();
    assert!(
        !ended.expect("a server without a disk ends").unwrap().success(),
        "it does not say that all is well"
    );
    told.stop.store(true, Ordering::SeqCst);
    took
}

/// Asks for everything the clients were told, but for the first few.
async fn check(url: &str, told: &Told, skip: (usize, usize)) -> (usize, usize) {
    let mut conn = Conn::new(url);
    let (accepted, completed) = (told.accepted.lock().await, told.completed.lock().await);
    for (ids, skip, over) in [(&accepted, skip.0, false), (&completed, skip.1, true)] {
        for id in ids.iter().skip(skip) {
            let answer = conn.get(&format!("/api/v1/message/{id}")).await.unwrap();
            let turn: Value = answer.json().unwrap();
            assert!(answer.status.is_success(), "{id} was acknowledged and is lost: {turn}");
            assert!(!over || turn["status"] == "completed", "{id} was completed and is not: {turn}");
        }
    }
    (accepted.len(), completed.len())
}

/// How many answers came after the cut, and how many of them are not there.
async fn late(url: &str, told: &Told) -> (usize, usize) {
    let mut conn = Conn::new(url);
    let mut lost = 0;
    let late = told.late.lock().await;
    for id in late.iter() {
        let answer = conn.get(&format!("/api/v1/message/{id}")).await.unwrap();
        lost += usize::from(!answer.status.is_success());
    }
    (late.len(), lost)
}

fn cycles() -> u32 {
    std::env::var(CYCLES_ENV).map_or(CYCLES, |text| text.parse().expect("TURNWISE_POWER_CYCLES is a number"))
}

async fn cut_again_and_again(kind: &'static str) {
    let Some(disk) = LoopDisk::make(kind) else { return };
    let config = AgentConfig { delay_ms: 2, delay_spread_ms: 5, ..AgentConfig::default() };
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), config).await.unwrap();
    let env = [("TURNWISE_CONVERSATION_DEPTH_MAX", "1000")];
    let told = Arc::new(Told::default());
    let start = async |port: u16| serve(&work(&disk.path()), port, Some(&agent.base_url()), &env).await;
    let mut server = start(0).await;
    let port = u16::try_from(server.ready["port"].as_u64().unwrap()).unwrap();
    let (mut slowest, mut checked) = (Duration::ZERO, (0, 0));
    let cycles = cycles();
    for cycle in 0..cycles {
        let mut clients = load(&server, &told, cycle).await;
        if cycle.is_multiple_of(2) {
            cut_frozen(&mut server, &disk).await;
        } else {
            slowest = slowest.max(cut_running(&mut server, &disk, &told).await);
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        assert!(disk.unmount() && disk.mount(), "the disk comes back");
        server = start(port).await;
        checked = check(server.url(), &told, checked).await;
    }
    check(server.url(), &told, (0, 0)).await;
    let mut answered: HashMap<String, u32> = HashMap::new();
    for call in agent.journal().calls() {
        *answered.entry(call.message_id).or_default() +=
            u32::from(call.outcome == Some(CallOutcome::Answered));
    }
    let completed = told.completed.lock().await;
    let accepted = told.accepted.lock().await.len();
    let unseen = completed.iter().filter(|id| answered.get(*id).is_none_or(|count| *count == 0)).count();
    assert_eq!(unseen, 0, "completed without an answer of the agent");
    let late = late(server.url(), &told).await;
    println!(
        "{cycles} power cuts on {kind}: {accepted} accepted and {} completed turns, 0 lost; answers after the cut of a running server, and lost of them: {late:?}; it ended within {slowest:?}",
        completed.len()
    );
    assert!(accepted > 0 && !completed.is_empty(), "too little happened");
    server.kill().await;
}

/// The server's folder on the disk.
fn work(disk: &Path) -> PathBuf {
    let work = disk.join("work");
    std::fs::create_dir_all(&work).unwrap();
    work
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_power_cuts_on_ext4() {
    cut_again_and_again("ext4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_power_cuts_on_xfs() {
    cut_again_and_again("xfs").await;
}

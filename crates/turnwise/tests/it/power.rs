//! The power goes while the server is under load: the file system under its
//! data is shut down in the middle of writes, as it would be by a power cut,
//! and mounted again. What was synced is there, the rest is not. Nothing that
//! was acknowledged may be lost. A killed process alone would prove nothing
//! about syncs: the system keeps its writes.

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
const END_MAX: Duration = Duration::from_secs(10);
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

impl LoopDisk {
    fn make(kind: &'static str) -> Option<LoopDisk> {
        let disk = LoopDisk { folder: tempfile::tempdir().unwrap(), kind };
        std::fs::create_dir(disk.path()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(DISK_BYTES).unwrap();
        let made = works(Command::new(format!("mkfs.{kind}")).arg("-q").arg(disk.image()));
        let has_tool = works(Command::new("xfs_io").arg("-V"));
        if rustix::process::geteuid().is_root() && made && has_tool && disk.mount() {
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
        works(Command::new("mount").args(["-o", "loop", "-t", self.kind]).arg(self.image()).arg(self.path()))
    }

    /// Nothing more reaches the disk, and nothing that was not synced ever did.
    fn cut(&self) {
        assert!(works(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path())), "the cut");
    }

    fn unmount(&self) -> bool {
        works(Command::new("umount").arg(self.path()))
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
    /// Set just before the power goes. With real power nobody hears an answer after that.
    cut: AtomicBool,
    /// Answers that came all the same: a sync that is under way while the file system is
    /// shut down may be told that it worked.
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

/// Load until the cut; the server ends by itself when its disk is gone.
async fn load_and_cut(server: &mut Running, disk: &LoopDisk, told: &Arc<Told>, cycle: u32) -> Duration {
    told.stop.store(false, Ordering::SeqCst);
    told.cut.store(false, Ordering::SeqCst);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(Arc::clone(told), server.url().to_owned(), number, cycle));
    }
    // Not after a time: a slow machine would have told its clients nothing yet.
    let before = told.count().await;
    let enough = before + 25 + cycle as usize * 7 % 60;
    let busy = async {
        while told.count().await < enough {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(END_MAX, busy).await.expect("the server answers");
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
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    took
}

/// Asks for everything the clients were told so far.
async fn check(url: &str, told: &Told) {
    let mut conn = Conn::new(url);
    for (ids, over) in [(&told.accepted, false), (&told.completed, true)] {
        for id in ids.lock().await.iter() {
            let answer = conn.get(&format!("/api/v1/message/{id}")).await.unwrap();
            let turn: Value = answer.json().unwrap();
            assert!(answer.status.is_success(), "{id} was acknowledged and is lost: {turn}");
            assert!(!over || turn["status"] == "completed", "{id} was completed and is not: {turn}");
        }
    }
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
    let mut slowest = Duration::ZERO;
    let cycles = cycles();
    for cycle in 0..cycles {
        slowest = slowest.max(load_and_cut(&mut server, &disk, &told, cycle).await);
        assert!(disk.unmount() && disk.mount(), "the disk comes back");
        server = start(port).await;
        check(server.url(), &told).await;
    }
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
        "{cycles} power cuts on {kind}: {accepted} accepted and {} completed turns, 0 lost; answers after the cut, lost: {late:?}; the server ended within {slowest:?}",
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

//! `turnwise bench turns`: what the server costs beside the agent alone, all
//! measured in one run on this machine. Compare ratios, not absolute rates.
//! `turnwise bench backlog`: the same server behind turns that wait.
//! `turnwise bench queue`: the queue of a store alone. `turnwise bench streams` and `sockets` measure
//! memory.

mod agent;
mod backlog;
mod commit;
mod cycle;
mod fairness;
mod fanout;
mod fill;
mod load;
mod nodes;
mod noting;
mod outage;
mod queue;
mod soak;
mod socket;
mod sockets;
mod stamp;
mod streams;
mod table;
mod ways;
mod wire;

use super::{Context, Outcome, print, runtime};
use crate::child::{ServerProcess, Setup};
use crate::client::Server;
use crate::failure::{Exit, Failure};
use agent::AgentThread;
use clap::{Args, Subcommand};
use load::{Kind, MESSAGE_BYTES, Measured, Worker, closed_loop, histogram, millis, note};
use serde_json::json;
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use table::{Goal, Row};

/// Commits timed for the disk's own figure.
const SYNCS: u32 = 200;
/// Bytes of each.
const SYNC_BYTES: usize = 4_096;
/// Producers, consumers and a store in this process.
const QUEUE_THREADS: usize = 2;
/// What the system counts the blocks of a file in.
const BLOCK_BYTES: u64 = 512;

/// What each row is to reach. Latencies are counted in commits: a turn that is
/// answered in the request needs two, an event that is shown needs one.
mod goals {
    use super::Goal;
    pub(super) const SYNC: Goal = Goal::Least(0.10);
    pub(super) const ACCEPTED_HELD: Goal = Goal::Least(0.25);
    pub(super) const ACCEPTED_DELIVERING: Goal = Goal::Least(0.10);
    pub(super) const ADDED_P50: Goal = Goal::Added(3.0);
    pub(super) const FIRST_EVENT: Goal = Goal::Added(1.0);
    pub(super) const EACH_EVENT: Goal = Goal::Added(1.0);
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Chat turns: rates and what the server adds to an answer's time
    Turns(TurnsArgs),
    /// A backlog: memory, start, and what a new conversation feels of it
    Backlog(backlog::BacklogArgs),
    /// Messages through a queue: stored, handed out in order, acknowledged; a store alone, or over HTTP
    Queue(queue::QueueArgs),
    /// Turns answered by one node, and by two that share a store
    Nodes(nodes::NodesArgs),
    /// Idle event streams: the memory each takes in the server
    Streams(streams::StreamsArgs),
    /// One organisation's answers beside a flood of another, and beside readers that stop reading
    Fairness(fairness::FairnessArgs),
    /// What others feel of an outage: callback hosts down or slow, readers that stop, the agent down
    Outage(outage::OutageArgs),
    /// Events of one topic to many readers, beside nchan and beside a reader that has stopped
    Fanout(fanout::FanoutArgs),
    /// Idle WebSockets: the memory each takes in the server; and a message's way from one agent to another
    Sockets(sockets::SocketsArgs),
    /// Minutes at full rate: memory, open files and disk must not grow
    Soak(soak::SoakArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TurnsArgs {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Clients at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
}

pub(crate) fn run(context: &Context, command: &BenchCommand) -> Outcome {
    let threads = if matches!(command, BenchCommand::Queue(_)) { QUEUE_THREADS } else { 1 };
    let runtime = runtime(threads)?;
    match command {
        BenchCommand::Turns(arguments) => runtime.block_on(super::until_stopped(turns(context, arguments))),
        BenchCommand::Backlog(arguments) => {
            runtime.block_on(super::until_stopped(backlog::run(context, arguments)))
        }
        BenchCommand::Queue(arguments) => {
            runtime.block_on(super::until_stopped(queue::queue(context, arguments)))
        }
        BenchCommand::Nodes(arguments) => {
            runtime.block_on(super::until_stopped(nodes::nodes(context, arguments)))
        }
        BenchCommand::Streams(arguments) => {
            runtime.block_on(super::until_stopped(streams::streams(context, arguments)))
        }
        BenchCommand::Fairness(arguments) => {
            runtime.block_on(super::until_stopped(fairness::fairness(context, arguments)))
        }
        BenchCommand::Outage(arguments) => {
            runtime.block_on(super::until_stopped(outage::outage(context, arguments)))
        }
        BenchCommand::Fanout(arguments) => {
            runtime.block_on(super::until_stopped(fanout::fanout(context, arguments)))
        }
        BenchCommand::Sockets(arguments) => {
            runtime.block_on(super::until_stopped(sockets::sockets(context, arguments)))
        }
        BenchCommand::Soak(arguments) => {
            runtime.block_on(super::until_stopped(soak::soak(context, arguments)))
        }
    }
}

async fn turns(context: &Context, arguments: &TurnsArgs) -> Outcome {
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let run = Run {
        folder: folder.path(),
        seconds: Duration::from_secs(arguments.seconds),
        clients: usize::from(arguments.clients),
    };
    let mut rows = Vec::new();
    rows.push(Row::new("fdatasync_p50_ms", "the disk: fdatasync of 4 KiB, p50", run.fdatasync()?, "ms"));
    step("the store alone");
    let commit_ms = commit::p50_ms(&run.folder.join("commit")).await?;
    rows.push(Row::new("commit_p50_ms", "the store: one commit, p50 (commit)", commit_ms, "ms"));
    step("accepting only, no agent");
    let held = run.held().await?;
    step("with an agent that answers at once");
    rows.extend(run.with_agent(&held, commit_ms).await?);
    rows.extend(held.rows());
    step("streams");
    rows.extend(run.streams(commit_ms).await?);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    if context.json {
        print::json(&json!({
            "seconds": arguments.seconds, "clients": arguments.clients, "message_bytes": MESSAGE_BYTES,
            "cpus": cpus, "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return Ok(());
    }
    print::line(&format!(
        "{} clients, {} s each, messages of {MESSAGE_BYTES} bytes, {cpus} processors, embedded store\n",
        arguments.clients, arguments.seconds
    ));
    show_rows(&rows);
    Ok(())
}

/// For people, with a warning where the figures are worth nothing.
fn show_rows(rows: &[Row]) {
    print::text(&table::render(rows));
    if cfg!(debug_assertions) {
        print::line("\nThis is a debug build: the figures mean nothing. Use cargo run --release.");
    }
}

/// What a file takes of the disk; its length may be more or less.
fn disk_bytes(file: &Metadata) -> u64 {
    file.blocks() * BLOCK_BYTES
}

/// Why there are no figures.
fn unmeasured(what: &str, why: impl ToString) -> Failure {
    Failure::new(Exit::Failure, format!("{what}, so that nothing was measured"), why.to_string())
}

fn step(what: &str) {
    eprintln!("measuring: {what}");
}

struct Run<'a> {
    folder: &'a Path,
    seconds: Duration,
    clients: usize,
}

impl Run<'_> {
    async fn server(&self, name: &str, agent: Option<String>) -> Result<ServerProcess, Failure> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        ServerProcess::start(Setup { folder, agent, env: Vec::new(), arguments: Vec::new() }).await
    }

    async fn closed_loop(&self, kind: Kind, url: &str, name: &str) -> Result<Measured, Failure> {
        closed_loop(kind, url, self.clients, self.seconds, name).await
    }

    /// What one commit costs on this disk at least.
    fn fdatasync(&self) -> Result<f64, Failure> {
        let mut file = std::fs::File::create(self.folder.join("fdatasync"))?;
        let mut times = histogram();
        for _ in 0..SYNCS {
            file.write_all(&[7; SYNC_BYTES])?;
            let started = Instant::now();
            file.sync_data()?;
            note(&mut times, started.elapsed());
        }
        Ok(millis(&times, 0.5))
    }

    async fn with_agent(&self, held: &Held, commit_ms: f64) -> Result<Vec<Row>, Failure> {
        let agent = AgentThread::fake()?;
        let mut server = self.server("agent", Some(agent.url.clone())).await?;
        let direct = self.closed_loop(Kind::Direct, &agent.url, "direct").await?;
        let sync = self.closed_loop(Kind::Sync, &server.url(), "sync").await?;
        let (alone_direct, alone_sync) = self.alone(&agent.url, &server.url()).await?;
        let delivering = self.closed_loop(Kind::Async, &server.url(), "delivering").await?;
        server.kill().await?;
        agent.stop();
        let added = |quantile| alone_sync.millis(quantile) - alone_direct.millis(quantile);
        Ok(vec![
            Row::new("direct_per_s", "the agent alone, no server", direct.rate(), "/s"),
            Row::new("sync_per_s", "turns answered in the request", sync.rate(), "/s")
                .over("direct", direct.rate())
                .goal(goals::SYNC),
            Row::new("sync_p99_ms", "  their time, p99", sync.millis(0.99), "ms")
                .over("direct", direct.millis(0.99)),
            Row::new("accepted_delivering_per_s", "turns accepted while delivering", delivering.rate(), "/s")
                .over("direct", direct.rate())
                .goal(goals::ACCEPTED_DELIVERING),
            Row::new("accepted_held_per_s", "turns accepted, delivery held", held.all.rate(), "/s")
                .over("direct", direct.rate())
                .goal(goals::ACCEPTED_HELD),
            Row::new("direct_p50_ms", "one client, the agent alone, p50", alone_direct.millis(0.5), "ms"),
            Row::new("added_p50_ms", "one client, added by the server, p50", added(0.5), "ms")
                .over("commit", commit_ms)
                .goal(goals::ADDED_P50),
            Row::new("added_p99_ms", "one client, added by the server, p99", added(0.99), "ms")
                .over("commit", commit_ms),
        ])
    }

    /// One client, in turns with and without the server, so that both see the same machine.
    async fn alone(&self, agent: &str, server: &str) -> Result<(Measured, Measured), Failure> {
        let mut direct = Worker::new(Kind::Direct, agent, "alone-direct".into());
        let mut sync = Worker::new(Kind::Sync, server, "alone-sync".into());
        let (mut direct_times, mut sync_times) = (histogram(), histogram());
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < self.seconds {
            note(&mut direct_times, direct.once().await?);
            note(&mut sync_times, sync.once().await?);
            count += 1;
        }
        let elapsed = started.elapsed();
        let measured = |times| Measured { count, elapsed, times };
        Ok((measured(direct_times), measured(sync_times)))
    }

    async fn held(&self) -> Result<Held, Failure> {
        let mut server = self.server("held", None).await?;
        let all = self.closed_loop(Kind::Async, &server.url(), "held").await?;
        let one = closed_loop(Kind::Async, &server.url(), 1, self.seconds, "one").await?;
        server.kill().await?;
        Ok(Held { all, one })
    }

    async fn streams(&self, commit_ms: f64) -> Result<Vec<Row>, Failure> {
        let epoch = Instant::now();
        let agent = AgentThread::answering(move |request| stamp::answer(request, epoch))?;
        let mut process = self.server("streams", Some(agent.url.clone())).await?;
        let server = Server::new(&process.url(), None)?;
        let direct = stamp::direct(&agent.url, Instant::now() + self.seconds, epoch).await?;
        let through = stamp::through(&server, Instant::now() + self.seconds, epoch).await?;
        process.kill().await?;
        agent.stop();
        let first = millis(&through.first, 0.5) - millis(&direct.first, 0.5);
        let first_way = millis(&through.first_way, 0.5) - millis(&direct.first_way, 0.5);
        let event = millis(&through.event, 0.5) - millis(&direct.event, 0.5);
        Ok(vec![
            Row::new(
                "first_event_way_added_p50_ms",
                "stream, first event: added after the agent, p50",
                first_way,
                "ms",
            )
            .over("commit", commit_ms)
            .goal(goals::FIRST_EVENT),
            Row::new("first_event_added_p50_ms", "stream, first event: added since the request", first, "ms")
                .over("commit", commit_ms)
                .goal(goals::FIRST_EVENT),
            Row::new("event_added_p50_ms", "stream, each event: added, p50", event, "ms")
                .over("commit", commit_ms)
                .goal(goals::EACH_EVENT),
        ])
    }
}

/// Accepting without delivering.
struct Held {
    all: Measured,
    one: Measured,
}

impl Held {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row::new("accepted_held_p50_ms", "delivery held: their time, p50", self.all.millis(0.5), "ms"),
            Row::new("accepted_held_p99_ms", "delivery held: their time, p99", self.all.millis(0.99), "ms"),
            Row::new(
                "accepted_alone_p50_ms",
                "one client, accepted durably, p50",
                self.one.millis(0.5),
                "ms",
            ),
        ]
    }
}

//! `turnwise demo`: clients, a fake agent and a server that is killed in the
//! middle, on one screen. It is a demonstration, a smoke test and a gate in one.

mod actor;
mod board;
mod plan;
mod report;

use super::version::VERSION;
use super::{Context, Outcome, print, runtime};
use crate::child::{ServerProcess, Setup};
use crate::client::Server;
use crate::failure::{Exit, Failure};
use actor::{Actor, Complaints};
use board::{Board, Look};
use clap::Args;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::task::JoinSet;
use turnwise_mock::{AgentConfig, FakeAgent};

/// How long the clients are busy unless said otherwise.
const DURATION: Duration = Duration::from_secs(20);
/// The same for `--check`.
const DURATION_CHECK: Duration = Duration::from_secs(8);
/// Time beyond three durations after which what has no end is lost.
const PATIENCE: Duration = Duration::from_secs(45);
/// Share of the turns that have ended when the server is killed.
const KILL_AFTER: f64 = 0.4;
/// Pictures per second of the table.
const FRAME: Duration = Duration::from_millis(150);
/// Between two looks for the moment of the kill: far less than any call takes.
const LOOK: Duration = Duration::from_millis(1);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Short, in plain lines; for scripts (exit code 7 if anything was out of order, lost or doubled)
    #[arg(long)]
    check: bool,
    /// The same seed is the same conversation [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Users, each with two clients
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    users: u16,
    /// Seconds the clients are busy [default: 20, with --check 8]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: Option<u64>,
    /// A deliberate fault of the server, to see the check find it
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "NAME")]
    mutant: Option<String>,
}

pub(crate) fn run(context: &Context, arguments: &DemoArgs) -> Outcome {
    runtime(1)?.block_on(super::until_stopped(demo(context, arguments)))
}

async fn demo(context: &Context, arguments: &DemoArgs) -> Outcome {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => getrandom::u64().unwrap_or(1) % 1_000_000,
    };
    let users = usize::from(arguments.users);
    let default = if arguments.check { DURATION_CHECK } else { DURATION };
    let duration = arguments.duration.map_or(default, Duration::from_secs);
    let plan = plan::draw(seed, users, duration);
    let planned = plan.iter().flatten().map(Vec::len).sum();
    let folder = tempfile::Builder::new().prefix("turnwise-demo-").tempdir()?;
    let config = AgentConfig { slots: Some(plan::SLOTS), ..AgentConfig::default() };
    let agent = FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), config).await?;
    let mut process = ServerProcess::start(setup(arguments, folder.path(), &agent)).await?;
    let server = Server::new(&process.url(), None)?;
    let board = Arc::new(Board::new(Look::choose(context.json, arguments.check), users, planned));
    if !context.json {
        introduce(&process, users, planned, seed);
    }
    let mut clients = start_clients(&server, &board, plan);
    let mut course = Course::default();
    let conduct = conduct(&mut course, &mut process, &board, &agent, &mut clients, planned);
    let limit = duration * 3 + PATIENCE;
    match tokio::time::timeout(limit, conduct).await {
        Ok(conducted) => conducted?,
        Err(_) => course.complaints.push(format!("not over after {} s", limit.as_secs())),
    }
    clients.shutdown().await;
    let report = report::judge(report::Facts {
        seed,
        users,
        planned,
        elapsed: board.elapsed(),
        turns: board.turns(),
        calls: agent.journal().calls(),
        kills: course.kills,
        resumes: board.resumes(),
        complaints: course.complaints,
    });
    process.kill().await?;
    agent.stop().await;
    match context.json {
        true => print::json(&report),
        false => print::line(&report::render(&report)),
    }
    match report.ok {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::Check, "the check found something wrong", report::found_wrong(&report))
                .hint(format!("turnwise demo --check --seed {seed}")))
        }
    }
}

fn setup(arguments: &DemoArgs, folder: &std::path::Path, agent: &FakeAgent) -> Setup {
    let mut serve = Vec::new();
    #[cfg(debug_assertions)]
    if let Some(mutant) = &arguments.mutant {
        serve.extend(["--mutant".to_owned(), mutant.clone()]);
    }
    #[cfg(not(debug_assertions))]
    let _ = (arguments, &mut serve);
    Setup {
        folder: folder.to_path_buf(),
        agent: Some(agent.base_url()),
        env: vec![("TURNWISE_AGENT_CONCURRENCY", plan::SLOTS.to_string()), ("LOG_LEVEL", "WARN".into())],
        arguments: serve,
    }
}

fn introduce(process: &ServerProcess, users: usize, planned: usize, seed: u64) {
    print::line(&format!("turnwise {VERSION}  demo, seed {seed}; the data is in a temporary folder"));
    print::line(&format!(
        "  {users} users with two clients each send {planned} messages at once to a fake agent with {} slots.",
        plan::SLOTS
    ));
    print::line("  One answer is 503 with Retry-After, one is 500, one client disconnects and resumes,");
    print::line("  and the server is killed with SIGKILL in the middle and started again.");
    print::line(&format!("  server {} (process {})\n", process.url(), process.pid().unwrap_or(0)));
}

fn start_clients(
    server: &Server,
    board: &Arc<Board>,
    plan: Vec<[Vec<plan::Planned>; 2]>,
) -> JoinSet<Complaints> {
    let counter = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for (user, both) in plan.into_iter().enumerate() {
        for ((client, letter), planned) in plan::CLIENTS.into_iter().zip(['a', 'b']).zip(both) {
            let actor = Actor {
                server: server.clone(),
                board: Arc::clone(board),
                counter: Arc::clone(&counter),
                user,
                user_name: plan::user_name(user),
                client,
                letter,
            };
            clients.spawn(actor.run(planned));
        }
    }
    clients
}

/// What happened on the way.
#[derive(Default)]
struct Course {
    complaints: Complaints,
    kills: Vec<u64>,
}

/// Waits for the clients, kills the server once on the way, and keeps the picture fresh.
async fn conduct(
    course: &mut Course,
    process: &mut ServerProcess,
    board: &Board,
    agent: &FakeAgent,
    clients: &mut JoinSet<Complaints>,
    planned: usize,
) -> Result<(), Failure> {
    let mut frame = tokio::time::interval(FRAME);
    let mut progress = tokio::time::interval(PROGRESS);
    progress.tick().await;
    let mut kill = std::pin::pin!(time_to_kill(board, agent, planned));
    loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(Ok(found)) => course.complaints.extend(found),
                Some(Err(error)) => course.complaints.push(format!("a client broke: {error}")),
                None => break,
            },
            () = &mut kill, if course.kills.is_empty() => {
                course.kills.push(kill_and_restart(process, agent, board).await?);
            }
            _ = progress.tick(), if board.look() == Look::Lines => board.say_progress(),
            _ = frame.tick(), if board.look() == Look::Table => board.draw(),
        }
    }
    if board.look() == Look::Table {
        board.draw();
    }
    Ok(())
}

/// Returns when enough turns have ended, the reader that leaves has come back, and the agent is at work.
async fn time_to_kill(board: &Board, agent: &FakeAgent, planned: usize) {
    let ended_min = ((planned as f64 * KILL_AFTER) as usize).max(1);
    while board.ended() < ended_min || board.resumes() == 0 || agent.journal().stats().in_flight == 0 {
        tokio::time::sleep(LOOK).await;
    }
}

/// Answers when it was killed, in the order of the agent's calls.
async fn kill_and_restart(
    process: &mut ServerProcess,
    agent: &FakeAgent,
    board: &Board,
) -> Result<u64, Failure> {
    let pid = process.pid().unwrap_or(0);
    process.kill().await?;
    let killed = agent.journal().mark();
    board.say(&format!("the server (process {pid}) was killed with SIGKILL"));
    let started = std::time::Instant::now();
    process.restart().await?;
    let pid = process.pid().unwrap_or(0);
    board.say(&format!("the server is back as process {pid} after {} ms", started.elapsed().as_millis()));
    Ok(killed)
}

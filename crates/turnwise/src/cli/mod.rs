//! The command line: the tree of commands, and how their results and failures
//! leave the process. One file per command.

mod agent;
mod bench;
mod completions;
mod configuration;
mod dead;
mod demo;
mod import;
mod keys;
#[cfg(debug_assertions)]
mod mutant;
mod print;
mod queue;
mod send;
mod serve;
mod server;
mod status;
mod tail;
mod topic;
mod version;

pub(crate) use version::VERSION;

use crate::failure::{Exit, Failure};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    name = "turnwise",
    version,
    about = "Every conversation in order, one turn at a time",
    after_help = "Start here:\n  turnwise demo                       see it work, nothing else needed\n  \
                  turnwise serve --mock-agent         a server with a fake agent\n  \
                  turnwise send --user alice \"hello\"  stream an answer from it\n\n\
                  Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 auth, 5 conflict, 6 unreachable or timeout, 7 a check failed"
)]
struct Cli {
    /// One JSON object per result on stdout, errors as JSON on stderr
    #[arg(long, global = true)]
    json: bool,
    /// TOML file with settings [default: ./turnwise.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: users, a fake agent, and a server that is killed in the middle
    Demo(demo::DemoArgs),
    /// Run the server
    Serve(serve::ServeArgs),
    /// Send a message and stream the answer
    Send(send::SendArgs),
    /// How a server is: store, agent, what waits, what came of the rest
    Status(status::StatusArgs),
    /// Watch turns being accepted, called and ended
    Tail(tail::TailArgs),
    /// Fake agents
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Callbacks that were given up on: list, show, try again, drop
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Topics: list, read, follow, publish
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Work queues: list, look, send, put dead letters back, purge, pause
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Take over what another system left
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// The settings: check, show, explain, begin a file
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// A script that completes these commands in a shell
    Completions(completions::CompletionsArgs),
    /// Which version this is
    Version,
}

/// What every command gets to know.
#[derive(Debug)]
struct Context {
    json: bool,
    config: Option<PathBuf>,
}

/// How a command ends.
type Outcome = Result<(), Failure>;

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let context = Context { json: cli.json, config: cli.config };
    match run(&context, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(context.json);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Demo(arguments) => demo::run(context, &arguments),
        Command::Serve(arguments) => serve::run(context, &arguments),
        Command::Send(arguments) => send::run(context, arguments),
        Command::Status(arguments) => status::run(context, &arguments),
        Command::Tail(arguments) => tail::run(context, &arguments),
        Command::Agent(command) => agent::run(context, command),
        Command::Dead(command) => dead::run(context, command),
        Command::Topic(command) => topic::run(context, command),
        Command::Queue(command) => queue::run(context, command),
        Command::Import(command) => import::run(context, command),
        Command::Keys(command) => keys::run(context, command),
        Command::Config(command) => configuration::run(context, &command),
        Command::Bench(command) => bench::run(context, &command),
        Command::Completions(arguments) => completions::run(context, &arguments),
        Command::Version => version::run(context),
    }
}

/// The async runtime of a command: one thread stays on the main thread.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    Ok(builder.enable_all().build()?)
}

/// Ctrl-C and SIGTERM, caught from the moment this exists.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn catch() -> Result<StopSignals, Failure> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns at the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a command that cleans up after itself when it is dropped, until it ends or is stopped.
async fn until_stopped(work: impl Future<Output = Outcome>) -> Outcome {
    let mut signals = StopSignals::catch()?;
    tokio::select! {
        outcome = work => outcome,
        () = signals.next() => Err(Failure::new(Exit::Failure, "stopped", "stopped by a signal; nothing is left behind")),
    }
}

/// Help and version go to stdout as they are; a usage error as JSON if the caller asked for it.
fn refuse(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    let is_error = !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if wants_json && is_error {
        let text = error.render().to_string();
        let detail = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::new(Exit::Usage, "wrong arguments", detail).hint("turnwise --help").print(true);
    } else {
        drop(error.print());
    }
    if is_error { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

//! `turnwise bench nodes`: turns answered by one node, and by two on the same store, all in one run on this machine.

use super::agent::AgentThread;
use super::load::{Kind, Measured, closed_loop};
use super::table::{Goal, Row};
use super::{Context, Outcome, print, show_rows, step};
use crate::child::{ServerProcess, Setup};
use crate::config::{self, Config, StoreKind};
use crate::failure::{Exit, Failure};
use clap::Args;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use turnwise_mock::AgentConfig;

/// Keeps a measurement apart from the messages that a server holds.
const NAMESPACE: &str = "turnwise_bench_nodes";
/// Milliseconds the agent takes for an answer.
const AGENT_MS: u64 = 50;
/// Calls of one node at once: it can do `CALLS * 1_000 / AGENT_MS` turns a second.
const CALLS: usize = 64;
/// Clients of one node, twice as many as it calls at once: there is always a turn that waits.
const CLIENTS: usize = 2 * CALLS;
/// Two nodes answer at least so many times what one answers.
const BOTH: Goal = Goal::Least(1.8);

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Which store: redis://host:port or postgres://host/database; the measurement uses a namespace of its own
    /// [default: as in the settings]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(super) async fn nodes(context: &Context, arguments: &NodesArgs) -> Outcome {
    let flags: Vec<_> = arguments.store.iter().map(|url| ("store.url", url.clone())).collect();
    let config = Config::load(context.config.as_deref(), &config::environment(), &flags)?;
    let url = match &config.store {
        StoreKind::Redis(server) | StoreKind::Postgres(server) => server.text().to_owned(),
        StoreKind::Memory | StoreKind::Embedded => {
            let detail = "Only a server is shared by several nodes: give --store redis://… or postgres://….";
            return Err(Failure::new(Exit::Usage, "this store belongs to one node", detail));
        }
    };
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let agent = AgentThread::with(AgentConfig {
        delay_ms: AGENT_MS,
        markers: false,
        journal_calls_max: 0,
        ..AgentConfig::default()
    })?;
    let seconds = Duration::from_secs(arguments.seconds);
    let mut first = node(&folder.path().join("first"), &agent.url, &url).await?;
    step("one node");
    let alone = closed_loop(Kind::Sync, &first.url(), CLIENTS, seconds, "alone").await?;
    let mut second = node(&folder.path().join("second"), &agent.url, &url).await?;
    step("two nodes");
    let (one, other) = (first.url(), second.url());
    let (one, other) = tokio::join!(
        closed_loop(Kind::Sync, &one, CLIENTS, seconds, "one"),
        closed_loop(Kind::Sync, &other, CLIENTS, seconds, "other"),
    );
    let (one, other) = (one?, other?);
    first.stop().await?;
    second.stop().await?;
    agent.stop();
    show(context, arguments, &alone, [&one, &other]);
    Ok(())
}

async fn node(folder: &Path, agent: &str, store: &str) -> Result<ServerProcess, Failure> {
    std::fs::create_dir_all(folder)?;
    let env = vec![
        ("TURNWISE_STORE", store.to_owned()),
        ("TURNWISE_STORE_NAMESPACE", NAMESPACE.to_owned()),
        ("TURNWISE_AGENT_CONCURRENCY", CALLS.to_string()),
    ];
    let agent = Some(agent.to_owned());
    ServerProcess::start(Setup { folder: folder.to_owned(), agent, env, arguments: Vec::new() }).await
}

fn show(context: &Context, arguments: &NodesArgs, alone: &Measured, both: [&Measured; 2]) {
    let rate = both.map(Measured::rate).iter().sum();
    let p99 = both.map(|one| one.millis(0.99)).into_iter().fold(0.0, f64::max);
    let rows = [
        Row::new("one_per_s", "one node: turns answered (one)", alone.rate(), "/s"),
        Row::new("one_p99_ms", "  their time, p99", alone.millis(0.99), "ms"),
        Row::new("two_per_s", "two nodes: turns answered", rate, "/s").over("one", alone.rate()).goal(BOTH),
        Row::new("two_p99_ms", "  their time, p99", p99, "ms").over("one", alone.millis(0.99)),
    ];
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    if context.json {
        print::json(&json!({
            "seconds": arguments.seconds, "agent_ms": AGENT_MS, "agent_concurrency": CALLS, "clients": CLIENTS,
            "cpus": cpus, "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return;
    }
    print::line(&format!(
        "an agent of {AGENT_MS} ms, {CALLS} calls and {CLIENTS} clients of each node, {} s each, {cpus} processors \
         for nodes, store, agent and clients\n",
        arguments.seconds
    ));
    show_rows(&rows);
}

//! `turnwise bench sockets`: what an idle WebSocket costs the server in memory, and how long a message takes from one
//! agent to another, beside a commit of the store in the same run.

mod direct;
mod idle;

use super::load::millis;
use super::table::{Goal, Row};
use super::{Context, Outcome, commit, print, show_rows, step, unmeasured};
use crate::failure::Failure;
use crate::rlimits;
use clap::Args;
use hdrhistogram::Histogram;
use idle::Idle;
use serde_json::json;
use std::time::Duration;

/// Whose connections they are.
const ORG: &str = "bench";
/// KiB that one idle connection may cost.
const IDLE: Goal = Goal::Most(32.0);
/// One commit for the note of what is sent to whom, one for the message in the inbox; then it is handed out.
const DIRECT: Goal = Goal::Added(2.0);
/// Seconds by which the server has pinged every connection.
const PINGED_BY: u64 = 32;

#[derive(Debug, Args)]
pub(crate) struct SocketsArgs {
    /// Idle connections open at once, or as many as the limit of open files allows
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    count: u32,
    /// Seconds until the last look at them: the server has pinged each by then
    #[arg(long, default_value_t = PINGED_BY, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Messages from one agent to another, each when the one before is acknowledged
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |why| unmeasured(what, why)
}

pub(super) async fn sockets(context: &Context, arguments: &SocketsArgs) -> Outcome {
    rlimits::raise();
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    step("the store alone");
    let commit_before_ms = commit::p50_ms(&folder.path().join("commit-before")).await?;
    step("messages from one agent to another");
    let direct = direct::measured(&folder.path().join("direct"), arguments.messages).await?;
    step("the store alone, again");
    let commit_after_ms = commit::p50_ms(&folder.path().join("commit-after")).await?;
    // The disk may be slower for a while; the faster of the two asks more of the messages.
    let commit_ms = commit_before_ms.min(commit_after_ms);
    let wanted = usize::try_from(arguments.count).unwrap_or(usize::MAX);
    let length = Duration::from_secs(arguments.seconds);
    let idle = idle::measured(&folder.path().join("idle"), wanted, length).await?;
    let rows = rows(commit_ms, &direct, &idle);
    if context.json {
        print::json(&json!({
            "connections": idle.count, "connections_wanted": wanted, "seconds": arguments.seconds,
            "messages": arguments.messages, "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return Ok(());
    }
    print::line(&format!(
        "{} idle connections, each following a topic of its own; {} messages from one agent to another, \
         embedded store\n",
        idle.count, arguments.messages
    ));
    show_rows(&rows);
    Ok(())
}

fn rows(commit_ms: f64, direct: &Histogram<u64>, idle: &Idle) -> Vec<Row> {
    let (p50, p99) = (millis(direct, 0.5), millis(direct, 0.99));
    let each = |after: f64| (after - idle.before_kib) / idle.count as f64;
    let fewer = match idle.wanted - idle.count {
        0 => String::new(),
        _ => format!(" ({} of {}: the limit of open files)", idle.count, idle.wanted),
    };
    vec![
        Row::new("commit_p50_ms", "the store: one commit, p50 (commit)", commit_ms, "ms"),
        Row::new("direct_p50_ms", "message to an agent that is online, p50", p50, "ms")
            .over("commit", commit_ms)
            .goal(DIRECT),
        Row::new("direct_p99_ms", "message to an agent that is online, p99", p99, "ms")
            .over("commit", commit_ms),
        Row::new("resident_before_kib", "resident before", idle.before_kib, "KiB"),
        Row::new("resident_open_kib", "resident, the connections open", idle.open_kib, "KiB"),
        Row::new("socket_open_kib", "one connection, open", each(idle.open_kib), "KiB"),
        Row::new("resident_idle_kib", "resident, after a ping on each", idle.idle_kib, "KiB"),
        Row::new(
            "socket_idle_kib",
            format!("one connection, after a ping{fewer}"),
            each(idle.idle_kib),
            "KiB",
        )
        .goal(IDLE),
    ]
}

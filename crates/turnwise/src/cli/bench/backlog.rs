//! `turnwise bench backlog`: a server behind a great many turns that wait.
//! Fills a data folder in this process, with the records of real submissions,
//! then starts the real server on it and looks at it from outside.

use super::fill::{Filled, Filler};
use super::load::{histogram, millis, note, text};
use super::noting::NotingAgent;
use super::{Context, Outcome, disk_bytes, print, step};
use crate::child::{ServerProcess, Setup};
use crate::failure::{Exit, Failure};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use turnwise_mock::Conn;

/// Turns in new conversations that are timed.
const SAMPLES: u32 = 200;
/// Retry-After of the heads: longer than the measurement.
const HEADS_WAIT: Duration = Duration::from_secs(1800);

#[derive(Debug, Args)]
pub(crate) struct BacklogArgs {
    /// Turns that wait
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    turns: u64,
    /// Conversations they are spread over
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    conversations: u64,
    /// So many turns more, all of one conversation
    #[arg(long, default_value_t = 0)]
    one_conversation: u64,
    /// Ended turns in a store of their own, for the cost of keeping one [default: a tenth of the turns]
    #[arg(long)]
    ended: Option<u64>,
    /// Keep the folders here instead of a temporary folder that is removed
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// The server beside what it was started on.
struct Look {
    name: &'static str,
    turns: u64,
    fill_s: f64,
    file_bytes: u64,
    live_bytes: u64,
    ready_ms: f64,
    rss_bytes: u64,
}

pub(crate) async fn run(context: &Context, arguments: &BacklogArgs) -> Outcome {
    let temporary = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let folder = arguments.keep.as_deref().unwrap_or(temporary.path());
    let agent = NotingAgent::start()?;
    let ended_turns = arguments.ended.unwrap_or(arguments.turns / 10);

    step("an empty store");
    let (empty, mut server) = look("empty", folder, &agent.url, Filled::default()).await?;
    server.stop().await?;

    step("a store of ended turns");
    let filled = Filler::open(&folder.join("ended"))?.ended(ended_turns).await?;
    let (ended, mut server) = look("ended", folder, &agent.url, filled).await?;
    server.stop().await?;

    step("a store of waiting turns");
    let filler = Filler::open(&folder.join("waiting"))?;
    let filled = filler
        .waiting(arguments.turns, arguments.conversations, arguments.one_conversation, HEADS_WAIT)
        .await?;
    let (waiting, mut server) = look("waiting", folder, &agent.url, filled).await?;
    step("new conversations");
    let outside = outside(&server.url(), &agent).await?;
    let rss_after = server.resident_bytes()?;
    let stopping = Instant::now();
    server.stop().await?;
    let stop_ms = stopping.elapsed().as_secs_f64() * 1_000.0;
    let restart = timed_restart(&mut server).await?;
    server.kill().await?;
    step("after kill -9");
    let after_kill = timed_restart(&mut server).await?;
    server.kill().await?;
    agent.stop();

    let per = |look: &Look| look.rss_bytes.saturating_sub(empty.rss_bytes) as f64 / look.turns.max(1) as f64;
    let report = json!({
        "turns": arguments.turns, "conversations": arguments.conversations,
        "one_conversation": arguments.one_conversation, "optimised": !cfg!(debug_assertions),
        "stores": [shown(&empty), shown(&ended), shown(&waiting)],
        "rss_bytes": waiting.rss_bytes, "rss_bytes_after": rss_after,
        "bytes_per_waiting_turn": per(&waiting), "bytes_per_ended_turn": per(&ended),
        "disk_over_live": waiting.file_bytes as f64 / waiting.live_bytes.max(1) as f64,
        "ready_ms_first": waiting.ready_ms, "stop_ms": stop_ms,
        "ready_ms_after_stop": restart, "ready_ms_after_kill": after_kill,
        "outside": outside,
    });
    if context.json {
        print::json(&report);
    } else {
        print::line(&serde_json::to_string_pretty(&report).unwrap_or_default());
    }
    Ok(())
}

fn shown(look: &Look) -> Value {
    json!({
        "store": look.name, "turns": look.turns, "fill_s": look.fill_s, "file_bytes": look.file_bytes,
        "live_bytes": look.live_bytes, "ready_ms": look.ready_ms, "rss_bytes": look.rss_bytes,
    })
}

/// Starts the server on a folder and looks at its memory once it has settled.
async fn look(
    name: &'static str,
    folder: &Path,
    agent: &str,
    filled: Filled,
) -> Result<(Look, ServerProcess), Failure> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let env = vec![
        ("TURNWISE_CONVERSATION_DEPTH_MAX", "1000000".to_owned()),
        ("TURNWISE_TURNS_WAITING_MAX", i64::MAX.to_string()),
        ("TURNWISE_TURNS_WAITING_PER_ORG_MAX", i64::MAX.to_string()),
        ("TURNWISE_RETRY_AFTER_MAX", "86400".to_owned()),
    ];
    let setup = Setup { folder: folder.clone(), agent: Some(agent.to_owned()), env, arguments: Vec::new() };
    let started = Instant::now();
    let server = ServerProcess::start(setup).await?;
    let ready_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let file_bytes = size_of(&folder.join("data"));
    let look = Look {
        name,
        turns: filled.turns,
        fill_s: filled.seconds,
        file_bytes,
        live_bytes: filled.live_bytes,
        ready_ms,
        rss_bytes: server.resident_bytes()?,
    };
    Ok((look, server))
}

async fn timed_restart(server: &mut ServerProcess) -> Result<f64, Failure> {
    let started = Instant::now();
    server.restart().await?;
    Ok(started.elapsed().as_secs_f64() * 1_000.0)
}

/// New conversations and `/health`, in turns; milliseconds.
async fn outside(url: &str, agent: &NotingAgent) -> Result<Value, Failure> {
    let mut conn = Conn::new(url);
    let (mut call, mut answer, mut health, mut metrics) =
        (histogram(), histogram(), histogram(), histogram());
    let mut has_metrics = true;
    let text = text();
    for sample in 0..SAMPLES {
        let body = json!({"client_id": "bench", "user_id": format!("new-{sample}"), "org_id": "bench",
            "message": text});
        agent.forget();
        let started = Instant::now();
        let answered = get(&mut conn, Method::POST, "/api/v1/message", body.to_string()).await?;
        note(&mut answer, started.elapsed());
        if answered != 200 {
            return Err(Failure::new(Exit::Check, "a turn was not answered", format!("status {answered}")));
        }
        let called = agent.first_call().ok_or_else(|| {
            Failure::new(Exit::Check, "a turn was answered without a call", "the agent saw none")
        })?;
        note(&mut call, called.saturating_duration_since(started));
        let started = Instant::now();
        get(&mut conn, Method::GET, "/health", String::new()).await?;
        note(&mut health, started.elapsed());
        let started = Instant::now();
        has_metrics &= get(&mut conn, Method::GET, "/metrics", String::new()).await? == 200;
        note(&mut metrics, started.elapsed());
    }
    let figures = |times: &hdrhistogram::Histogram<u64>| json!({"p50_ms": millis(times, 0.5), "p99_ms": millis(times, 0.99), "max_ms": millis(times, 1.0)});
    Ok(json!({
        "samples": SAMPLES, "call_starts": figures(&call), "answered": figures(&answer),
        "health": figures(&health),
        "metrics": if has_metrics { figures(&metrics) } else { Value::Null },
    }))
}

async fn get(conn: &mut Conn, method: Method, path: &str, body: String) -> Result<u16, Failure> {
    let answer = conn
        .call(method, path, &[], body.into())
        .await
        .map_err(|error| Failure::new(Exit::Unreachable, "a request had no answer", error.to_string()))?;
    Ok(answer.status.as_u16())
}

/// Bytes a folder's files take on the disk.
fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| disk_bytes(&file)).sum()
}

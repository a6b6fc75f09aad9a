//! `turnwise bench fairness`: what one organisation's answers take alone, while
//! another floods, and while many readers have stopped reading. All in one
//! run, against one server; compare the ratios.

use super::load::{Kind, Measured, Worker, paced};
use super::table::{self, Goal, Row};
use super::{AgentThread, step};
use crate::child::{ServerProcess, Setup};
use crate::cli::{Context, Outcome, print};
use crate::failure::{Exit, Failure};
use crate::rlimits;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use turnwise_mock::{AgentConfig, Conn};

/// Milliseconds the agent takes for an answer, and its slots: so many turns a second it can do.
const AGENT_MS: u64 = 50;
const SLOTS: u64 = 8;
/// Two organisations: each has half of the agent.
const SHARE: f64 = (SLOTS * 1_000 / AGENT_MS / 2) as f64;
/// How many times its share the other organisation sends.
const FLOOD: f64 = 50.0;
/// Connections it sends on.
const FLOOD_CLIENTS: usize = 64;
/// Users of the organisation that is measured, and how often each asks.
const USERS: usize = 4;
const PERIOD: Duration = Duration::from_millis(200);
/// Readers that stop, at most; events of the answer that nobody reads, and what a reader's socket holds of it.
pub(super) const UNREAD_READERS_MAX: i64 = 9_000;
const UNREAD_EVENTS: u32 = 4_000;
const UNREAD_SOCKET_BYTES: u32 = 4_096;

/// p99 beside the flood, and beside the unread streams, at most so many times that alone.
const BESIDE_FLOOD: Goal = Goal::Most(2.0);
const BESIDE_READERS: Goal = Goal::Most(1.2);

#[derive(Debug, Args)]
pub(crate) struct FairnessArgs {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Readers that stop reading
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=UNREAD_READERS_MAX))]
    readers: u16,
}

pub(super) async fn fairness(context: &Context, arguments: &FairnessArgs) -> Outcome {
    let readers = usize::from(arguments.readers);
    rlimits::raise();
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let agent = AgentThread::with(AgentConfig {
        delay_ms: AGENT_MS,
        journal_calls_max: 0,
        ..AgentConfig::default()
    })?;
    let env = vec![("TURNWISE_AGENT_CONCURRENCY", SLOTS.to_string())];
    let folder = folder.path().to_owned();
    let setup = Setup { folder, agent: Some(agent.url.clone()), env, arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    let (url, seconds) = (server.url(), Duration::from_secs(arguments.seconds));
    step("one organisation alone");
    let alone = measured(&url, seconds, "alone").await?;
    step("while readers have stopped reading");
    let before_mib = resident_mib(&server)?;
    let unread = stopped_readers(&url, readers).await?;
    let beside_readers = measured(&url, seconds, "readers").await?;
    let unread_mib = resident_mib(&server)? - before_mib;
    drop(unread);
    step("alone once more");
    let again = measured(&url, seconds, "again").await?;
    step("while another floods");
    let until = Instant::now() + seconds + Duration::from_secs(2);
    let floods = paced(Kind::Async, &url, "flood", FLOOD_CLIENTS, flood_period(), until);
    let (flood, beside_flood) = tokio::join!(floods, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        measured(&url, seconds, "flood").await
    });
    let (flood, beside_flood) = (flood?, beside_flood?);
    server.kill().await?;
    agent.stop();
    let rows = [
        Row::new("alone_p50_ms", "one organisation alone, p50", alone.millis(0.5), "ms"),
        Row::new("alone_p99_ms", "  p99 (alone)", alone.millis(0.99), "ms"),
        Row::new("readers_p99_ms", "beside readers that stopped, p99", beside_readers.millis(0.99), "ms")
            .over("alone", alone.millis(0.99))
            .goal(BESIDE_READERS),
        Row::new("unread_mib", "  memory of their streams", unread_mib, "MiB"),
        Row::new("again_p99_ms", "alone once more, p99 (again)", again.millis(0.99), "ms")
            .over("alone", alone.millis(0.99)),
        Row::new("flood_per_s", "the other floods", flood.rate(), "/s")
            .over("its share", SHARE)
            .goal(Goal::Least(FLOOD * 0.9)),
        Row::new("flood_p99_ms", "beside the flood, p99", beside_flood.millis(0.99), "ms")
            .over("again", again.millis(0.99))
            .goal(BESIDE_FLOOD),
    ];
    if context.json {
        print::json(&json!({
            "seconds": arguments.seconds, "readers": readers, "answers": alone.count,
            "slots": SLOTS, "agent_ms": AGENT_MS, "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return Ok(());
    }
    print::line(&format!(
        "an agent of {AGENT_MS} ms with {SLOTS} slots, {readers} readers, {} s each, {} answers\n",
        arguments.seconds, alone.count
    ));
    print::text(&table::render(&rows));
    Ok(())
}

fn flood_period() -> Duration {
    Duration::from_secs_f64(FLOOD_CLIENTS as f64 / (FLOOD * SHARE))
}

/// A few users ask now and then and wait for their answers.
pub(super) async fn measured(url: &str, seconds: Duration, name: &str) -> Result<Measured, Failure> {
    // Connections and conversations are warm.
    paced(Kind::Sync, url, name, USERS, PERIOD, Instant::now() + 3 * PERIOD).await?;
    paced(Kind::Sync, url, name, USERS, PERIOD, Instant::now() + seconds).await
}

/// Streams of one long answer whose readers took its beginning and no more.
pub(super) async fn stopped_readers(url: &str, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut conn = Conn::new(url);
    let message = format!("unread [[events={UNREAD_EVENTS}]]");
    let body = json!({"user_id": "unread", "org_id": "unread", "client_id": "bench", "message": message});
    let answer = conn
        .call(Method::POST, "/api/v1/message", &[("prefer", "respond-async")], body.to_string().into())
        .await
        .map_err(unreachable)?;
    let accepted: Value = answer.json().map_err(unreachable)?;
    let id = accepted.get("message_id").and_then(Value::as_str).unwrap_or_default();
    let authority = url.trim_start_matches("http://");
    let head =
        format!("GET /api/v1/stream?user_id=unread&message_id={id} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let address = authority.parse().map_err(|_| unreachable("the server has no address"))?;
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(UNREAD_SOCKET_BYTES)?;
        let mut reader = socket.connect(address).await?;
        reader.write_all(head.as_bytes()).await?;
        let mut first = [0; 64];
        reader.read_exact(&mut first).await?;
        if !first.starts_with(b"HTTP/1.1 200") {
            return Err(unreachable("a stream was not opened"));
        }
        readers.push(reader);
    }
    Ok(readers)
}

fn unreachable(error: impl ToString) -> Failure {
    Failure::new(Exit::Unreachable, "a request had no answer", error.to_string())
}

/// What the server's process holds in memory.
pub(super) fn resident_mib(server: &ServerProcess) -> Result<f64, Failure> {
    Ok(server.resident_bytes()? as f64 / 1_048_576.0)
}

impl Worker {
    /// One of the flooding organisation, or of the one that is measured.
    pub(super) fn of(kind: Kind, url: &str, name: &str, number: usize) -> Worker {
        let org = if kind == Kind::Async { "flood" } else { "calm" };
        Worker::new(kind, url, format!("{name}-{number}")).in_org(org)
    }
}

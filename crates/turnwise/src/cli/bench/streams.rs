//! `turnwise bench streams`: what an idle event stream costs the server in
//! memory. Every stream waits on a turn of its own; the turns are there before
//! the first look, so that only the streams are counted.

use super::table::{self, Goal, Row};
use super::{Context, Outcome, print};
use crate::child::{ServerProcess, Setup};
use crate::client::{Message, Server};
use crate::failure::{Exit, Failure};
use crate::rlimits;
use clap::Args;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// KiB that one idle stream may cost.
const KIB_EACH_MAX: f64 = 32.0;
/// Clients that submit, or open, at once.
const AT_ONCE: usize = 64;
/// Streams from one address: it has some 28,000 ports.
const PER_ADDRESS: usize = 20_000;
/// The server gives three quarters of its connections to streams.
const STREAMS_SHARE: usize = 3;
/// Its descriptors beside them: one for each call that may run.
const BESIDE: usize = 256;
/// A stream that has not begun by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds by which the server has sent a heartbeat on every stream.
const HEARTBEAT_BY: u64 = 17;
/// A stream has begun within so many bytes.
const BEGIN_BYTES_MAX: usize = 64 * 1024;
const ORG: &str = "bench";

#[derive(Debug, Args)]
pub(crate) struct StreamsArgs {
    /// Streams open at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Seconds until the last look: the server has sent a heartbeat on each by then
    #[arg(long, default_value_t = HEARTBEAT_BY, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(super) async fn streams(context: &Context, arguments: &StreamsArgs) -> Outcome {
    let count = usize::try_from(arguments.count).unwrap_or(usize::MAX);
    let connections = count.div_ceil(STREAMS_SHARE) * (STREAMS_SHARE + 1) + AT_ONCE;
    let open_files = connections + BESIDE;
    rlimits::raise();
    if rlimits::connections_within(open_files, 0) < open_files {
        return Err(Failure::new(
            Exit::Usage,
            "too few open files are allowed",
            format!("{count} streams take {open_files} and some more, here and in the server"),
        )
        .hint(format!("ulimit -n {}", open_files + BESIDE)));
    }
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let (connections, streams) = (connections.to_string(), count.to_string());
    let env = vec![
        ("TURNWISE_CONNECTIONS_MAX", connections.clone()),
        ("TURNWISE_CONNECTIONS_PER_ADDRESS_MAX", connections),
        ("TURNWISE_STREAMS_MAX", streams.clone()),
        ("TURNWISE_STREAMS_PER_KEY_MAX", streams),
    ];
    let setup = Setup { folder: folder.path().to_owned(), agent: None, env, arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    super::step("turns that wait");
    let ids = submit(&Server::new(&server.url(), None)?, count).await?;
    let before = resident_kib(&server)?;
    super::step("streams on them");
    let address = server.address();
    let open = open(address, &ids).await?;
    let opened = resident_kib(&server)?;
    super::step("a heartbeat on each");
    sleep(Duration::from_secs(arguments.seconds)).await;
    let settled = resident_kib(&server)?;
    let each = |after: f64| (after - before) / count as f64;
    let rows = vec![
        Row::new("resident_before_kib", "resident, the turns only", before, "KiB"),
        Row::new("resident_open_kib", "resident, the streams open", opened, "KiB"),
        Row::new("stream_open_kib", "one stream, open", each(opened), "KiB"),
        Row::new("resident_idle_kib", "resident, after a heartbeat on each", settled, "KiB"),
        Row::new("stream_idle_kib", "one stream, after a heartbeat", each(settled), "KiB")
            .goal(Goal::Most(KIB_EACH_MAX)),
    ];
    drop(open);
    server.kill().await?;
    if context.json {
        print::json(&json!({
            "streams": count, "open_files_needed": open_files + BESIDE,
            "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return Ok(());
    }
    print::line(&format!("{count} streams; each side needs `ulimit -n {}`\n", open_files + BESIDE));
    print::text(&table::render(&rows));
    Ok(())
}

/// One waiting turn for each stream; their ids.
async fn submit(server: &Server, count: usize) -> Result<Vec<String>, Failure> {
    let mut clients = JoinSet::new();
    for first in 0..AT_ONCE.min(count) {
        let server = server.clone();
        clients.spawn(async move {
            let mut conn = server.conn();
            let mut ids = Vec::new();
            for number in (first..count).step_by(AT_ONCE) {
                let user = number.to_string();
                let message =
                    Message { org: ORG, user: &user, client: "bench", text: "x", client_message_id: None };
                ids.push((number, server.submit(&mut conn, &message, Duration::ZERO).await?));
            }
            Ok::<_, Failure>(ids)
        });
    }
    let mut ids = Vec::with_capacity(count);
    while let Some(client) = clients.join_next().await {
        ids.extend(
            client.map_err(|error| Failure::new(Exit::Failure, "a client failed", error.to_string()))??,
        );
    }
    ids.sort_unstable();
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

/// A stream on each turn, with its first event read.
async fn open(server: SocketAddr, ids: &[String]) -> Result<Vec<TcpStream>, Failure> {
    let mut open = Vec::with_capacity(ids.len());
    let mut opening = JoinSet::new();
    for (number, id) in ids.iter().enumerate() {
        let id = id.clone();
        opening.spawn(async move { timeout(PATIENCE, begin(server, number, &id)).await });
        if opening.len() >= AT_ONCE {
            open.extend(begun(opening.join_next().await)?);
        }
    }
    while !opening.is_empty() {
        open.extend(begun(opening.join_next().await)?);
    }
    Ok(open)
}

type Opened = Result<Result<Result<TcpStream, Failure>, tokio::time::error::Elapsed>, tokio::task::JoinError>;

fn begun(opened: Option<Opened>) -> Result<Option<TcpStream>, Failure> {
    let failed = |why: String| Failure::new(Exit::Failure, "a stream did not begin", why);
    match opened {
        None => Ok(None),
        Some(Err(error)) => Err(failed(error.to_string())),
        Some(Ok(Err(_))) => Err(failed(format!("nothing within {PATIENCE:?}"))),
        Some(Ok(Ok(stream))) => stream.map(Some),
    }
}

async fn begin(server: SocketAddr, number: usize, id: &str) -> Result<TcpStream, Failure> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(1 + number / PER_ADDRESS).unwrap_or(u8::MAX);
    if host > 1 {
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
    }
    let mut stream = socket.connect(server).await?;
    let request =
        format!("GET /api/v1/stream?user_id={number}&message_id={id} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1_024);
    let has = |answer: &[u8], words: &[u8]| answer.windows(words.len()).any(|part| part == words);
    loop {
        let ended = stream.read_buf(&mut answer).await? == 0;
        let refused = has(&answer, b"\r\n\r\n") && !answer.starts_with(b"HTTP/1.1 200 ");
        if ended || refused || answer.len() > BEGIN_BYTES_MAX {
            let text = String::from_utf8_lossy(&answer).into_owned();
            return Err(Failure::new(Exit::Failure, "a stream did not begin", text));
        }
        if has(&answer, b"queued") {
            return Ok(stream);
        }
    }
}

fn resident_kib(server: &ServerProcess) -> Result<f64, Failure> {
    Ok(server.resident_bytes()? as f64 / 1_024.0)
}

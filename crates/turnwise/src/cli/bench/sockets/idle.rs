//! Connections that follow a topic on which nothing happens, and answer pings: what the server holds for each.

use super::{ORG, failed};
use crate::child::{ServerProcess, Setup};
use crate::cli::bench::socket::Socket;
use crate::cli::bench::step;
use crate::failure::Failure;
use crate::rlimits;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The server gives three quarters of its connections to WebSockets and streams.
const SOCKETS_SHARE: usize = 3;
/// Clients that connect at once.
const AT_ONCE: usize = 64;
/// Descriptors of the server beside them: one for each call that may run.
const BESIDE: u64 = 256;
/// A connection that has not begun by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Idle {
    pub(super) wanted: usize,
    /// As many of them as could be opened.
    pub(super) count: usize,
    pub(super) before_kib: f64,
    pub(super) open_kib: f64,
    /// Some time later.
    pub(super) idle_kib: f64,
}

pub(super) async fn measured(folder: &Path, wanted: usize, length: Duration) -> Result<Idle, Failure> {
    let connections = wanted.div_ceil(SOCKETS_SHARE) * (SOCKETS_SHARE + 1) + AT_ONCE;
    let connections = rlimits::connections_within(connections, BESIDE);
    let share = connections.saturating_sub(AT_ONCE) / (SOCKETS_SHARE + 1) * SOCKETS_SHARE;
    let count = share.clamp(1, wanted);
    std::fs::create_dir_all(folder)?;
    let (connections, sockets) = (connections.to_string(), (count + 1).to_string());
    let env = vec![
        ("TURNWISE_CONNECTIONS_MAX", connections.clone()),
        ("TURNWISE_CONNECTIONS_PER_ADDRESS_MAX", connections),
        ("TURNWISE_STREAMS_MAX", sockets.clone()),
        ("TURNWISE_STREAMS_PER_KEY_MAX", sockets),
    ];
    let setup = Setup { folder: folder.to_owned(), agent: None, env, arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    let address = server.address();
    // What the first one takes for all is not counted.
    let first = begin(address, count).await.map_err(failed("a connection did not begin"))?;
    let resident_kib = |server: &ServerProcess| Ok::<_, Failure>(server.resident_bytes()? as f64 / 1_024.0);
    let before_kib = resident_kib(&server)?;
    step(&format!("{count} idle connections"));
    let mut open = open(address, count).await?;
    let open_kib = resident_kib(&server)?;
    step("a ping on each");
    let ended = timeout(length, open.join_next()).await;
    let idle_kib = resident_kib(&server)?;
    drop(first);
    if let Ok(Some(ended)) = ended {
        let why = ended.unwrap_or_else(io::Error::other);
        return Err(failed("a connection ended")(why));
    }
    drop(open);
    server.kill().await?;
    Ok(Idle { wanted, count, before_kib, open_kib, idle_kib })
}

/// They follow their topics and answer pings, each in a task of its own that ends when its connection does.
async fn open(server: SocketAddr, count: usize) -> Result<JoinSet<io::Error>, Failure> {
    let mut open = JoinSet::new();
    let mut opening = JoinSet::new();
    for left in (0..count).rev() {
        opening.spawn(async move { timeout(PATIENCE, begin(server, left)).await? });
        while opening.len() >= AT_ONCE || (left == 0 && !opening.is_empty()) {
            let Some(begun) = opening.join_next().await else { break };
            let begun = begun.unwrap_or_else(|error| Err(io::Error::other(error)));
            let socket = begun.map_err(failed("a connection did not begin"))?;
            open.spawn(keep(socket));
        }
    }
    Ok(open)
}

async fn begin(server: SocketAddr, number: usize) -> io::Result<Socket> {
    let mut socket = Socket::connect(server, &format!("org_id={ORG}")).await?;
    socket.send(&json!({ "type": "subscribe", "topics": [format!("idle.{number}")] })).await?;
    socket.next_of("subscribed").await?;
    Ok(socket)
}

/// Nothing is published, so that nothing but pings comes.
async fn keep(mut socket: Socket) -> io::Error {
    match socket.next_of("message").await {
        Ok(message) => io::Error::other(message.to_string()),
        Err(error) => error,
    }
}

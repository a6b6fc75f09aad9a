//! One agent sends to another, both connected to one node: the time from a frame to the message.

use super::{ORG, failed};
use crate::child::{ServerProcess, Setup};
use crate::cli::bench::load::{histogram, note};
use crate::cli::bench::socket::Socket;
use crate::failure::Failure;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Messages whose times are not counted: the first ones.
const WARM_UP: u32 = 50;
/// A message that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// The times of so many messages, on an embedded store.
pub(super) async fn measured(folder: &Path, messages: u32) -> Result<Histogram<u64>, Failure> {
    std::fs::create_dir_all(folder)?;
    let setup = Setup { folder: folder.to_owned(), agent: None, env: Vec::new(), arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    let times = sent(server.address(), messages).await.map_err(failed("a message did not come"))?;
    server.stop().await?;
    Ok(times)
}

async fn sent(server: SocketAddr, messages: u32) -> io::Result<Histogram<u64>> {
    let mut from = Socket::connect(server, &format!("org_id={ORG}&agent_id=ann")).await?;
    let mut to = Socket::connect(server, &format!("org_id={ORG}&agent_id=bob")).await?;
    for agent in [&mut from, &mut to] {
        agent.send(&json!({ "type": "presence" })).await?;
        let presence = agent.next_of("presence").await?;
        if presence.get("online") != Some(&Value::Bool(true)) {
            return Err(io::Error::other("an agent is not online"));
        }
    }
    let mut times = histogram();
    for number in 0..WARM_UP + messages {
        let time = timeout(PATIENCE, once(&mut from, &mut to, number)).await??;
        if number >= WARM_UP {
            note(&mut times, time);
        }
    }
    Ok(times)
}

/// One message, until all is quiet again; the time until it was there.
async fn once(from: &mut Socket, to: &mut Socket, number: u32) -> io::Result<Duration> {
    let frame = json!({ "type": "send", "to_agent": "bob", "content": number });
    let began = Instant::now();
    from.send(&frame).await?;
    let message = to.next_of("message").await?;
    let time = began.elapsed();
    if message.pointer("/data/content") != Some(&json!(number)) {
        return Err(io::Error::other(format!("{number} was due, and there came {message}")));
    }
    to.send(&json!({ "type": "ack", "message_id": message.pointer("/data/message_id") })).await?;
    let settled = to.next_of("settled").await?;
    if settled.get("status") != Some(&json!("done")) {
        return Err(io::Error::other(settled.to_string()));
    }
    // The sender is told in the end that it is done.
    while from.next_of("receipt").await?.get("state") != Some(&json!("acked")) {}
    Ok(time)
}

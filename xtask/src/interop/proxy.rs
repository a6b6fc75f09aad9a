//! A proxy that cuts event streams: each connection gets one stored event, and
//! every other one also the first half of the next. Everything else passes.
//!
//! The body goes on without its chunks and ends with the connection, so that a
//! client has what came before the cut. `retry:` becomes short.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest silence of either side.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a head.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// What a reader waits before it comes back.
const RETRY: &[u8] = b"retry: 20\n\n";

/// A running proxy.
pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What it did.
pub(super) struct Seen {
    /// Streams that were cut.
    pub(super) cuts: usize,
    /// Answers with status 204.
    pub(super) ends: usize,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    cuts: AtomicUsize,
    ends: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port before the server at `upstream`.
    pub(super) fn start(upstream: u16) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, upstream, &of_thread));
        Ok(Proxy { port, shared, accepting })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it once its connections are through.
    pub(super) fn stop(self) -> Seen {
        self.shared.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.accepting.join());
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        Seen { cuts: count(&self.shared.cuts), ends: count(&self.shared.ends) }
    }
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Shared) {
    thread::scope(|scope| {
        for client in listener.incoming() {
            if shared.stopped.load(Ordering::Relaxed) {
                break;
            }
            let Ok(client) = client else { continue };
            // A side that breaks off is what this is for.
            scope.spawn(move || drop(pass(&client, upstream, shared)));
        }
    });
}

/// One request and its answer.
fn pass(mut client: &TcpStream, upstream: u16, shared: &Shared) -> Result<()> {
    client.set_read_timeout(Some(SILENCE_MAX))?;
    let (request, _) = head(&mut BufReader::new(client))?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
    server.set_read_timeout(Some(SILENCE_MAX))?;
    (&server).write_all(&request)?;
    let mut server = BufReader::new(&server);
    let (answer, first) = head(&mut server)?;
    client.write_all(&answer)?;
    if first.contains(" 204 ") {
        shared.ends.fetch_add(1, Ordering::Relaxed);
    } else if answer.windows(17).any(|part| part == b"text/event-stream") {
        if events(&mut server, client, shared)? {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
        }
    } else {
        bail!("only streams are read through the proxy: {first}");
    }
    client.shutdown(Shutdown::Write)?;
    Ok(())
}

/// A head as it goes on: for this one message, its body not in chunks; and its first line.
fn head(from: &mut impl BufRead) -> Result<(Vec<u8>, String)> {
    let (mut kept, mut first) = (String::new(), None);
    let mut from = from.take(HEAD_BYTES_MAX);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            bail!("the head broke off");
        }
        if line == "\r\n" {
            kept.push_str("Connection: close\r\n\r\n");
            return Ok((kept.into_bytes(), first.unwrap_or_default()));
        }
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !matches!(name.as_str(), "connection" | "transfer-encoding" | "keep-alive") {
            kept.push_str(&line);
        }
        first.get_or_insert(line);
    }
}

/// Passes events on until one that is stored, and perhaps half of the next; true if it was cut there.
fn events(from: &mut impl BufRead, mut to: &TcpStream, shared: &Shared) -> Result<bool> {
    let half_of_next = shared.cuts.load(Ordering::Relaxed) % 2 == 1;
    let (mut text, mut stored) = (Vec::new(), false);
    while let Some(piece) = chunk(from)? {
        text.extend_from_slice(&piece);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let (half, _) = event.split_at(event.len() / 2);
            match (stored, event.starts_with(b"retry:")) {
                (true, _) => to.write_all(half)?,
                (false, true) => to.write_all(RETRY)?,
                (false, false) => to.write_all(&event)?,
            }
            let was_stored = stored;
            stored |= event.starts_with(b"id:");
            if stored && (was_stored || !half_of_next) {
                return Ok(true);
            }
        }
    }
    Ok(stored)
}

/// The next chunk of a body; none at its end.
fn chunk(from: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut size = String::new();
    from.read_line(&mut size)?;
    let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk")?;
    let mut data = vec![0; size];
    from.read_exact(&mut data)?;
    from.read_line(&mut String::new())?;
    Ok((size > 0).then_some(data))
}

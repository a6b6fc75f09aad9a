//! A way between a client and a server of a test on which bytes get lost: a connection is cut at a chosen byte,
//! falls silent without an end, or is slow. It knows no protocol.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turnwise_mock::Host;

/// Bytes taken from one side at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What becomes of the bytes of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Open,
    /// All are swallowed, and a new connection is taken and swallowed too: no byte comes back, and no end. A
    /// connection that lost a byte so stays silent for ever.
    Silent,
    /// The same for answers only: what is asked for reaches the server.
    Mute,
    /// So many at a time, each time after a pause.
    Slow {
        /// At a time.
        bytes: usize,
        /// Before each time.
        pause: Duration,
    },
}

/// Where a connection is cut: when a byte more than so many would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// To the server.
    Request(u64),
    /// To the client.
    Answer(u64),
}

/// What passed on the connection that was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes to the server.
    pub request: u64,
    /// Bytes to the client.
    pub answer: u64,
    /// Whether it was cut.
    pub is_cut: bool,
}

/// The one connection that is watched.
#[derive(Clone, Copy, Debug)]
enum Watch {
    Nobody,
    /// The next one whose client says something.
    Next(Option<Cut>),
    One {
        connection: u64,
        cut: Option<Cut>,
        passed: Passed,
    },
}

struct Shared {
    server: SocketAddr,
    flow: Mutex<Flow>,
    watch: Mutex<Watch>,
    connections: AtomicU64,
    swallowed: AtomicU64,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// Listens on a free port of 127.0.0.1 and passes everything on. Dropping it closes the port and all connections.
pub struct Proxy {
    host: Host,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// In front of the server on this port of 127.0.0.1, which need not run yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: u16) -> io::Result<Proxy> {
        let shared = Arc::new(Shared {
            server: (Ipv4Addr::LOCALHOST, server).into(),
            flow: Mutex::new(Flow::Open),
            watch: Mutex::new(Watch::Nobody),
            connections: AtomicU64::new(0),
            swallowed: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let host = Host::start(move |client| serve(Arc::clone(&serving), client)).await?;
        Ok(Proxy { host, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.host.address().port()
    }

    /// From now on bytes fare so; [`Flow::Open`] heals the way for new connections and those that lost nothing.
    pub fn set(&self, flow: Flow) {
        *lock(&self.shared.flow) = flow;
    }

    /// Bytes swallowed so far.
    #[must_use]
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }

    /// Watches the next connection whose client says something from now on, and cuts it there. Others pass.
    pub fn watch(&self, cut: Option<Cut>) {
        *lock(&self.shared.watch) = Watch::Next(cut);
    }

    /// What passed on the connection watched, which is watched no more.
    pub fn passed(&self) -> Passed {
        match std::mem::replace(&mut *lock(&self.shared.watch), Watch::Nobody) {
            Watch::One { passed, .. } => passed,
            Watch::Nobody | Watch::Next(_) => Passed::default(),
        }
    }
}

impl Shared {
    /// Reads what comes, for ever: nobody is told of an end.
    async fn swallow(&self, from: &mut (impl tokio::io::AsyncRead + Unpin)) {
        let mut nothing = vec![0; CHUNK_BYTES];
        while let Ok(bytes @ 1..) = from.read(&mut nothing).await {
            self.swallowed.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        std::future::pending().await
    }

    /// How many of these bytes pass, and whether the connection is cut behind them.
    fn allow(&self, way: Way, connection: u64, bytes: usize) -> (usize, bool) {
        let mut watch = lock(&self.watch);
        if let (Watch::Next(cut), Way::Request) = (*watch, way) {
            *watch = Watch::One { connection, cut, passed: Passed::default() };
        }
        let Watch::One { connection: watched, cut, passed } = &mut *watch else { return (bytes, false) };
        if *watched != connection {
            return (bytes, false);
        }
        let (so_far, limit) = match (way, *cut) {
            (Way::Request, Some(Cut::Request(limit))) => (&mut passed.request, limit),
            (Way::Answer, Some(Cut::Answer(limit))) => (&mut passed.answer, limit),
            (Way::Request, _) => (&mut passed.request, u64::MAX),
            (Way::Answer, _) => (&mut passed.answer, u64::MAX),
        };
        let allowed = usize::try_from(limit.saturating_sub(*so_far)).unwrap_or(usize::MAX).min(bytes);
        *so_far += allowed as u64;
        passed.is_cut |= allowed < bytes;
        (allowed, allowed < bytes)
    }
}

async fn serve(shared: Arc<Shared>, mut client: TcpStream) {
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    if *lock(&shared.flow) == Flow::Silent {
        shared.swallow(&mut client).await;
    }
    // Who finds nobody is told by the end of his connection.
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // Of a connection that has lost bytes: how.
    let lost = Mutex::new(None);
    let pipe = |way| Pipe { shared: &shared, lost: &lost, way, connection };
    let (requests, answers) = (pipe(Way::Request), pipe(Way::Answer));
    tokio::select! {
        () = requests.pass(client_reads, server_writes) => {}
        () = answers.pass(server_reads, client_writes) => {}
    }
}

/// One direction of one connection.
struct Pipe<'a> {
    shared: &'a Shared,
    lost: &'a Mutex<Option<Flow>>,
    way: Way,
    connection: u64,
}

impl Pipe<'_> {
    fn flow(&self) -> Flow {
        lock(self.lost).unwrap_or(*lock(&self.shared.flow))
    }

    /// Passes bytes until one side ends or the connection is cut.
    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await;
            let bytes = read.ok().and_then(|read| chunk.get(..read)).unwrap_or_default();
            let flow = self.flow();
            if flow == Flow::Silent || (flow == Flow::Mute && self.way == Way::Answer) {
                *lock(self.lost) = Some(flow);
                self.shared.swallowed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                return self.shared.swallow(&mut from).await;
            }
            if bytes.is_empty() {
                return;
            }
            let (allowed, is_cut) = self.shared.allow(self.way, self.connection, bytes.len());
            let passing = bytes.get(..allowed).unwrap_or_default();
            if self.write(&mut to, passing).await.is_err() || is_cut {
                return;
            }
        }
    }

    async fn write(&self, to: &mut OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Flow::Slow { bytes: some, pause } = self.flow() else { return to.write_all(bytes).await };
            tokio::time::sleep(pause).await;
            let (now, later) = bytes.split_at(some.clamp(1, bytes.len()));
            to.write_all(now).await?;
            bytes = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A server that answers what it is told, and everything it was told.
    async fn echo() -> (Host, Proxy, Arc<Mutex<Vec<u8>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let told_here = Arc::clone(&told);
        let serve = move |mut client: TcpStream| {
            let told = Arc::clone(&told_here);
            async move {
                let mut bytes = [0; 64];
                while let Ok(read @ 1..) = client.read(&mut bytes).await {
                    let bytes = bytes.get(..read).unwrap_or_default();
                    lock(&told).extend(bytes);
                    client.write_all(bytes).await.unwrap();
                }
            }
        };
        let host = Host::start(serve).await.unwrap();
        let proxy = Proxy::start(host.address().port()).await.unwrap();
        (host, proxy, told)
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
    }

    /// What comes back for these words, up to as many bytes or the end.
    async fn ask(client: &mut TcpStream, words: &str) -> String {
        client.write_all(words.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.take(words.len() as u64).read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn swallowed(proxy: &Proxy, bytes: u64) {
        while proxy.swallowed() < bytes {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_connection_is_cut_where_it_is_wanted_and_no_other() {
        let (_server, proxy, told) = echo().await;
        let mut other = connect(&proxy).await;
        assert_eq!(ask(&mut other, "other").await, "other");
        let cases = [
            (None, "hello", "hello"),
            (Some(Cut::Request(0)), "", ""),
            (Some(Cut::Request(2)), "he", ""),
            (Some(Cut::Answer(0)), "hello", ""),
            (Some(Cut::Answer(3)), "hello", "hel"),
            (Some(Cut::Answer(5)), "hello", "hello"),
        ];
        for (cut, reaches, comes) in cases {
            lock(&told).clear();
            let mut client = connect(&proxy).await;
            proxy.watch(cut);
            let answer = ask(&mut client, "hello").await;
            // A cut before the answer may take the answer along.
            assert!(answer == comes || matches!(cut, Some(Cut::Request(_))), "{cut:?}: {answer}");
            while cut.is_some() && lock(&told).len() < reaches.len() {
                tokio::task::yield_now().await;
            }
            assert_eq!(String::from_utf8(lock(&told).clone()).unwrap(), reaches, "{cut:?}");
            let passed = proxy.passed();
            assert_eq!(passed.is_cut, comes != "hello", "{cut:?}: {passed:?}");
            assert_eq!((passed.request, passed.answer as usize >= comes.len()), (reaches.len() as u64, true));
            assert_eq!(ask(&mut other, "other").await, "other");
        }
    }

    #[tokio::test]
    async fn what_is_silent_stays_silent_and_what_comes_after_is_not() {
        let (_server, proxy, told) = echo().await;
        let (mut mute, mut silent) = (connect(&proxy).await, connect(&proxy).await);
        for client in [&mut mute, &mut silent] {
            assert_eq!(ask(client, "a").await, "a");
        }
        proxy.set(Flow::Mute);
        mute.write_all(b"b").await.unwrap();
        swallowed(&proxy, 1).await;
        proxy.set(Flow::Silent);
        let mut late = connect(&proxy).await;
        late.write_all(b"c").await.unwrap();
        silent.write_all(b"c").await.unwrap();
        swallowed(&proxy, 3).await;
        proxy.set(Flow::Slow { bytes: 2, pause: Duration::from_millis(1) });
        let mut after = connect(&proxy).await;
        assert_eq!(ask(&mut after, "hello").await, "hello");
        for client in [&mut mute, &mut silent, &mut late] {
            let error = client.try_read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "neither a byte nor an end");
        }
        assert_eq!(*lock(&told), b"aabhello", "the mute one is heard");
    }
}

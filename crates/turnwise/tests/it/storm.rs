//! Every reader comes back at once, after a kill in the middle of publishing: all of them get every event, once and in
//! order, across the seam between what was stored and what is live. Every second of them reads over a WebSocket.
//! `TURNWISE_STORM_READERS` (200) and `TURNWISE_STORM_KILLS` (3) say how many.

use crate::socket::Socket;
use crate::support::{PATIENCE, Running, count_of, serve};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use turnwise_mock::{Conn, SseReader};
use turnwise_testkit::servers::redis;

/// Events between two kills, and after the last.
const EVENTS_EACH: u64 = 60;
/// Between two tries to reach a server that is down.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Who reads, and at which servers.
struct Storm {
    urls: Vec<String>,
    total: u64,
    /// Times that a reader came back to what it had begun.
    returned: AtomicU64,
    /// Events that readers have seen, all together.
    seen: AtomicU64,
}

impl Storm {
    /// One event after another. What may or may not have been stored is said again.
    async fn publish(self: Arc<Storm>, allowed: watch::Receiver<u64>) {
        let mut allowed = allowed;
        let mut conns: Vec<Conn> = self.urls.iter().map(|url| Conn::new(url)).collect();
        let mut tries = 0;
        for n in 0..self.total {
            allowed.wait_for(|most| n < *most).await.unwrap();
            let path = format!("/api/v1/topics/t.{}/events?org_id=o", n % 3);
            let body = json!({ "type": "said", "data": n, "dedup_key": format!("n{n}") }).to_string();
            loop {
                let servers = conns.len();
                let answer = conns[tries % servers].post(&path, body.clone()).await;
                match answer.map(|answer| answer.status.as_u16()) {
                    Ok(200 | 201) => break,
                    Ok(503) | Err(_) => tries += 1,
                    Ok(status) => panic!("publishing was answered {status}"),
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Reads all events, through as many connections as it takes.
    async fn read(self: Arc<Storm>, number: usize) {
        let (mut next, mut place) = (0, None);
        // Those of one kind do not all begin at the same server.
        for server in number / 2.. {
            let url = &self.urls[server % self.urls.len()];
            let Some(mut reader) = Reader::open(is_socket(number), url, place.as_deref()).await else {
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            };
            self.returned.fetch_add(u64::from(next > 0), Ordering::Relaxed);
            while let Some(told) = reader.next().await {
                if let Some(data) = told.data {
                    assert_eq!(data, next, "reader {number}, after {place:?}");
                    next += 1;
                    self.seen.fetch_add(1, Ordering::Relaxed);
                }
                place = Some(told.place);
                if next == self.total {
                    return;
                }
            }
        }
    }
}

fn is_socket(number: usize) -> bool {
    number % 2 == 1
}

/// One connection of a reader.
enum Reader {
    Events(Box<SseReader>),
    Socket(Socket),
}

/// What a reader is told.
struct Told {
    /// Where to go on from.
    place: String,
    /// The event's, if it is more than a place.
    data: Option<Value>,
}

impl Reader {
    /// At a server that may be gone; behind a place, or from the first event.
    async fn open(is_socket: bool, url: &str, place: Option<&str>) -> Option<Reader> {
        if is_socket {
            let mut socket = Socket::try_connect(url, "").await.ok()?;
            let frame = match place {
                Some(place) => json!({ "type": "resume", "topic": "t.>", "after": place }),
                None => json!({ "type": "subscribe", "topics": ["t.>"], "after": "earliest" }),
            };
            socket.try_send(&frame).await.ok()?;
            return Some(Reader::Socket(socket));
        }
        let path = "/api/v1/subscribe?org_id=o&topics=t.%3E";
        let (path, headers) = match place {
            Some(place) => (path.to_owned(), vec![("last-event-id", place)]),
            None => (format!("{path}&after=earliest"), Vec::new()),
        };
        let reader = Conn::new(url).sse(Method::GET, &path, &headers, bytes::Bytes::new()).await.ok()?;
        (reader.status == 200).then(|| Reader::Events(Box::new(reader)))
    }

    /// Nothing when the connection is over.
    async fn next(&mut self) -> Option<Told> {
        match self {
            Reader::Events(reader) => {
                let event = reader.next_within(PATIENCE).await.ok()??;
                if event.event.is_empty() {
                    return Some(Told { place: event.id, data: None });
                }
                assert_eq!(event.event, "said", "no gap: nothing was dropped");
                let mut said: Value = serde_json::from_str(&event.data).unwrap();
                Some(Told { place: event.id, data: Some(said["data"].take()) })
            }
            Reader::Socket(socket) => {
                let mut frame = socket.try_next().await.ok()?;
                let place = frame["place"].as_str().map(str::to_owned);
                match frame["type"].as_str() {
                    Some("subscribed") => Some(Told { place: place.unwrap(), data: None }),
                    Some("message") => Some(Told { place: place.unwrap(), data: Some(frame["data"].take()) }),
                    _ => panic!("no gap, and nothing is refused: {frame}"),
                }
            }
        }
    }
}

/// The servers, which are killed in turn; and how one of them is started again.
async fn all_come_back(mut servers: Vec<Running>, again: impl AsyncFn(u16) -> Running) {
    let (readers, kills) = (count_of("TURNWISE_STORM_READERS", 200), count_of("TURNWISE_STORM_KILLS", 3));
    let total = EVENTS_EACH * u64::from(kills + 1);
    let urls: Vec<String> = servers.iter().map(|server| server.url().to_owned()).collect();
    let storm = Arc::new(Storm { urls, total, returned: AtomicU64::new(0), seen: AtomicU64::new(0) });
    let (allow, allowed) = watch::channel(EVENTS_EACH / 2);
    let mut tasks = JoinSet::new();
    for number in 0..usize::try_from(readers).unwrap() {
        tasks.spawn(Arc::clone(&storm).read(number));
    }
    tasks.spawn(Arc::clone(&storm).publish(allowed));
    for kill in 1..=u64::from(kills) {
        // In the middle: some readers have what others do not.
        let until = (kill * EVENTS_EACH - EVENTS_EACH / 2) * u64::from(readers) / 2;
        while storm.seen.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        allow.send(kill * EVENTS_EACH).unwrap();
        // Each in its turn: those of the one are at the other by then.
        let killed = usize::try_from(kill - 1).unwrap() % servers.len();
        servers[killed].kill().await;
        let port = storm.urls[killed].rsplit(':').next().unwrap().parse().unwrap();
        servers[killed] = again(port).await;
        allow.send(kill * EVENTS_EACH + EVENTS_EACH / 2).unwrap();
    }
    allow.send(total).unwrap();
    while let Some(done) = tokio::time::timeout(4 * PATIENCE, tasks.join_next()).await.expect("all end") {
        done.unwrap();
    }
    let returned = storm.returned.load(Ordering::Relaxed);
    assert!(returned >= u64::from(readers), "they were cut off: {returned}");
    let sockets = readers / 2;
    println!(
        "{readers} readers, {sockets} of them WebSockets, {kills} kills, {total} events each, \
         {returned} times a reader came back"
    );
    for server in servers {
        assert_eq!(server.terminate().await, Some(0));
    }
}

fn room() -> Vec<(&'static str, String)> {
    let most = (2 * count_of("TURNWISE_STORM_READERS", 200) + 256).to_string();
    let names = [
        "TURNWISE_CONNECTIONS_MAX",
        "TURNWISE_CONNECTIONS_PER_ADDRESS_MAX",
        "TURNWISE_STREAMS_MAX",
        "TURNWISE_STREAMS_PER_KEY_MAX",
    ];
    names.map(|name| (name, most.clone())).into()
}

async fn node(folder: &tempfile::TempDir, port: u16, store: Option<&str>) -> Running {
    let room = room();
    let mut env: Vec<(&str, &str)> = room.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.extend(store.map(|store| ("TURNWISE_STORE", store)));
    serve(folder.path(), port, None, &env).await
}

#[tokio::test]
async fn readers_that_all_come_back_after_a_kill_miss_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(&folder, 0, None).await;
    all_come_back(vec![first], async |port| node(&folder, port, None).await).await;
}

#[tokio::test]
async fn readers_of_two_nodes_on_redis_miss_nothing_when_one_is_killed() {
    let Some(server) = redis::start() else { return };
    let url = redis::url(&server);
    let folder = tempfile::tempdir().unwrap();
    let nodes = vec![node(&folder, 0, Some(&url)).await, node(&folder, 0, Some(&url)).await];
    all_come_back(nodes, async |port| node(&folder, port, Some(&url)).await).await;
}

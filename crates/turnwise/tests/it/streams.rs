//! Durable streams of the whole program: killed with a producer in mid-write,
//! and written to at several nodes at once.

use crate::support::{PATIENCE, Running, serve};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use turnwise_mock::{Answer, Conn};
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::redis;

const PATH: &str = "/streams/chats/7";
/// Kills in mid-write.
const KILLS: u64 = 4;
/// Appends that were answered between two kills, at least.
const APPENDS: u64 = 15;
/// Before an append that nobody answered is repeated.
const BREATH: Duration = Duration::from_millis(20);

async fn send(url: &str, method: Method, headers: &[(&'static str, &str)], body: String) -> Option<Answer> {
    let body = Bytes::from(body);
    Conn::new(url).call(method, PATH, headers, body).await.ok()
}

async fn create(url: &str) {
    let json = [("content-type", "application/json")];
    let created = send(url, Method::PUT, &json, String::new()).await.expect("it is there");
    assert_eq!(created.status, 201);
}

/// One append of a producer; none if the server went away.
async fn append(url: &str, id: &str, epoch: u64, seq: u64) -> Option<Answer> {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let headers = [
        ("content-type", "application/json"),
        ("producer-id", id),
        ("producer-epoch", &*epoch),
        ("producer-seq", &*seq),
    ];
    send(url, Method::POST, &headers, json!({ "by": id, "n": seq }).to_string()).await
}

/// The numbers of one producer's values, in the order of the stream.
async fn numbers_of(url: &str, id: &str) -> Vec<String> {
    let read = send(url, Method::GET, &[], String::new()).await.expect("it is there");
    assert_eq!(read.header("stream-up-to-date"), "true", "one page holds it");
    let values: Vec<Value> = read.json().unwrap();
    let own = values.iter().filter(|value| value["by"] == id);
    own.map(|value| value["n"].as_str().unwrap().to_owned()).collect()
}

fn up_to(count: u64) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_producer_that_repeats_over_kills_stores_each_append_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || serve(folder.path(), 0, None, &[("TURNWISE_STORE", "embedded")]).await;
    let mut server = start().await;
    create(server.url()).await;
    let (mut seq, mut repeats) = (0, 0);
    for _ in 0..KILLS {
        for _ in 0..APPENDS {
            let told = append(server.url(), "w", 0, seq).await.expect("it answers");
            assert!(matches!(told.status.as_u16(), 200 | 204), "{:?}", told.body);
            repeats += u64::from(told.status == 204);
            seq += 1;
        }
        // In flight when the process dies: it may be stored, and nobody was told.
        let url = server.url().to_owned();
        let in_flight = tokio::spawn(async move { append(&url, "w", 0, seq).await });
        server.kill().await;
        let told = in_flight.await.unwrap();
        seq += u64::from(told.is_some_and(|told| told.status == 200));
        server = start().await;
    }
    let last = append(server.url(), "w", 0, seq).await.expect("it answers");
    assert!(matches!(last.status.as_u16(), 200 | 204));
    assert_eq!(numbers_of(server.url(), "w").await, up_to(seq + 1), "{repeats} repeats");
    // What else is known of it is there as well.
    let gap = append(server.url(), "w", 0, seq + 7).await.expect("it answers");
    assert_eq!((gap.status.as_u16(), gap.header("producer-expected-seq")), (409, &*(seq + 1).to_string()));
    let closed = send(server.url(), Method::POST, &[("stream-closed", "true")], String::new()).await;
    assert_eq!(closed.unwrap().status, 204);
    server.kill().await;
    let server = start().await;
    assert_eq!(append(server.url(), "w", 0, seq + 1).await.unwrap().status, 409);
    assert_eq!(append(server.url(), "w", 0, seq).await.unwrap().status, 204, "a repeat is still one");
    assert_eq!(server.terminate().await, Some(0));
}

/// Reads a stream as it grows.
struct Reader {
    conn: Conn,
    offset: String,
    closed: bool,
}

impl Reader {
    fn new(url: &str) -> Reader {
        Reader { conn: Conn::new(url), offset: "-1".to_owned(), closed: false }
    }

    /// What comes next, as soon as it comes.
    async fn next(&mut self) -> Vec<Value> {
        let path = format!("{PATH}?offset={}&live=long-poll", self.offset);
        let answer = timeout(PATIENCE, self.conn.get(&path)).await.unwrap().unwrap();
        self.offset = answer.header("stream-next-offset").to_owned();
        self.closed = answer.header("stream-closed") == "true";
        if answer.status == 204 { Vec::new() } else { answer.json().unwrap() }
    }

    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut values = Vec::new();
        while values.len() < count {
            values.extend(self.next().await);
        }
        values
    }
}

/// Appends of one producer, each at the next of these nodes, until it is stored.
async fn produce(urls: [String; 2], id: &'static str, from: u64, to: u64) {
    for seq in from..to {
        for node in seq.. {
            let url = &urls[usize::try_from(node % 2).unwrap()];
            match append(url, id, 0, seq).await.map(|told| told.status.as_u16()) {
                Some(200 | 204) => break,
                None | Some(500 | 503) => sleep(BREATH).await,
                Some(other) => panic!("{other}"),
            }
        }
    }
}

async fn node(folder: &tempfile::TempDir, store: &str) -> Running {
    serve(folder.path(), 0, None, &[("TURNWISE_STORE", store)]).await
}

async fn two_nodes_are_one_stream(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, other) = (node(&folder, store).await, node(&folder, store).await);
    let urls = [one.url().to_owned(), other.url().to_owned()];
    create(&urls[0]).await;
    let mut reader = Reader::new(&urls[1]);
    let write = |id, from, to| tokio::spawn(produce(urls.clone(), id, from, to));
    let writers = [write("a", 0, APPENDS), write("b", 0, APPENDS), write("c", 0, APPENDS)];
    let seen = reader.take(3 * usize::try_from(APPENDS).unwrap()).await;
    for writer in writers {
        writer.await.unwrap();
    }
    for id in ["a", "b", "c"] {
        let own: Vec<_> = seen.iter().filter(|value| value["by"] == id).map(|it| it["n"].clone()).collect();
        assert_eq!(own, up_to(APPENDS), "the reader has each once, in order");
    }
    let writer = write("a", APPENDS, 2 * APPENDS);
    reader.take(3).await;
    one.kill().await;
    writer.await.unwrap();
    for (id, count) in [("a", 2 * APPENDS), ("b", APPENDS), ("c", APPENDS)] {
        assert_eq!(numbers_of(&urls[1], id).await, up_to(count), "{id}");
    }
    // A producer that was replaced at one node is fenced off at another one.
    let third = node(&folder, store).await;
    assert_eq!(append(&urls[1], "a", 1, 0).await.unwrap().status, 200);
    let late = append(third.url(), "a", 0, 2 * APPENDS).await.unwrap();
    assert_eq!((late.status.as_u16(), late.header("producer-epoch")), (403, "1"));
    let closes = [("stream-closed", "true")];
    assert_eq!(send(third.url(), Method::POST, &closes, String::new()).await.unwrap().status, 204);
    while !reader.closed {
        reader.next().await;
    }
    assert_eq!(append(&urls[1], "b", 0, APPENDS).await.unwrap().status, 409);
    assert_eq!(other.terminate().await, Some(0));
    assert_eq!(third.terminate().await, Some(0));
}

#[tokio::test]
async fn two_nodes_on_redis_are_one_stream() {
    let Some(server) = redis::start() else { return };
    two_nodes_are_one_stream(&redis::url(&server)).await;
}

#[tokio::test]
async fn two_nodes_on_postgres_are_one_stream() {
    let Some(server) = Postgres::start() else { return };
    two_nodes_are_one_stream(&server.url("chat")).await;
}

//! What others are away, broken or slow: the agent, a host of callbacks,
//! readers. Nothing that was accepted is lost, those who have nothing to do
//! with it notice nothing, and what was held up goes on without help.

use crate::page::Page;
use crate::support::{PATIENCE, Running, open, read, serve, stored, turnwise};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use turnwise_mock::{
    AgentConfig, Answering, CallOutcome, CallbackChecker, CallbackReceiver, Conn, FakeAgent, HistoryChecker,
    Host, Terminal, TurnReceipt, conversation_of_user,
};

/// How long something is away, unless the environment says otherwise.
const SECONDS: u64 = 3;
const SECONDS_ENV: &str = "TURNWISE_OUTAGE_SECONDS";
/// Readers that stop reading.
const READERS: usize = 1_000;
/// Events of the answer they do not read, and what a reader's socket holds of it.
const UNREAD_EVENTS: u32 = 16_000;
/// Events of each answer that is read beside it.
const EVENTS: usize = 20;
const UNREAD_SOCKET_BYTES: u32 = 4_096;
/// A quarter of a mebibyte for each reader; the answer is four times as long.
const UNREAD_MEMORY_MAX: f64 = READERS as f64 * 262_144.0;
const ORGS: [&str; 3] = ["acme", "blue", "corp"];
const USERS_PER_ORG: usize = 2;
/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(40);
/// Messages that each client has accepted after the end of the outage.
const AFTERWARDS: usize = 3;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn outage() -> Duration {
    let seconds = std::env::var(SECONDS_ENV);
    Duration::from_secs(seconds.map_or(SECONDS, |text| text.parse().expect("seconds are a number")))
}

/// After an outage everything is over by then: waits grow fourfold, so the
/// next try may come four times its length later.
fn drained_within() -> Duration {
    PATIENCE + 5 * outage()
}

/// Others bind free ports of 127.0.0.1 meanwhile: whoever comes back to its port has an address of its own.
fn own_address(last: u8) -> SocketAddr {
    ([127, 77, 3, last], 0).into()
}

/// One accepted turn.
#[derive(Clone, Debug)]
struct Accepted {
    id: String,
    org: &'static str,
    user: String,
    sent: u64,
    accepted: u64,
}

impl Accepted {
    fn receipt(&self, end: Terminal) -> TurnReceipt {
        TurnReceipt {
            message_id: self.id.clone(),
            conversation: conversation_of_user(self.org, &self.user),
            sent: self.sent,
            accepted: self.accepted,
            ends: vec![end],
        }
    }
}

/// Sends a turn; `None` when its conversation is full.
async fn send(conn: &mut Conn, (org, user): (&str, &str), text: &str, hook: Option<&str>) -> Option<String> {
    let body =
        json!({"user_id": user, "org_id": org, "client_id": "web", "message": text, "callback_url": hook});
    let headers = [("prefer", "respond-async")];
    let answer = conn.call(Method::POST, "/api/v1/message", &headers, body.to_string().into()).await.unwrap();
    let told: Value = answer.json().unwrap();
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    assert_eq!(answer.status, 200, "{told}");
    Some(told["message_id"].as_str().unwrap().to_owned())
}

async fn turn(conn: &mut Conn, id: &str) -> Value {
    conn.get(&format!("/api/v1/message/{id}")).await.unwrap().json().unwrap()
}

/// Several conversations of several orgs that write until they are told to stop.
struct Load {
    clients: JoinSet<Vec<Accepted>>,
    stop: Arc<AtomicBool>,
    clock: Arc<AtomicU64>,
}

impl Load {
    fn start(url: &str) -> Load {
        let (stop, clock) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for org in ORGS {
            for number in 0..USERS_PER_ORG {
                let (stop, clock) = (Arc::clone(&stop), Arc::clone(&clock));
                clients.spawn(write(Conn::new(url), org, format!("{org}-{number}"), stop, clock));
            }
        }
        Load { clients, stop, clock }
    }

    /// The time by which turns are sorted.
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn end(self) -> Vec<Accepted> {
        // Each client sees this after the message it is about.
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn write(
    mut conn: Conn,
    org: &'static str,
    user: String,
    stop: Arc<AtomicBool>,
    clock: Arc<AtomicU64>,
) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    let mut left = AFTERWARDS;
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        let sent = clock.fetch_add(1, Ordering::SeqCst);
        if let Some(id) = send(&mut conn, (org, &user), &format!("message {number}"), None).await {
            let now = clock.fetch_add(1, Ordering::SeqCst);
            accepted.push(Accepted { id, org, user: user.clone(), sent, accepted: now });
        }
        tokio::time::sleep(PAUSE).await;
    }
    accepted
}

/// Waits until all are over; what each came to.
async fn ends(url: &str, accepted: &[Accepted]) -> HashMap<String, Value> {
    let (mut conn, started) = (Conn::new(url), Instant::now());
    let mut ends = HashMap::new();
    for one in accepted {
        loop {
            let turn = turn(&mut conn, &one.id).await;
            if !turn["finished_at"].is_null() {
                ends.insert(one.id.clone(), turn);
                break;
            }
            assert!(started.elapsed() < drained_within(), "it is not over: {turn}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    ends
}

/// How many terminal events a reader gets.
async fn terminals(url: &str, one: &Accepted) -> usize {
    let events = read(url, &one.user, &one.id, None).await;
    events.iter().filter(|event| matches!(event.event.as_str(), "done" | "error" | "cancelled")).count()
}

async fn page(url: &str) -> Page {
    Page::read(std::str::from_utf8(&Conn::new(url).get("/metrics").await.unwrap().body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_down_ends_what_it_is_called_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = || AgentConfig { delay_ms: 2, ..AgentConfig::default() };
    let before = FakeAgent::start(own_address(1), config()).await.unwrap();
    let (address, journal) = (before.address(), Arc::clone(before.journal()));
    let env = [("LOG_LEVEL", "ERROR")];
    let server = serve(folder.path(), 0, Some(&before.base_url()), &env).await;
    let url = server.url().to_owned();
    let load = Load::start(&url);
    let wait = async {
        while journal.stats().answered < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the agent answers at first");
    before.stop().await;
    let down = load.now();
    tokio::time::sleep(outage()).await;
    let agent = FakeAgent::start(address, config()).await.unwrap();
    let up = load.now();
    let accepted = load.end().await;
    let ends = ends(&url, &accepted).await;
    let calls = |journal: &turnwise_mock::Journal| journal.calls();
    let (first, second) = (calls(&journal), calls(agent.journal()));
    let cut: HashSet<&str> = first
        .iter()
        .filter(|call| call.outcome != Some(CallOutcome::Answered))
        .map(|call| call.message_id.as_str())
        .collect();
    let mut unreachable = 0;
    for one in &accepted {
        let end = &ends[&one.id];
        let called = first.iter().chain(&second).filter(|call| call.message_id == one.id);
        let answered = called.filter(|call| call.outcome == Some(CallOutcome::Answered)).count();
        match end["status"].as_str() {
            Some("completed") => assert_eq!(answered, 1, "{end}"),
            Some("failed") if end["error"]["code"] == "agent_unreachable" => {
                assert_eq!(answered, 0, "{end}");
                unreachable += 1;
            }
            // Its call was cut when the agent went away.
            _ => assert!(cut.contains(one.id.as_str()), "{end}"),
        }
        assert!(one.sent < up || end["status"] == "completed", "{end}");
        assert_eq!(terminals(&url, one).await, 1, "{end}");
    }
    let meanwhile = accepted.iter().filter(|one| one.sent > down && one.sent < up).count();
    assert!(meanwhile > 0 && unreachable > 0, "{unreachable} of {meanwhile}");
    // Every conversation was answered in the order in which it wrote.
    for org in ORGS {
        for number in 0..USERS_PER_ORG {
            let user = format!("{org}-{number}");
            let sent: Vec<_> = accepted.iter().filter(|one| one.user == user).map(|one| &one.id).collect();
            let places: HashMap<_, _> = sent.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
            let mut calls: Vec<_> = second.iter().collect();
            calls.sort_by_key(|call| call.started);
            let called: Vec<_> =
                calls.iter().filter_map(|call| places.get(call.message_id.as_str())).collect();
            assert!(called.is_sorted(), "{user}: {called:?}");
            assert!(called.len() >= AFTERWARDS, "{user}: {called:?}");
        }
    }
    println!(
        "{} turns, {meanwhile} of them sent while the agent was down, {unreachable} agent_unreachable",
        accepted.len()
    );
    assert_eq!(server.terminate().await, Some(0));
}

/// In front of an agent: 503 with Retry-After while it is busy, else passed on.
async fn front(agent: SocketAddr, busy: Arc<AtomicBool>) -> Host {
    let serve = move |mut socket: TcpStream| {
        let busy = Arc::clone(&busy);
        async move {
            if busy.load(Ordering::SeqCst) {
                let mut request = vec![0; 16_384];
                let _ = socket.read(&mut request).await;
                let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = socket.write_all(answer.as_bytes()).await;
            } else if let Ok(mut agent) = TcpStream::connect(agent).await {
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut agent).await;
            }
        }
    };
    Host::start(serve).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_busy_for_long_answers_everything_afterwards_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let busy = Arc::new(AtomicBool::new(true));
    let front = front(agent.address(), Arc::clone(&busy)).await;
    let patience = (outage() + PATIENCE).as_secs().to_string();
    let env = [("TURNWISE_RETRY_AFTER_MAX", patience.as_str()), ("TURNWISE_CONVERSATION_DEPTH_MAX", "20")];
    let server = serve(folder.path(), 0, Some(&front.url("")), &env).await;
    let url = server.url().to_owned();
    let load = Load::start(&url);
    tokio::time::sleep(outage()).await;
    assert_eq!(agent.journal().stats().calls, 0);
    busy.store(false, Ordering::SeqCst);
    let accepted = load.end().await;
    let ends = ends(&url, &accepted).await;
    let mut checker = HistoryChecker::new();
    checker.add_calls(agent.journal().calls());
    for one in &accepted {
        assert_eq!(ends[&one.id]["status"], "completed", "{}", ends[&one.id]);
        assert_eq!(terminals(&url, one).await, 1);
        checker.add_receipts([one.receipt(Terminal::Completed)]);
    }
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    let waited = ends.values().filter(|turn| turn["timeline"].to_string().contains(r#""busy""#)).count();
    assert!(waited >= ORGS.len() * USERS_PER_ORG, "{waited} waited for the agent");
    println!("{} turns, {waited} of them met a busy agent", accepted.len());
    assert_eq!(server.terminate().await, Some(0));
}

async fn serve_with_callbacks(folder: &std::path::Path, agent: &str, env: &[(&str, &str)]) -> Running {
    let mut command = turnwise(folder);
    command.args(["serve", "--json", "--data-dir", "data", "--port", "0"]);
    command.env("LOG_LEVEL", "ERROR").env("WORKER_BASE_URL", agent);
    command.env("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1,127.77.3.2");
    command.env("TURNWISE_CALLBACKS_SECRET", SECRET).envs(env.iter().copied());
    Running::start(&mut command).await
}

/// Callbacks of turns that were answered in this order, for one receiver.
#[derive(Default)]
struct Expected {
    checker: CallbackChecker,
    ids: HashSet<String>,
}

impl Expected {
    fn add(&mut self, id: &str, org: &str, user: &str) {
        self.checker.add_turn(id, &conversation_of_user(org, user));
        self.ids.insert(id.to_owned());
    }

    /// Waits until all were taken, then judges them.
    async fn judge(&self, receiver: &CallbackReceiver, limit: Duration) {
        let started = Instant::now();
        loop {
            let received = receiver.received();
            let taken: HashSet<_> = received
                .iter()
                .filter(|one| (200..300).contains(&one.answered))
                .map(|one| one.message_id.clone())
                .collect();
            let missing = self.ids.difference(&taken).count();
            if missing == 0 {
                let violations = self.checker.check(&received);
                assert!(violations.is_empty(), "{violations:#?}");
                return;
            }
            assert!(started.elapsed() < limit, "{missing} callbacks of {} are missing", self.ids.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Every conversation writes `rounds` messages, each end to be posted to the two hosts by turns.
async fn with_hooks(url: &str, users: usize, rounds: usize, hooks: [&str; 2]) -> [Expected; 2] {
    let (mut conn, mut expected) = (Conn::new(url), [Expected::default(), Expected::default()]);
    for round in 0..rounds {
        for number in 0..users {
            let (org, user) = (ORGS[number % ORGS.len()], format!("user-{number}"));
            let which = (round + number) % 2;
            let text = format!("message {round} [[events=0]]");
            let id = send(&mut conn, (org, &user), &text, Some(hooks[which])).await.expect("there is room");
            expected[which].add(&id, org, &user);
        }
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_host_that_is_down_holds_up_only_its_own_callbacks() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let other = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let willing = || -> Answering { Arc::new(|_, _| StatusCode::NO_CONTENT) };
    let host = CallbackReceiver::start(own_address(2), Some(SECRET), willing()).await.unwrap();
    let (address, down_url) = (host.address(), host.url("/hook"));
    host.stop().await;
    let down = Instant::now();
    let server = serve_with_callbacks(folder.path(), &agent.base_url(), &[]).await;
    let hooks = [down_url.as_str(), &other.url("/hook")];
    let [own, others] = with_hooks(server.url(), 12, 8, hooks).await;
    // All of them while the host is down.
    others.judge(&other, PATIENCE).await;
    let waiting = async {
        while page(server.url()).await.value("turnwise_callbacks_again_total", &[("reason", "unreachable")])
            < Some(6.0)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("each conversation has tried the host");
    tokio::time::sleep(outage().saturating_sub(down.elapsed())).await;
    let host = CallbackReceiver::start(address, Some(SECRET), willing()).await.unwrap();
    own.judge(&host, drained_within()).await;
    println!(
        "{} callbacks arrived while another host was down, its own {} after that",
        others.ids.len(),
        own.ids.len()
    );
    assert_eq!(server.terminate().await, Some(0));
}

/// Takes every request and answers it one byte a second; counts requests.
async fn dripping() -> (Host, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&requests);
    let serve = move |mut socket: TcpStream| {
        let count = Arc::clone(&count);
        async move {
            let mut request = vec![0; 65_536];
            if socket.read(&mut request).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
                if socket.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    (Host::start(serve).await.unwrap(), requests)
}

/// Its callbacks alone would fill all slots for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_host_that_answers_one_byte_a_second_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let other = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let (slow, requests) = dripping().await;
    let slow_url = slow.url("/hook");
    let env = [("TURNWISE_CALLBACKS_CONCURRENCY", "8"), ("TURNWISE_CALLBACKS_HOST_CONCURRENCY", "4")];
    let server = serve_with_callbacks(folder.path(), &agent.base_url(), &env).await;
    let url = server.url().to_owned();
    // Fifty conversations wait for the slow host before anybody else comes.
    let mut conn = Conn::new(&url);
    for number in 0..50 {
        let user = format!("slow-{number}");
        send(&mut conn, ("slow", &user), "x [[events=0]]", Some(&slow_url)).await.unwrap();
    }
    let met = async {
        while requests.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("the slow host is asked");
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < outage() {
        let [_, others] = with_hooks(&url, 12, 2, [&slow_url, &other.url("/hook")]).await;
        others.judge_part(&other).await;
        let id = send(&mut conn, ("acme", "reader"), "hello [[events=2]]", None).await.unwrap();
        let events = read(&url, "reader", &id, None).await;
        assert_eq!(events.last().map(|event| event.event.as_str()), Some("done"), "{events:?}");
        rounds += 1;
    }
    let page = page(&url).await;
    assert_eq!(
        page.value("turnwise_callbacks_given_up_total", &[("reason", "attempts_exhausted")]),
        Some(0.0)
    );
    println!("{rounds} rounds of callbacks beside a host that answers one byte a second");
    assert_eq!(server.terminate().await, Some(0));
}

impl Expected {
    /// The same when others came before.
    async fn judge_part(&self, receiver: &CallbackReceiver) {
        let wait = async {
            loop {
                let received = receiver.received();
                let own: Vec<_> =
                    received.into_iter().filter(|one| self.ids.contains(&one.message_id)).collect();
                if own.len() >= self.ids.len() {
                    return self.checker.check(&own);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let violations = tokio::time::timeout(PATIENCE, wait).await.expect("callbacks of others come");
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

/// Opens the stream of a turn, reads its beginning and no more.
async fn stopped_reader(address: SocketAddr, user: &str, id: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(UNREAD_SOCKET_BYTES).unwrap();
    let mut reader = socket.connect(address).await.unwrap();
    let head =
        format!("GET /api/v1/stream?user_id={user}&message_id={id} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    reader.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    reader.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_that_stop_reading_cost_little_and_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let url = server.url().to_owned();
    let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let (mut conn, org) = (Conn::new(&url), "acme");
    // The long answer is complete, so that all that it takes to keep it is there before the readers.
    let long =
        send(&mut conn, (org, "unread"), &format!("x [[events={UNREAD_EVENTS}]]"), None).await.unwrap();
    let is_over = async {
        while turn(&mut conn, &long).await["status"] != "completed" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(drained_within(), is_over).await.expect("the long answer ends");
    let memory = async || page(&url).await.value("process_resident_memory_bytes", &[]).unwrap();
    let before = memory().await;
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        readers.push(stopped_reader(address, "unread", &long).await);
    }
    let started = Instant::now();
    let mut turns = 0;
    while turns < 5 || started.elapsed() < outage() {
        for user in ["a", "b", "c"] {
            let id = send(&mut conn, (org, user), &format!("hello [[events={EVENTS} gap=1]]"), None)
                .await
                .unwrap();
            let mut reader = open(&url, user, &id, None).await.unwrap();
            let events = tokio::time::timeout(PATIENCE, reader.rest()).await.expect("it ends").unwrap();
            // Twenty parts, the whole, and the end.
            assert_eq!(stored(&events).len(), EVENTS + 2, "{events:?}");
            assert_eq!(events.last().map(|event| event.event.as_str()), Some("done"));
        }
        turns += 1;
    }
    let grown = memory().await - before;
    println!("{} turns read beside {READERS} readers that stopped, {:.1} MB more", 3 * turns, grown / 1e6);
    assert!(grown < UNREAD_MEMORY_MAX, "{grown} bytes");
    drop(readers);
    assert_eq!(server.terminate().await, Some(0));
}

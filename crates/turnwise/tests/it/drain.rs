//! SIGTERM from outside: what is refused, what is finished, what is handed
//! back, what readers are told, and that nothing is lost over many of them.

use crate::support::{
    ORG, PATIENCE, Running, accepted, count_of, open, read, receipt, serve, stored, submit, try_open,
};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use turnwise_mock::{
    AgentConfig, Answer, CallOutcome, Conn, FakeAgent, HistoryChecker, SseEvent, Terminal, TurnReceipt,
};

/// Drains that count, unless [`CYCLES_ENV`] says otherwise.
const CYCLES: u32 = 5;
/// Asks for more drains, or fewer.
const CYCLES_ENV: &str = "TURNWISE_TERM_CYCLES";
/// Seconds a server has in these tests, as it is told.
const DRAIN: &str = "1";
/// A drain may last so long, and some more on a machine that does something else.
const EXIT_MAX: Duration = Duration::from_secs(1 + 1 + 3);
/// Conversations whose first turn hangs, and the turns of each: so many streams are open.
const HELD: (usize, usize) = (10, 20);
/// Conversations cut in mid-answer, and as many that finish in time.
const OTHERS: usize = 5;
/// Conversations that are written to all the time, by two clients each.
const BUSY: usize = 6;

async fn agent() -> FakeAgent {
    let config = AgentConfig { delay_ms: 5, delay_spread_ms: 20, ..AgentConfig::default() };
    FakeAgent::start(([127, 0, 0, 1], 0).into(), config).await.unwrap()
}

fn port(server: &Running) -> u16 {
    u16::try_from(server.ready["port"].as_u64().unwrap()).unwrap()
}

/// Asks on a connection of its own, as a load balancer does.
async fn ask(url: &str, path: &str) -> Option<Answer> {
    Conn::new(url).get(path).await.ok()
}

/// Returns when the server says that it drains.
async fn draining(url: &str) -> Answer {
    loop {
        let answer = ask(url, "/readyz").await.expect("it answers while it drains");
        if answer.status == 503 {
            return answer;
        }
    }
}

async fn in_flight(agent: &FakeAgent, calls: u64) {
    let reached = async {
        while agent.journal().stats().in_flight < calls {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the agent is called");
}

/// Reads a stream as it comes, comments and `retry:` included.
async fn raw_stream(url: &str, user: &str, id: &str) -> tokio::task::JoinHandle<String> {
    let mut socket = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let head =
        format!("GET /api/v1/stream?user_id={user}&message_id={id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let first = socket.read(&mut text).await.unwrap();
    text.truncate(first);
    tokio::spawn(async move {
        socket.read_to_end(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    })
}

#[tokio::test]
async fn a_drain_is_seen_refuses_new_work_and_finishes_what_runs() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &[("TURNWISE_DRAIN", "20")]).await;
    let (url, port) = (server.url().to_owned(), port(&server));
    let running = accepted(&url, "alice", "first [[events=3 gap=400]]").await;
    in_flight(&agent, 1).await;
    let waiting = accepted(&url, "alice", "second").await;
    let of_running = open(&url, "alice", &running, None).await.unwrap();
    let of_waiting = raw_stream(&url, "alice", &waiting).await;
    server.signal(Signal::TERM);
    let refused = draining(&url).await;
    assert_eq!(refused.json::<Value>().unwrap()["code"], "draining");
    let body = format!(r#"{{"user_id":"bob","org_id":"{ORG}","client_id":"web","message":"new"}}"#);
    let refused = Conn::new(&url).post("/api/v1/message", body).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{:?}", refused.headers);
    assert_eq!(refused.header("connection"), "close");
    assert_eq!(refused.json::<Value>().unwrap()["code"], "draining");
    // What is there can be read, and who lives is told so.
    let seen: Value = ask(&url, &format!("/api/v1/message/{running}")).await.unwrap().json().unwrap();
    assert_eq!(seen["status"], "processing");
    assert_eq!(ask(&url, "/livez").await.unwrap().status, 200);
    let mut of_running = of_running;
    let events = of_running.rest().await.unwrap();
    assert_eq!(events.last().unwrap().event, "done", "a running turn's stream goes on to its end");
    let told = of_waiting.await.unwrap();
    assert!(told.contains("\nretry: ") && told.contains(": going away, reconnect"), "{told}");
    assert_eq!(server.exit().await, Some(0));
    assert_eq!(agent.journal().stats().calls, 1, "nothing is begun any more");

    let server = serve(folder.path(), port, Some(&agent.base_url()), &[]).await;
    assert_eq!(read(&url, "alice", &waiting, None).await.last().unwrap().event, "done");
    let calls = agent.journal().calls();
    assert_eq!(calls.iter().map(|call| call.message_id.as_str()).collect::<Vec<_>>(), [&running, &waiting]);
    assert!(calls.iter().all(|call| call.attempt == 1));
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_call_cut_by_the_deadline_is_released_and_its_waiting_client_told_queued() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let env = [("TURNWISE_DRAIN", DRAIN)];
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &env).await;
    let (url, port) = (server.url().to_owned(), port(&server));
    let body = format!(
        r#"{{"user_id":"alice","org_id":"{ORG}","client_id":"web","message":"slow [[events=0 hang times=1]]"}}"#
    );
    let asked = url.clone();
    let waiting = tokio::spawn(async move { Conn::new(&asked).post("/api/v1/message", body).await.unwrap() });
    in_flight(&agent, 1).await;
    server.signal(Signal::TERM);
    let told: Value = waiting.await.unwrap().json().unwrap();
    assert_eq!(told["status"], "queued");
    assert_eq!(server.exit().await, Some(0));
    let first = agent.journal().calls().pop().unwrap();
    assert_eq!(first.outcome, Some(CallOutcome::Abandoned), "the agent sees its caller leave");
    let server = serve(folder.path(), port, Some(&agent.base_url()), &[]).await;
    let id = told["message_id"].as_str().unwrap();
    assert_eq!(read(&url, "alice", id, None).await.last().unwrap().event, "done");
    let attempts: Vec<u32> = agent.journal().calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 1], "a drain costs no attempt");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn idle_streams_do_not_hold_up_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve(folder.path(), 0, None, &[("TURNWISE_DRAIN", "25")]).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let user = format!("user-{number}");
        let id = accepted(server.url(), &user, "waits for an agent").await;
        streams.push(raw_stream(server.url(), &user, &id).await);
    }
    server.signal(Signal::TERM);
    let started = Instant::now();
    assert_eq!(server.exit().await, Some(0));
    println!("100 idle streams: over after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(10), "not after the drain time");
    let mut pauses = HashSet::new();
    for stream in streams {
        let told = stream.await.unwrap();
        assert!(told.contains(": going away, reconnect"), "{told}");
        pauses.insert(told.rsplit_once("retry: ").unwrap().1.split('\n').next().unwrap().to_owned());
    }
    assert!(pauses.len() > 50, "they do not come back all at once: {pauses:?}");
}

#[tokio::test]
async fn a_load_balancer_sees_503_for_the_lingering_time() {
    let folder = tempfile::tempdir().unwrap();
    let env = [("TURNWISE_DRAIN", "30"), ("TURNWISE_DRAIN_LINGER", "1")];
    let mut server = serve(folder.path(), 0, None, &env).await;
    let url = server.url().to_owned();
    server.signal(Signal::TERM);
    let started = Instant::now();
    assert_eq!(draining(&url).await.header("retry-after"), "1");
    assert_eq!(server.exit().await, Some(0));
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(ask(&url, "/readyz").await.is_none());
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    for (name, second) in [("term", Signal::TERM), ("int", Signal::INT)] {
        let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &[("TURNWISE_DRAIN", "600")]).await;
        let hanging = accepted(server.url(), name, "[[events=0 hang times=1]]").await;
        let waiting = accepted(server.url(), name, "behind it").await;
        in_flight(&agent, 1).await;
        server.signal(Signal::TERM);
        draining(server.url()).await;
        server.signal(second);
        assert_eq!(server.exit().await, Some(130));
        let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
        for id in [&hanging, &waiting] {
            assert_eq!(read(server.url(), name, id, None).await.last().unwrap().event, "done");
        }
        assert_eq!(server.terminate().await, Some(0));
    }
}

/// A turn as its client knows it.
#[derive(Clone)]
struct Sent {
    user: String,
    text: String,
    client_message_id: String,
    sent: u64,
}

/// What the clients know.
#[derive(Default)]
struct History {
    counter: AtomicU64,
    next_message: AtomicU64,
    streams_open: AtomicU64,
    /// Turns that will be cut whose answer has begun.
    begun: AtomicU64,
    streams_broken: AtomicU64,
    resumed: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
    accepted: Mutex<Vec<(TurnReceipt, String)>>,
}

impl History {
    fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    fn compose(&self, user: &str, text: &str) -> Sent {
        let number = self.next_message.fetch_add(1, Ordering::SeqCst);
        Sent {
            user: user.to_owned(),
            text: format!("message {number} {text}"),
            client_message_id: format!("m{number}"),
            sent: self.tick(),
        }
    }

    async fn accept(&self, sent: &Sent, body: &Value) -> String {
        let id = body["message_id"].as_str().unwrap().to_owned();
        let receipt = receipt(body, &sent.user, sent.sent, self.tick());
        self.accepted.lock().await.push((receipt, sent.text.clone()));
        id
    }
}

/// Sends until it is accepted or refused for the drain; a connection that broke proves
/// nothing, so it is sent again: to the next server, if this one is gone.
async fn send(history: &History, conn: &mut Conn, sent: &Sent) -> Option<String> {
    loop {
        match submit(conn, &sent.user, &sent.text, Some(&sent.client_message_id)).await {
            Ok((200, body)) => return Some(history.accept(sent, &body).await),
            Ok((429, _)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok((503, body)) => {
                assert_eq!(body["code"], "draining", "{body}");
                history.refused.fetch_add(1, Ordering::SeqCst);
                return None;
            }
            Ok((status, body)) => panic!("{status}: {body}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn writer(history: Arc<History>, url: String, user: String) {
    let mut conn = Conn::new(&url);
    while !history.stop.load(Ordering::SeqCst) {
        let parts =
            ["[[events=0]]", "[[events=3 gap=5]]"][history.next_message.load(Ordering::SeqCst) as usize % 2];
        let sent = history.compose(&user, parts);
        if send(&history, &mut conn, &sent).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads one turn to its end, over as many connections as it takes.
async fn reader(
    history: Arc<History>,
    url: String,
    user: String,
    id: String,
) -> (String, String, Vec<SseEvent>) {
    let mut seen: Vec<SseEvent> = Vec::new();
    let mut connections = 0;
    loop {
        let last = seen.iter().rev().find(|event| !event.id.is_empty()).map(|event| event.id.clone());
        let Ok(mut stream) = try_open(&url, &user, &id, last.as_deref()).await else {
            tokio::time::sleep(Duration::from_millis(30)).await;
            continue;
        };
        connections += 1;
        if connections == 2 {
            history.resumed.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(stream.status, 200, "{user} {id} after {last:?}");
        history.streams_open.fetch_add(1, Ordering::SeqCst);
        loop {
            match stream.next_within(4 * PATIENCE).await {
                Ok(Some(event)) => {
                    if user.starts_with("cut") && event.event == "message" && event.data.contains("part 2") {
                        history.begun.fetch_add(1, Ordering::SeqCst);
                    }
                    seen.push(event);
                }
                Ok(None) => break,
                Err(_) => {
                    history.streams_broken.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
        history.streams_open.fetch_sub(1, Ordering::SeqCst);
        if seen.last().is_some_and(|event| matches!(event.event.as_str(), "done" | "error" | "cancelled")) {
            return (user, id, seen);
        }
    }
}

type Readings = JoinSet<(String, String, Vec<SseEvent>)>;

/// Turns that hang until the drain is over, and all that wait behind them, each with a reader.
async fn open_streams(history: &Arc<History>, url: &str, cycle: u32, readings: &mut Readings) {
    let mut conn = Conn::new(url);
    for user in 0..HELD.0 {
        for turn in 0..HELD.1 {
            let user = format!("held-{cycle}-{user}");
            let text = if turn == 0 { "[[events=0 hang times=1]]" } else { "[[events=2 gap=1]]" };
            let sent = history.compose(&user, text);
            let id = send(history, &mut conn, &sent).await.unwrap();
            readings.spawn(reader(Arc::clone(history), url.to_owned(), user, id));
        }
    }
    let all = (HELD.0 * HELD.1) as u64;
    let opened = async {
        while history.streams_open.load(Ordering::SeqCst) < all {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("all streams open");
}

/// Load, a drain in the middle of it, a restart, and all that was accepted read to its end.
async fn cycle(
    server: &mut Running,
    again: impl AsyncFn() -> Running,
    agent: &FakeAgent,
    history: &Arc<History>,
    number: u32,
) -> Duration {
    let url = server.url().to_owned();
    let mut writers = JoinSet::new();
    for user in 0..BUSY {
        for _ in 0..2 {
            writers.spawn(writer(Arc::clone(history), url.clone(), format!("busy-{user}")));
        }
    }
    let mut readings = JoinSet::new();
    open_streams(history, &url, number, &mut readings).await;
    for other in 0..OTHERS {
        for (kind, text) in [("cut", "[[events=2 gap=5 hang]]"), ("late", "[[delay=200 events=2 gap=5]]")] {
            let sent = history.compose(&format!("{kind}-{number}-{other}"), text);
            let id = send(history, &mut Conn::new(&url), &sent).await.unwrap();
            readings.spawn(reader(Arc::clone(history), url.clone(), sent.user, id));
        }
    }
    in_flight(agent, (HELD.0 + OTHERS) as u64).await;
    let begun = async {
        while history.begun.load(Ordering::SeqCst) < u64::from(number + 1) * OTHERS as u64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("the answers begin that will be cut");
    assert!(history.streams_open.load(Ordering::SeqCst) >= (HELD.0 * HELD.1) as u64);
    server.signal(Signal::TERM);
    let started = Instant::now();
    draining(&url).await;
    // Calls that were on their way to the agent are there after some more asking.
    for _ in 0..20 {
        ask(&url, "/livez").await;
    }
    let mark = agent.journal().mark();
    assert_eq!(server.exit().await, Some(0));
    let took = started.elapsed();
    assert!(took < EXIT_MAX, "the drain took {took:?}");
    let late: Vec<_> = agent.journal().calls().into_iter().filter(|call| call.started > mark).collect();
    assert!(late.is_empty(), "begun after the signal: {late:?}");
    *server = again().await;
    history.stop.store(true, Ordering::SeqCst);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    history.stop.store(false, Ordering::SeqCst);
    compare(&url, readings).await;
    read_ends(&url, history).await;
    took
}

/// What each reader saw over its connections is what a fresh reader sees.
async fn compare(url: &str, mut readings: Readings) {
    while let Some(reading) = readings.join_next().await {
        let (user, id, seen) = reading.unwrap();
        let fresh = read(url, &user, &id, None).await;
        assert_eq!(stored(&seen), stored(&fresh), "{user}");
        let end = if user.starts_with("cut") { "error" } else { "done" };
        assert_eq!(fresh.last().unwrap().event, end, "{user}: {fresh:?}");
    }
}

/// Waits for the end of every accepted turn and notes it.
async fn read_ends(url: &str, history: &History) {
    let mut conn = Conn::new(url);
    for (receipt, text) in
        history.accepted.lock().await.iter_mut().filter(|(receipt, _)| receipt.ends.is_empty())
    {
        let started = Instant::now();
        let turn = loop {
            let answer = conn.get(&format!("/api/v1/message/{}", receipt.message_id)).await.unwrap();
            let turn: Value = answer.json().unwrap();
            if !matches!(turn["status"].as_str(), Some("queued" | "processing")) {
                break turn;
            }
            assert!(started.elapsed() < PATIENCE, "not over: {turn}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        match turn["status"].as_str() {
            Some("completed") => receipt.ends.push(Terminal::Completed),
            Some("failed") => {
                assert_eq!(turn["error"]["code"], "answer_interrupted", "{turn}");
                assert!(text.contains("events=2 gap=5 hang"), "it could have finished: {text}");
                receipt.ends.push(Terminal::Failed);
            }
            _ => panic!("{turn}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_no_attempt_burnt_over_many_drains() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), agent().await);
    let (path, base_url) = (folder.path().to_owned(), agent.base_url());
    let env = [("TURNWISE_DRAIN", DRAIN)];
    let mut server = serve(&path, 0, Some(&base_url), &env).await;
    let port = port(&server);
    let history = Arc::new(History::default());
    let mut slowest = Duration::ZERO;
    let cycles = count_of(CYCLES_ENV, CYCLES);
    for number in 0..cycles {
        let again = async || serve(&path, port, Some(&base_url), &env).await;
        slowest = slowest.max(cycle(&mut server, again, &agent, &history, number).await);
    }
    let journal = agent.journal();
    assert_eq!(journal.stats().dropped, 0, "the journal has no room for so many cycles");
    let calls = journal.calls();
    let burnt: Vec<_> = calls.iter().filter(|call| call.attempt != 1).collect();
    assert!(burnt.is_empty(), "attempts were burnt: {burnt:?}");
    let released = calls.iter().filter(|call| call.outcome == Some(CallOutcome::Abandoned)).count();
    assert!(released >= cycles as usize * HELD.0, "{released} calls were given back");
    let accepted = history.accepted.lock().await;
    let known: HashSet<&str> = accepted.iter().map(|(receipt, _)| receipt.message_id.as_str()).collect();
    let stray: HashMap<&str, u32> = calls
        .iter()
        .filter(|call| !known.contains(call.message_id.as_str()))
        .map(|call| (call.message_id.as_str(), call.attempt))
        .collect();
    assert!(stray.is_empty(), "refused and called all the same: {stray:?}");
    let mut checker = HistoryChecker::new();
    checker.add_calls(calls.iter().cloned());
    checker.add_receipts(accepted.iter().map(|(receipt, _)| receipt.clone()));
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    assert_eq!(history.streams_broken.load(Ordering::SeqCst), 0, "streams end in order");
    println!(
        "{} drains with {} streams each, {} turns, {} calls, {released} given back, {} streams resumed, {} submissions refused, slowest exit {slowest:?}",
        cycles,
        HELD.0 * HELD.1,
        verdict.receipts,
        verdict.calls,
        history.resumed.load(Ordering::SeqCst),
        history.refused.load(Ordering::SeqCst),
    );
    assert_eq!(server.terminate().await, Some(0));
}

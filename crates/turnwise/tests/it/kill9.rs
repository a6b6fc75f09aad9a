//! Kills the server again and again under load: nothing that was acknowledged
//! is lost, nothing runs twice or out of order, and queues move again with no
//! new request.

use crate::support::{Running, count_of, receipt, serve, submit_for};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use turnwise_mock::{
    AgentConfig, Answering, Call, CallOutcome, CallbackChecker, CallbackReceiver, Conn, FakeAgent,
    HistoryChecker, Terminal, TurnReceipt,
};

/// Kills that count, unless [`CYCLES_ENV`] says otherwise.
const CYCLES: u32 = 25;
/// Asks for more kills, or fewer.
const CYCLES_ENV: &str = "TURNWISE_KILL_CYCLES";
/// Kills per cycle that may miss what they should hit: such a cycle is repeated.
const INVALID_PER_CYCLE_MAX: u32 = 2;
/// The agent notices by then that its caller is gone.
const NOTICE_MAX: Duration = Duration::from_secs(2);
/// Users, each with two clients that write at once.
const USERS: usize = 6;
/// After a restart everything is over by then.
const DRAIN_MAX: Duration = Duration::from_secs(35);
/// The agent must be idle so long before what is left is read.
const IDLE: Duration = Duration::from_millis(200);
/// The same when a turn has no answer: it may have been interrupted, or wait for its next call.
const INTERRUPTED_IDLE: Duration = Duration::from_millis(1_000);

/// One of so many turns has a callback.
const CALLBACK_EVERY: u64 = 3;
/// One of so many callbacks is refused when it first comes.
const BUSY_EVERY: usize = 10;
/// After the last restart every callback is delivered by then.
const CALLBACKS_MAX: Duration = Duration::from_secs(60);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone)]
struct Sent {
    callback: Option<String>,
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
    outstanding: AtomicU64,
    stop: AtomicBool,
    accepted: Mutex<Vec<TurnReceipt>>,
    unanswered: Mutex<Vec<Sent>>,
    /// Accepted turns that have a callback.
    callbacks: Mutex<HashSet<String>>,
    /// When the server was killed, in the order of the agent's calls.
    kills: Mutex<Vec<u64>>,
}

impl History {
    fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    async fn accept(&self, sent: &Sent, body: &Value) {
        if sent.callback.is_some() {
            self.callbacks.lock().await.insert(body["message_id"].as_str().unwrap().to_owned());
        }
        let receipt = receipt(body, &sent.user, sent.sent, self.tick());
        self.accepted.lock().await.push(receipt);
    }
}

async fn send(conn: &mut Conn, sent: &Sent) -> Result<(u16, Value), turnwise_mock::ClientError> {
    let own_id = Some(sent.client_message_id.as_str());
    submit_for(conn, &sent.user, &sent.text, own_id, sent.callback.as_deref()).await
}

/// A receiver that is busy now and then when a callback first comes.
async fn receiver() -> CallbackReceiver {
    let answering: Answering = Arc::new(|before, one| {
        let first = !before.iter().any(|it| it.message_id == one.message_id);
        let busy = first && one.message_id.bytes().map(usize::from).sum::<usize>() % BUSY_EVERY == 0;
        if busy { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::NO_CONTENT }
    });
    CallbackReceiver::start(([127, 0, 0, 1], 0).into(), Some(SECRET), answering).await.unwrap()
}

/// Waits, without a request, until every callback was taken; then judges all that came.
async fn judge_callbacks(agent: &FakeAgent, receiver: &CallbackReceiver, history: &History) -> usize {
    let wanted = history.callbacks.lock().await.clone();
    let started = Instant::now();
    loop {
        let received = receiver.received();
        let taken: HashSet<_> =
            received.iter().filter(|one| one.answered == 204).map(|one| one.message_id.clone()).collect();
        if wanted.is_subset(&taken) {
            break;
        }
        let missing = wanted.difference(&taken).count();
        assert!(started.elapsed() < CALLBACKS_MAX, "{missing} callbacks of {} are missing", wanted.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Turns of a conversation end in the order in which their calls began.
    let mut calls = agent.journal().calls();
    calls.sort_by_key(|call| call.started);
    let mut checker = CallbackChecker::new();
    for call in calls.iter().filter(|call| wanted.contains(&call.message_id)) {
        checker.add_turn(&call.message_id, &call.conversation);
    }
    let received = receiver.received();
    let violations = checker.check(&received);
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(received.len() >= wanted.len());
    received.len()
}

/// Writes until the server is gone. Half of its messages are streamed in parts.
async fn client(history: Arc<History>, url: String, user: String, hook: String) {
    let mut conn = Conn::new(&url);
    while !history.stop.load(Ordering::SeqCst) {
        let number = history.next_message.fetch_add(1, Ordering::SeqCst);
        let parts = if number.is_multiple_of(2) { " [[events=0]]" } else { " [[events=3 gap=10]]" };
        let sent = Sent {
            callback: number.is_multiple_of(CALLBACK_EVERY).then(|| hook.clone()),
            user: user.clone(),
            text: format!("message {number}{parts}"),
            client_message_id: format!("m{number}"),
            sent: history.tick(),
        };
        history.outstanding.fetch_add(1, Ordering::SeqCst);
        let answer = send(&mut conn, &sent).await;
        history.outstanding.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Ok((200, body)) => history.accept(&sent, &body).await,
            Ok((429, _)) => tokio::time::sleep(Duration::from_millis(15)).await,
            Ok((status, body)) => panic!("{status}: {body}"),
            Err(_) => {
                history.unanswered.lock().await.push(sent);
                return;
            }
        }
    }
}

/// One run of load that ends with a kill. True if the kill cut a call of the agent and a
/// submission: the agent saw its caller leave, and a client that had sent got no answer.
async fn load_and_kill(
    server: &mut Running,
    agent: &FakeAgent,
    hook: &str,
    history: &Arc<History>,
    cycle: u32,
) -> bool {
    assert!(history.unanswered.lock().await.is_empty(), "the last cycle was not finished");
    let mut clients = JoinSet::new();
    for user in 0..USERS {
        for _ in 0..2 {
            let name = format!("user-{user}");
            clients.spawn(client(Arc::clone(history), server.url().to_owned(), name, hook.to_owned()));
        }
    }
    tokio::time::sleep(Duration::from_millis(40 + u64::from(cycle % 7) * 23)).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let in_flight = agent.journal().stats().in_flight;
        if in_flight > 0 && history.outstanding.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let abandoned_before = agent.journal().stats().abandoned;
    let killed = history.tick();
    server.kill().await;
    history.kills.lock().await.push(agent.journal().mark());
    history.stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    history.stop.store(false, Ordering::SeqCst);
    // What was sent after the kill met a closed port and proves nothing.
    let cut_submissions = history.unanswered.lock().await.iter().filter(|sent| sent.sent < killed).count();
    cut_calls(agent, abandoned_before).await > 0 && cut_submissions > 0
}

/// Calls that lost their caller since the journal knew `before` of them. The server is dead by now.
async fn cut_calls(agent: &FakeAgent, before: u64) -> u64 {
    let idle = async {
        while agent.journal().stats().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(NOTICE_MAX, idle).await.expect("no call outlives its caller");
    agent.journal().stats().abandoned - before
}

/// Waits, without a request, until the agent has seen the end of all that was accepted.
async fn drained(agent: &FakeAgent, history: &History) -> Duration {
    let started = Instant::now();
    let accepted: Vec<String> =
        history.accepted.lock().await.iter().map(|receipt| receipt.message_id.clone()).collect();
    let mut idle_since = Instant::now();
    let mut calls_before = 0;
    loop {
        let stats = agent.journal().stats();
        if stats.in_flight > 0 || stats.calls != calls_before {
            calls_before = stats.calls;
            idle_since = Instant::now();
        }
        if idle_since.elapsed() > IDLE {
            let answered = answered(&agent.journal().calls());
            let open = accepted.iter().filter(|id| !answered.contains(id.as_str())).count();
            // What is left was interrupted in the middle of its answer, or is stuck: the caller reads which.
            if open == 0 || idle_since.elapsed() > INTERRUPTED_IDLE && all_were_called(agent, &accepted) {
                return started.elapsed().saturating_sub(idle_since.elapsed());
            }
        }
        assert!(started.elapsed() < DRAIN_MAX, "not drained after {DRAIN_MAX:?} with no new request");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn answered(calls: &[Call]) -> HashSet<String> {
    let answered = calls.iter().filter(|call| call.outcome == Some(CallOutcome::Answered));
    answered.map(|call| call.message_id.clone()).collect()
}

fn all_were_called(agent: &FakeAgent, accepted: &[String]) -> bool {
    let calls = agent.journal().calls();
    let called: HashSet<&str> = calls.iter().map(|call| call.message_id.as_str()).collect();
    accepted.iter().all(|id| called.contains(id.as_str()))
}

/// Sends again what had no answer: it is the same turn if it was stored, a new one if not.
async fn repeat_unanswered(url: &str, history: &History) {
    let unanswered = std::mem::take(&mut *history.unanswered.lock().await);
    let mut conn = Conn::new(url);
    for sent in unanswered {
        loop {
            let (status, body) = send(&mut conn, &sent).await.unwrap();
            if status == 429 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            assert_eq!(status, 200, "{body}");
            history.accept(&sent, &body).await;
            break;
        }
    }
}

/// What the server says now about every accepted turn.
async fn read_ends(url: &str, history: &History) -> HashMap<String, u64> {
    let mut conn = Conn::new(url);
    let mut counts = HashMap::new();
    for receipt in history.accepted.lock().await.iter_mut().filter(|receipt| receipt.ends.is_empty()) {
        let answer = conn.get(&format!("/api/v1/message/{}", receipt.message_id)).await.unwrap();
        let turn: Value = answer.json().unwrap();
        let state = turn["status"].as_str().unwrap_or("none").to_owned();
        match state.as_str() {
            "completed" => receipt.ends.push(Terminal::Completed),
            "failed" => {
                assert_eq!(turn["error"]["code"], "answer_interrupted", "{turn}");
                receipt.ends.push(Terminal::Failed);
            }
            _ => panic!("{} is not over: {turn}", receipt.message_id),
        }
        *counts.entry(state).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_many_kills() {
    let folder = tempfile::tempdir().unwrap();
    let config = AgentConfig { delay_ms: 10, delay_spread_ms: 30, ..AgentConfig::default() };
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), config).await.unwrap();
    let receiver = receiver().await;
    let hook = receiver.url("/hook");
    let env = [
        ("TURNWISE_CONVERSATION_DEPTH_MAX", "12"),
        ("TURNWISE_CALLBACKS_SECRET", SECRET),
        ("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1"),
        ("TURNWISE_CALLBACKS_TIMEOUT", "2"),
    ];
    let history = Arc::new(History::default());
    let mut server = serve(folder.path(), 0, Some(&agent.base_url()), &env).await;
    let port = u16::try_from(server.ready["port"].as_u64().unwrap()).unwrap();
    let (mut valid, mut invalid, mut slowest) = (0, 0, Duration::ZERO);
    let mut states: HashMap<String, u64> = HashMap::new();
    let cycles = count_of(CYCLES_ENV, CYCLES);
    while valid < cycles {
        match load_and_kill(&mut server, &agent, &hook, &history, valid + invalid).await {
            true => valid += 1,
            false => invalid += 1,
        }
        assert!(
            invalid <= cycles * INVALID_PER_CYCLE_MAX,
            "the kills do not hit: {valid} of {}",
            valid + invalid
        );
        server = serve(folder.path(), port, Some(&agent.base_url()), &env).await;
        slowest = slowest.max(drained(&agent, &history).await);
        for (state, count) in read_ends(server.url(), &history).await {
            *states.entry(state).or_default() += count;
        }
        repeat_unanswered(server.url(), &history).await;
        drained(&agent, &history).await;
        read_ends(server.url(), &history).await;
    }
    assert_eq!(agent.journal().stats().dropped, 0, "the journal has no room for so many cycles");
    let mut checker =
        HistoryChecker::new().with_declared_reruns().with_kills(history.kills.lock().await.drain(..));
    checker.add_calls(agent.journal().calls());
    checker.add_receipts(history.accepted.lock().await.iter().cloned());
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    assert!(verdict.receipts > 4 * cycles as usize, "too little happened: {}", verdict.receipts);
    let callbacks = history.callbacks.lock().await.len();
    let posts = judge_callbacks(&agent, &receiver, &history).await;
    assert!(callbacks > cycles as usize, "too few callbacks: {callbacks}");
    println!("{callbacks} callbacks, delivered {posts} times");
    println!(
        "{valid} kills ({invalid} missed), {} turns, {} calls, {states:?}, slowest drain {slowest:?}",
        verdict.receipts, verdict.calls
    );
    assert_eq!(server.terminate().await, Some(0));
}

//! Equal nodes on one store, of which one is killed again and again under load: no conversation is called twice
//! at once or out of order, every turn ends once, and who reads at the other node reads whole answers.

mod store_outage;

use crate::support::{Running, count_of, receipt, serve, stored, submit, try_open};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use turnwise_mock::{
    AgentConfig, Conn, FakeAgent, HistoryChecker, Journal, SseEvent, SseReader, Terminal, TurnReceipt,
};
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::redis;

/// Kills, unless [`KILLS_ENV`] says otherwise.
const KILLS: u32 = 2;
const KILLS_ENV: &str = "TURNWISE_NODE_KILLS";
/// Conversations that are written to, unless [`CONVERSATIONS_ENV`] says otherwise.
const CONVERSATIONS: u32 = 100;
const CONVERSATIONS_ENV: &str = "TURNWISE_NODE_CONVERSATIONS";
/// Clients that write at once, each to its own conversations.
const CLIENTS: usize = 12;
/// One of so many turns is read as it comes, at both nodes in turn: one with a long answer, of odd number.
const READ_EVERY: u64 = 4;
/// Streams that are read at a node before it is killed.
const READ_AT_ONCE: u64 = 2;
/// Of two nodes one of which is killed: the dead node's turns are called by the other one after this time.
const KILLING_LEASE_SECONDS: &str = "4";
/// Of two nodes that are stopped in order: no lease runs out however busy the machine is.
const ROLLING_LEASE_SECONDS: &str = "60";
/// Between two kills: longer than a lease, so that both nodes have worked again.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two messages of one client.
const BREATH: Duration = Duration::from_millis(10);
/// Everything is over this long after the load.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Parts of a streamed answer; beside them the whole answer and the end are stored.
const PARTS: usize = 10;

/// Rolling restarts of both nodes, unless [`ROLLS_ENV`] says otherwise.
const ROLLS: u32 = 2;
const ROLLS_ENV: &str = "TURNWISE_NODE_ROLLS";
/// Streams that are read during rolling restarts, unless [`STREAMS_ENV`] says otherwise.
const STREAMS: u32 = 50;
const STREAMS_ENV: &str = "TURNWISE_NODE_STREAMS";
/// Calls of one node at once where nodes are killed.
const KILLING_CALLS: &str = "16";
/// Calls of one node at once, so that all those streams move.
const ROLLING_CALLS: &str = "128";

/// What the clients know.
struct History {
    /// What the agent was asked: clients wait when it falls behind by as many turns as there are conversations.
    journal: Arc<Journal>,
    /// Of the two nodes; they keep their ports.
    urls: Mutex<[String; 2]>,
    counter: AtomicU64,
    stop: AtomicBool,
    accepted: Mutex<Vec<(String, TurnReceipt)>>,
    read: AtomicU64,
    resumed: AtomicU64,
    /// Streams at each node of which something came and more will.
    live: [AtomicU64; 2],
    /// Requests that were told that nothing was stored, and those that nobody could tell anything.
    refused: AtomicU64,
    unknown: AtomicU64,
    /// Most calls that a completed turn took.
    attempts: AtomicU64,
}

impl History {
    fn of(nodes: &Nodes) -> Arc<History> {
        Arc::new(History {
            journal: Arc::clone(nodes.agent.journal()),
            urls: Mutex::new([nodes.url(0), nodes.url(1)]),
            counter: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            accepted: Mutex::default(),
            read: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            live: Default::default(),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
        })
    }

    fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    async fn url(&self, node: u64) -> String {
        self.urls.lock().await[usize::try_from(node % 2).unwrap()].clone()
    }

    /// Sends until one of the nodes says that it has the message: the same one, however often. Once all its tries
    /// were told that nothing was stored it is another one: were it stored, it would be a turn of nobody.
    async fn send(&self, user: &str, number: u64) -> Option<String> {
        // An answer that streams takes a second.
        let text = if number.is_multiple_of(2) { "short [[events=0]]" } else { "long [[events=10 gap=100]]" };
        let (mut own_id, mut sent, mut is_uncertain) = (format!("m{number}"), self.tick(), false);
        for node in number.. {
            let mut conn = Conn::new(&self.url(node).await);
            match submit(&mut conn, user, text, Some(&own_id)).await {
                Ok((200, body)) => {
                    let receipt = receipt(&body, user, sent, self.tick());
                    let id = receipt.message_id.clone();
                    self.accepted.lock().await.push((user.to_owned(), receipt));
                    return Some(id);
                }
                Ok((429, _)) if self.stop.load(Ordering::SeqCst) && !is_uncertain => return None,
                Ok((503, body)) if body["code"] == "store_unavailable" => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    if !is_uncertain {
                        sent = self.tick();
                        own_id = format!("m{number}-{sent}");
                    }
                }
                Ok((429 | 503, _)) => {}
                Ok((500, body)) if body["code"] == "outcome_unknown" => {
                    self.unknown.fetch_add(1, Ordering::SeqCst);
                    is_uncertain = true;
                }
                Err(_) => is_uncertain = true,
                Ok((status, body)) => panic!("{status}: {body}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Reads a stream to its end, from one of the nodes and over nodes that go: it goes on at the other one behind what
    /// it has.
    async fn follow(&self, user: &str, id: &str, first: u64) -> Vec<SseEvent> {
        let mut events: Vec<SseEvent> = Vec::new();
        for node in first.. {
            let after = events.iter().rev().find(|event| !event.id.is_empty()).map(|event| event.id.clone());
            if let Ok(mut reader) = try_open(&self.url(node).await, user, id, after.as_deref()).await
                && reader.status == 200
            {
                if self.read_on(&mut reader, node, &mut events).await {
                    self.read.fetch_add(1, Ordering::SeqCst);
                    return events;
                }
                self.resumed.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        events
    }

    /// Reads what this node sends; whether that is the end of the stream.
    async fn read_on(&self, reader: &mut SseReader, node: u64, events: &mut Vec<SseEvent>) -> bool {
        let live = &self.live[usize::try_from(node % 2).unwrap()];
        let mut is_live = false;
        let mut over = false;
        while !over && let Ok(Some(event)) = reader.next().await {
            over = matches!(event.event.as_str(), "done" | "error");
            if is_part(&event) && !is_live {
                is_live = true;
                live.fetch_add(1, Ordering::SeqCst);
            }
            events.push(event);
        }
        if is_live {
            live.fetch_sub(1, Ordering::SeqCst);
        }
        over
    }

    /// Waits until answers come through this node.
    async fn until_read_at(&self, node: usize) {
        let started = Instant::now();
        while self.live[node].load(Ordering::SeqCst) < READ_AT_ONCE {
            assert!(started.elapsed() < DRAIN_MAX, "no stream at node {node}");
            tokio::time::sleep(BREATH).await;
        }
    }

    async fn client(self: Arc<Self>, client: usize, conversations: u32) {
        let mut reading = JoinSet::new();
        let mut round = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let called = self.journal.stats().calls;
            if self.accepted.lock().await.len() as u64 > called + u64::from(conversations) {
                tokio::time::sleep(BREATH).await;
                continue;
            }
            let number = self.tick();
            let user = format!("user-{}", (client + CLIENTS * round) % conversations as usize);
            round += 1;
            let Some(id) = self.send(&user, number).await else { break };
            if number % READ_EVERY == 1 && reading.len() < 4 {
                let history = Arc::clone(&self);
                reading.spawn(async move {
                    let events = history.follow(&user, &id, number / READ_EVERY).await;
                    whole(&id, &events);
                });
            }
            while let Some(done) = reading.try_join_next() {
                done.unwrap();
            }
            tokio::time::sleep(BREATH).await;
        }
        while let Some(done) = reading.join_next().await {
            done.unwrap();
        }
    }

    /// One conversation: a turn at a time, each read to its end.
    async fn reader(self: Arc<Self>, user: String) {
        while !self.stop.load(Ordering::SeqCst) {
            // Even numbers have short answers.
            let tick = self.tick();
            let number = tick * 2 + 1;
            let Some(id) = self.send(&user, number).await else { break };
            let events = self.follow(&user, &id, tick).await;
            assert_eq!(events.last().unwrap().event, "done", "{id}: {events:#?}");
            whole(&id, &events);
        }
    }

    /// Waits, without a request that moves anything, until every turn is over; then tells how it ended.
    async fn ends(&self) -> HashMap<String, u64> {
        let started = Instant::now();
        let mut conn = Conn::new(&self.url(0).await);
        let mut counts = HashMap::new();
        for (_, receipt) in self.accepted.lock().await.iter_mut() {
            loop {
                let answer = conn.get(&format!("/api/v1/message/{}", receipt.message_id)).await.unwrap();
                let turn: Value = answer.json().unwrap();
                let state = turn["status"].as_str().unwrap_or("none").to_owned();
                match state.as_str() {
                    "completed" => {
                        self.attempts.fetch_max(turn["attempts"].as_u64().unwrap(), Ordering::SeqCst);
                        receipt.ends.push(Terminal::Completed);
                    }
                    "failed" => {
                        assert_eq!(turn["error"]["code"], "answer_interrupted", "{turn}");
                        receipt.ends.push(Terminal::Failed);
                    }
                    _ => {
                        assert!(started.elapsed() < DRAIN_MAX, "not over in time: {turn}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
                *counts.entry(state).or_default() += 1;
                break;
            }
        }
        counts
    }
}

/// What the agent sends of a long answer before the whole.
fn is_part(event: &SseEvent) -> bool {
    event.event == "message" && event.data.contains("\"progress\"")
}

/// Places rise without a hole, and an answer that was not interrupted is whole.
fn whole(id: &str, events: &[SseEvent]) {
    let kept = stored(events);
    let offsets: Vec<u64> =
        kept.iter().map(|event| event.id.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    assert!(offsets.is_sorted_by(|one, next| one < next), "{id}: {offsets:?}");
    let last = kept.last().unwrap();
    if last.event == "done" {
        let parts = kept.iter().filter(|event| is_part(event)).count();
        assert_eq!(parts, PARTS, "{id}: {kept:#?}");
    } else {
        assert!(last.data.contains("answer_interrupted"), "{id}: {last:?}");
    }
}

struct Nodes {
    folder: tempfile::TempDir,
    agent: FakeAgent,
    store: String,
    /// Of one node at once.
    calls: &'static str,
    lease_seconds: &'static str,
    running: [Option<Running>; 2],
    ports: [u16; 2],
}

impl Nodes {
    async fn start(store: String, calls: &'static str, lease_seconds: &'static str) -> Nodes {
        let config = AgentConfig { delay_ms: 5, delay_spread_ms: 20, ..AgentConfig::default() };
        let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), config).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (running, ports) = ([None, None], [0, 0]);
        let mut nodes = Nodes { folder, agent, store, calls, lease_seconds, running, ports };
        for node in 0..2 {
            nodes.run(node).await;
        }
        nodes
    }

    async fn run(&mut self, node: usize) {
        let env = [
            ("TURNWISE_STORE", self.store.as_str()),
            ("TURNWISE_TURN_LEASE", self.lease_seconds),
            ("TURNWISE_AGENT_CONCURRENCY", self.calls),
        ];
        let running = serve(self.folder.path(), self.ports[node], Some(&self.agent.base_url()), &env).await;
        self.ports[node] = u16::try_from(running.ready["port"].as_u64().unwrap()).unwrap();
        self.running[node] = Some(running);
    }

    fn url(&self, node: usize) -> String {
        self.running[node].as_ref().unwrap().url().to_owned()
    }
}

async fn nothing_is_lost_when_nodes_are_killed(store: String) {
    let (kills, conversations) = (count_of(KILLS_ENV, KILLS), count_of(CONVERSATIONS_ENV, CONVERSATIONS));
    let mut nodes = Nodes::start(store, KILLING_CALLS, KILLING_LEASE_SECONDS).await;
    let history = History::of(&nodes);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(Arc::clone(&history).client(client, conversations));
    }
    let mut marks = Vec::new();
    for kill in 0..kills {
        tokio::time::sleep(PAUSE).await;
        let node = kill as usize % 2;
        history.until_read_at(node).await;
        nodes.running[node].take().unwrap().kill().await;
        marks.push(nodes.agent.journal().mark());
        tokio::time::sleep(PAUSE).await;
        nodes.run(node).await;
    }
    tokio::time::sleep(PAUSE).await;
    history.stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let states = history.ends().await;
    let mut checker = HistoryChecker::new().with_declared_reruns().with_kills(marks);
    checker.add_calls(nodes.agent.journal().calls());
    checker.add_receipts(history.accepted.lock().await.iter().map(|(_, receipt)| receipt.clone()));
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    let (read, resumed) = (history.read.load(Ordering::SeqCst), history.resumed.load(Ordering::SeqCst));
    println!(
        "{kills} kills of one of two nodes, {} turns in {conversations} conversations, {} calls, {states:?}, {read} \
         streams read whole, {resumed} times at the other node",
        verdict.receipts, verdict.calls
    );
    assert!(verdict.receipts > 20 * kills as usize && read > 0 && resumed > 0, "too little happened");
    for node in nodes.running {
        assert_eq!(node.unwrap().terminate().await, Some(0));
    }
}

/// Both nodes are stopped and started again in turn while conversations are read: nobody notices.
async fn nobody_notices_rolling_restarts(store: String) {
    let (rolls, streams) = (count_of(ROLLS_ENV, ROLLS), count_of(STREAMS_ENV, STREAMS));
    let mut nodes = Nodes::start(store, ROLLING_CALLS, ROLLING_LEASE_SECONDS).await;
    let history = History::of(&nodes);
    let mut readers = JoinSet::new();
    for reader in 0..streams {
        readers.spawn(Arc::clone(&history).reader(format!("user-{reader}")));
    }
    for roll in 0..rolls * 2 {
        let read = history.read.load(Ordering::SeqCst);
        while history.read.load(Ordering::SeqCst) < read + u64::from(streams) {
            tokio::time::sleep(BREATH).await;
            if let Some(ended) = readers.try_join_next() {
                ended.unwrap();
            }
        }
        let node = roll as usize % 2;
        assert_eq!(nodes.running[node].take().unwrap().terminate().await, Some(0));
        nodes.run(node).await;
    }
    history.stop.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    let states = history.ends().await;
    let mut checker = HistoryChecker::new();
    checker.add_calls(nodes.agent.journal().calls());
    checker.add_receipts(history.accepted.lock().await.iter().map(|(_, receipt)| receipt.clone()));
    let verdict = checker.check();
    assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    let (resumed, attempts) =
        (history.resumed.load(Ordering::SeqCst), history.attempts.load(Ordering::SeqCst));
    println!(
        "{rolls} rolling restarts under {streams} streams, {} turns, {states:?}, each called {attempts} times at \
         most, {resumed} streams went on at the other node",
        verdict.receipts
    );
    assert_eq!(states.keys().collect::<Vec<_>>(), ["completed"], "{states:?}");
    assert_eq!(attempts, 1, "an attempt was burnt");
    assert!(resumed > 0, "no stream was cut");
    for node in nodes.running {
        assert_eq!(node.unwrap().terminate().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_rolling_restarts_on_redis() {
    let Some(server) = redis::start() else { return };
    nobody_notices_rolling_restarts(redis::url(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_rolling_restarts_on_postgres() {
    let Some(server) = Postgres::start() else { return };
    nobody_notices_rolling_restarts(server.url("chat")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_one_of_two_nodes_on_redis_is_killed() {
    let Some(server) = redis::start() else { return };
    nothing_is_lost_when_nodes_are_killed(redis::url(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_one_of_two_nodes_on_postgres_is_killed() {
    let Some(server) = Postgres::start() else { return };
    nothing_is_lost_when_nodes_are_killed(server.url("chat")).await;
}

//! The agents' bus over several nodes: who is connected to one hears of what is
//! sent at another, and what a killed node held comes again at that one.

use crate::support::{PATIENCE, Running, serve};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use turnwise_broker::{
    AgentHello, AgentLink, Broker, BrokerConfig, BusDelivery, BusEvent, BusMode, BusOutcome, BusSend,
    BusSettled, BusState, BusTo, Housekeeping,
};
use turnwise_core::Store;
use turnwise_mock::Conn;
use turnwise_store::postgres::{PostgresConfig, PostgresStore};
use turnwise_store::redis::{RedisConfig, RedisStore};
use turnwise_store::system_clock;
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::redis;

static NONCES: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
enum Engine {
    Redis(String),
    Postgres(String),
}

/// A node of its own: its tasks run in a runtime that can be killed.
struct Node {
    broker: Broker,
    runtime: Runtime,
}

impl Node {
    async fn start(engine: &Engine) -> Node {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = engine.clone();
        let broker = runtime.spawn(async move {
            let store: Arc<dyn Store> = match engine {
                Engine::Redis(url) => RedisStore::open(&url, RedisConfig::default(), None).await.unwrap(),
                Engine::Postgres(url) => {
                    PostgresStore::open(&url, PostgresConfig::default(), None).await.unwrap()
                }
            };
            let config = BrokerConfig {
                housekeeping: Housekeeping::OneOfMany,
                agent_lease: Duration::from_secs(3),
                node_beat: Duration::from_millis(300),
                poll_interval: Duration::from_millis(200),
                ..BrokerConfig::default()
            };
            let nonce = || NONCES.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).rotate_left(31);
            Broker::start(store, config, Arc::new(nonce), system_clock()).await.unwrap()
        });
        Node { broker: broker.await.unwrap(), runtime }
    }

    /// What runs on the node runs in its runtime.
    async fn on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        timeout(PATIENCE, self.runtime.spawn(work)).await.expect("in time").unwrap()
    }

    async fn link(&self, agent: &str) -> AgentLink {
        let (broker, hello) =
            (self.broker.clone(), AgentHello { workspace: Some("w".into()), ..AgentHello::new(agent) });
        self.on(async move { broker.connect_agent("o", hello).await.unwrap() }).await
    }

    async fn send(&self, send: BusSend) -> turnwise_broker::BusSent {
        let broker = self.broker.clone();
        self.on(async move { broker.bus_send("o", send).await.unwrap() }).await
    }

    async fn connections(&self, agent: &'static str) -> u64 {
        let broker = self.broker.clone();
        self.on(async move { broker.bus_agent("o", agent).await.unwrap().map_or(0, |view| view.connections) })
            .await
    }
}

async fn next_of<T>(link: &mut AgentLink, pick: impl Fn(BusEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = pick(link.next().await) {
                return found;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("an event")
}

async fn message(link: &mut AgentLink) -> Arc<BusDelivery> {
    next_of(link, |event| match event {
        BusEvent::Message(delivery) => Some(delivery),
        _ => None,
    })
    .await
}

async fn acked(link: &AgentLink, delivery: &BusDelivery) {
    let batch = vec![(delivery.message.id.clone(), BusOutcome::Ack)];
    assert_eq!(link.handle().settle(batch).await.unwrap(), [BusSettled::Done]);
}

async fn agents_of_two_nodes_talk(engine: Engine) {
    let (one, other) = (Node::start(&engine).await, Node::start(&engine).await);
    let (mut ann, mut boss) = (one.link("ann").await, other.link("boss").await);
    assert_eq!(other.connections("ann").await, 1);
    out_of_the_inbox(&other, &mut ann, &mut boss).await;

    let to_all = BusSend { mode: BusMode::Both, ..BusSend::new("x", BusTo::Workspace("w".into()), "2") };
    let sent = other.send(to_all).await;
    assert_eq!((sent.recipients, sent.queued), (2, 0));
    for link in [&mut ann, &mut boss] {
        let live = |event| match event {
            BusEvent::Live(message) => Some(message.id.clone()),
            _ => None,
        };
        assert_eq!(next_of(link, live).await, sent.message_id);
    }

    asked_there_and_answered_here(&one, &other, &mut ann).await;

    // All connections of an agent, wherever they are; whoever settles it ends it.
    let mut ann_there = other.link("ann").await;
    // The first node's own connection is told that there is another when it next looks; until then one has it.
    let told = async { while one.connections("ann").await < 2 {} };
    timeout(PATIENCE, told).await.expect("the first node hears of it");
    let sent = other.send(BusSend::direct("boss", "ann", "3")).await;
    let (here, there) = (message(&mut ann).await, message(&mut ann_there).await);
    assert_eq!((&here.message.id, &there.message.id), (&sent.message_id, &sent.message_id));
    acked(&ann_there, &there).await;
    let batch = vec![(here.message.id.clone(), BusOutcome::Ack)];
    assert_eq!(ann.handle().settle(batch).await.unwrap(), [BusSettled::LeaseLost]);
    ann_there.close().await;
    a_killed_node_loses_nothing(one, &other, ann).await;
    drop(boss);
    let broker = other.broker.clone();
    other.on(async move { broker.close_bus().await }).await;
    other.runtime.shutdown_background();
}

/// A message at one node, from an agent at the other, who is told what became of it.
async fn out_of_the_inbox(other: &Node, ann: &mut AgentLink, boss: &mut AgentLink) {
    let sent = other.send(BusSend::direct("boss", "ann", "1")).await;
    let delivery = message(ann).await;
    assert_eq!(delivery.message.id, sent.message_id);
    acked(ann, &delivery).await;
    let mut states = Vec::new();
    while states.last() != Some(&BusState::Acked) {
        let receipt = |event| match event {
            BusEvent::Receipt(receipt) => Some(receipt.state),
            _ => None,
        };
        states.push(next_of(boss, receipt).await);
    }
    assert_eq!(states, [BusState::Delivered, BusState::Acked]);
}

async fn asked_there_and_answered_here(one: &Node, other: &Node, ann: &mut AgentLink) {
    let broker = other.broker.clone();
    let asking = other.runtime.spawn(async move {
        let ask = BusSend::direct("boss", "ann", "\"?\"");
        broker.bus_request("o", ask, PATIENCE, std::future::pending()).await
    });
    let request = message(ann).await;
    let answer = BusSend {
        in_reply_to: Some(request.message.id.clone()),
        ..BusSend::new("ann", BusTo::Requester, "\"!\"")
    };
    one.send(answer).await;
    let reply = asking.await.unwrap().unwrap().reply.expect("an answer");
    assert_eq!(reply.content[..], b"\"!\""[..]);
    acked(ann, &request).await;
}

/// What it held comes again at the other, where it is seen to be gone.
async fn a_killed_node_loses_nothing(one: Node, other: &Node, mut ann: AgentLink) {
    let sent = other.send(BusSend::direct("boss", "ann", "4")).await;
    assert_eq!(message(&mut ann).await.message.id, sent.message_id);
    one.runtime.shutdown_background();
    std::mem::forget(ann);
    let mut ann = other.link("ann").await;
    let again = message(&mut ann).await;
    assert_eq!((&again.message.id, again.attempt), (&sent.message_id, 2));
    acked(&ann, &again).await;
    let gone = async { while other.connections("ann").await != 1 {} };
    timeout(PATIENCE, gone).await.expect("the killed node's connection is gone");
}

#[tokio::test]
async fn agents_of_two_nodes_on_redis_talk() {
    let Some(server) = redis::start() else { return };
    agents_of_two_nodes_talk(Engine::Redis(redis::url(&server))).await;
}

#[tokio::test]
async fn agents_of_two_nodes_on_postgres_talk() {
    let Some(server) = Postgres::start() else { return };
    agents_of_two_nodes_talk(Engine::Postgres(server.url("chat"))).await;
}

async fn post(node: &Running, path: &str, body: Value) -> (u16, Value) {
    let path = format!("/api/v1/bus{path}?org_id=o");
    let answer = Conn::new(node.url()).post(&path, body.to_string()).await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

async fn get(node: &Running, path: &str) -> Value {
    let answer = Conn::new(node.url()).get(&format!("/api/v1/bus{path}")).await.unwrap();
    let told: Value = answer.json().unwrap();
    assert_eq!(answer.status, 200, "{told}");
    told
}

/// Real processes, one of them killed while it holds what it handed out.
async fn nothing_sent_is_lost_with_a_node(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let node = async || serve(folder.path(), 0, None, &[("TURNWISE_STORE", store)]).await;
    let (mut one, other) = (node().await, node().await);
    let waiting = async { get(&one, "/agents/ann/inbox?org_id=o&wait_seconds=20&lease_seconds=2").await };
    let sending = async {
        let body = json!({ "from_agent": "boss", "content": { "n": 1 }, "dedup_key": "k" });
        let (status, sent) = post(&other, "/agents/ann/messages", body.clone()).await;
        assert_eq!(status, 202, "{sent}");
        assert_eq!(post(&other, "/agents/ann/messages", body).await.1["duplicate"], true);
        sent["message_id"].as_str().unwrap().to_owned()
    };
    let (taken, id) = tokio::join!(waiting, sending);
    assert_eq!(taken["deliveries"][0]["message_id"], json!(id));
    one.kill().await;
    let again = get(&other, "/agents/ann/inbox?org_id=o&wait_seconds=20").await;
    let delivery = &again["deliveries"][0];
    assert_eq!((&delivery["message_id"], &delivery["attempt"]), (&json!(id), &json!(2)));
    let ack = json!({ "receipt": delivery["receipt"], "outcome": "ack" });
    assert_eq!(post(&other, "/agents/ann/inbox/settle", ack).await.1["status"], "done");
    let receipt = get(&other, &format!("/receipts/{id}?org_id=o")).await;
    assert_eq!(receipt["recipients"][0]["state"], "acked");
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn nothing_sent_is_lost_with_a_node_on_redis() {
    let Some(server) = redis::start() else { return };
    nothing_sent_is_lost_with_a_node(&redis::url(&server)).await;
}

#[tokio::test]
async fn nothing_sent_is_lost_with_a_node_on_postgres() {
    let Some(server) = Postgres::start() else { return };
    nothing_sent_is_lost_with_a_node(&server.url("chat")).await;
}

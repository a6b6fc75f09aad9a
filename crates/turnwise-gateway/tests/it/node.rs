//! A gateway with a broker over the memory engine.

use crate::client::{Call, Reply, post};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use turnwise_broker::{Broker, BrokerConfig, Turn, TurnOutcome};
use turnwise_core::Store;
use turnwise_gateway::{ApiKey, Counters, Drain, Gateway, GatewayConfig, KeyRing};
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    pub(crate) keys: KeyRing,
    pub(crate) drain: Drain,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) counters: Arc<Counters>,
}

/// A node with an agent, open to all, with these changes.
pub(crate) async fn node(configure: impl FnOnce(&mut GatewayConfig)) -> Node {
    node_with(BrokerConfig::default(), configure).await
}

pub(crate) async fn node_with(broker: BrokerConfig, configure: impl FnOnce(&mut GatewayConfig)) -> Node {
    node_on(MemoryStore::new(system_clock()), broker, configure).await
}

/// The same on this store, whose clock is the system's.
pub(crate) async fn node_on(
    store: Arc<dyn Store>,
    broker: BrokerConfig,
    configure: impl FnOnce(&mut GatewayConfig),
) -> Node {
    let next = AtomicU64::new(1);
    let nonce = move || next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let broker = Broker::start(store, broker, Arc::new(nonce), system_clock()).await.unwrap();
    let mut config = GatewayConfig { agent: Arc::new(|| Some(true)), ..GatewayConfig::default() };
    configure(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new(Duration::from_millis(400));
    let gateway = Gateway::new(broker.clone(), config);
    let keys = gateway.keys();
    let counters = gateway.counters();
    let serving = tokio::spawn(gateway.serve(listener, drain.clone()));
    Node { address, broker, keys, drain, serving, counters }
}

/// The key `secret-<org>` for one org.
pub(crate) fn key(org: &str) -> ApiKey {
    use sha2::{Digest, Sha256};
    let sha256 = Sha256::digest(format!("secret-{org}")).into();
    ApiKey { id: org.to_owned(), sha256, orgs: vec![org.to_owned()], agents: Vec::new(), scopes: Vec::new() }
}

/// A path of the table with something in place of what varies, and the query it needs.
pub(crate) fn sample(path: &str) -> String {
    filled(path, "00000000-0000-8000-8000-000000000000", "u")
}

/// A path of the table for this message and user. A new name in a path needs a line here.
pub(crate) fn filled(path: &str, message_id: &str, user_id: &str) -> String {
    let path = path.replace("{message_id}", message_id).replace("{user_id}", user_id);
    let path = path.replace("{callback_id}", message_id).replace("{topic}", "a.b");
    let path = path.replace("{connection_id}", "x");
    let path = path.replace("{queue}", "jobs").replace("{id}", message_id);
    let path = path.replace("{agent_id}", "a").replace("{workspace_id}", "w");
    let path = path.replace("{bus_message_id}", "msg_00000000000000000000000000000000");
    let path = path.replace("{*path}", "a/b");
    assert!(!path.contains('{'), "say what stands for the names in {path}");
    match path.as_str() {
        "/api/v1/stream" => format!("{path}?user_id={user_id}&message_id={message_id}"),
        // Without a mistake it would have no end.
        "/api/v1/tail" => format!("{path}?user_id=%0A"),
        _ => path,
    }
}

/// A body with these fields; `text` of user u in org o.
pub(crate) fn body(text: &str) -> String {
    body_of("o", "u", text)
}

/// A body of this user of this org.
pub(crate) fn body_of(org: &str, user: &str, text: &str) -> String {
    format!(r#"{{"user_id":"{user}","org_id":"{org}","client_id":"web","message":"{text}"}}"#)
}

impl Node {
    pub(crate) async fn send(&self, call: &Call) -> Reply {
        call.send(self.address).await
    }

    /// Sends without waiting for the answer.
    pub(crate) fn start(&self, call: Call) -> JoinHandle<Reply> {
        let address = self.address;
        tokio::spawn(async move { call.send(address).await })
    }

    /// Submits for an answer at once; the id.
    pub(crate) async fn submit(&self, text: &str) -> String {
        let reply = self.send(&post(&body(text)).header("Prefer", "respond-async")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["message_id"].as_str().unwrap().to_owned()
    }

    /// The next turn for the agent.
    pub(crate) async fn claim(&self) -> Turn {
        loop {
            if let Some(turn) = self.broker.claim_turns(1).await.unwrap().pop() {
                return turn;
            }
            self.broker.wake().await;
        }
    }

    /// Waits until the counters say so.
    pub(crate) async fn until(&self, condition: impl Fn(&Counters) -> bool) {
        let reached = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            while !condition(&self.counters) {
                look.tick().await;
            }
        };
        let patience = Duration::from_secs(30);
        let in_time = tokio::time::timeout(patience, reached).await;
        assert!(in_time.is_ok(), "not within {patience:?}: {:?}", self.counters);
    }

    pub(crate) async fn finish(&self, turn: &Turn, outcome: TurnOutcome) {
        self.broker.finish(turn, outcome).await.unwrap();
    }
}

/// Answered with these texts.
pub(crate) fn answered(text: &str) -> TurnOutcome {
    let answer =
        format!(r#"{{"responses":["{text}"],"response_language":"en","voice_audio_base64":null,"more":1}}"#);
    TurnOutcome::Completed { answer: Some(Bytes::from(answer)), unsaved: Vec::new() }
}

/// Raises the number of files this process may open to what the system allows.
pub(crate) fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(files > 2_500, "this test needs `ulimit -n 2500`, not {files}");
}

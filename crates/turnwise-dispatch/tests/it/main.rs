//! Dispatch between a real broker on the memory store and the fake agent:
//! clauses C1, C2, C4 and C5 as far as one process shows them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod callbacks;
mod hosts;
mod https;
mod lifecycle;
mod lost_lease;
mod matrix;
mod scene;
mod store_away;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{
    Broker, BrokerConfig, Conversation, OrgScope, Submission, Submitted, TurnEnd, TurnEvent,
};
use turnwise_core::{MessageId, Store};
use turnwise_dispatch::{DispatchConfig, Dispatcher};
use turnwise_mock::{AgentConfig, FakeAgent, HistoryChecker, Verdict};
use turnwise_store::memory::MemoryStore;
use turnwise_store::{Clock, system_clock};

pub(crate) const ORG: &str = "o";

/// A broker, a fake agent and, once started, a dispatcher between them.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) agent: FakeAgent,
    pub(crate) config: DispatchConfig,
    running: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Stage {
    /// Everything but the dispatcher.
    pub(crate) async fn new(agent: AgentConfig, broker: BrokerConfig) -> Stage {
        let clock = system_clock();
        Stage::on(MemoryStore::new(Arc::clone(&clock)), clock, agent, broker).await
    }

    /// The same on this store and its clock.
    pub(crate) async fn on(
        store: Arc<dyn Store>,
        clock: Clock,
        agent: AgentConfig,
        broker: BrokerConfig,
    ) -> Stage {
        let agent = FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), agent).await.unwrap();
        let broker = start_broker(store, clock, broker).await;
        let config = DispatchConfig {
            base_url: agent.base_url(),
            timeout: Duration::from_millis(400),
            ..DispatchConfig::default()
        };
        Stage { broker, agent, config, running: JoinSet::new(), shutdown: CancellationToken::new() }
    }

    /// With a running dispatcher and everything at its default.
    pub(crate) async fn running(agent: AgentConfig) -> Stage {
        let mut stage = Stage::new(agent, BrokerConfig::default()).await;
        stage.start();
        stage
    }

    pub(crate) fn start(&mut self) {
        let dispatcher = Dispatcher::new(self.broker.clone(), self.config.clone()).unwrap();
        self.shutdown = CancellationToken::new();
        self.running.spawn(dispatcher.run(self.shutdown.clone()));
    }

    pub(crate) async fn shut_down(&mut self) {
        self.shutdown.cancel();
        while let Some(done) = self.running.join_next().await {
            done.unwrap();
        }
    }

    pub(crate) async fn submit(&self, user: &str, message: &str, prefer_stream: bool) -> Submitted {
        self.broker.submit(self.submission(user, message, prefer_stream)).await.unwrap()
    }

    pub(crate) fn submission(&self, user: &str, message: &str, prefer_stream: bool) -> Submission {
        let request = json!({
            "client_id": "web", "user_id": user, "message": message, "message_type": "text", "org": ORG,
        });
        Submission {
            org: ORG.to_owned(),
            user: user.to_owned(),
            client: "web".to_owned(),
            conversation: Conversation::User { user: user.to_owned() },
            client_message_id: None,
            request: request.to_string().into(),
            prefer_stream,
            traceparent: None,
            callback: None,
            redrive_of: None,
        }
    }

    pub(crate) async fn end(&self, id: MessageId) -> TurnEnd {
        let end = self.broker.wait_end(ORG, id);
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("the turn ends").unwrap()
    }

    /// Everything a reader of this turn sees.
    pub(crate) async fn events(&self, user: &str, id: MessageId) -> Vec<TurnEvent> {
        let follow = self.broker.follow(&OrgScope::All, user, id, None).await.unwrap().events().unwrap();
        let events = follow.map(Result::unwrap).collect();
        tokio::time::timeout(Duration::from_secs(20), events).await.expect("the stream ends")
    }

    /// What the agent saw, judged; no receipts.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut checker = HistoryChecker::new();
        checker.add_calls(self.agent.journal().calls());
        checker.check()
    }
}

pub(crate) async fn start_broker(store: Arc<dyn Store>, clock: Clock, config: BrokerConfig) -> Broker {
    static NONCES: AtomicU64 = AtomicU64::new(1);
    let nonce = Arc::new(|| NONCES.fetch_add(1, Ordering::Relaxed));
    Broker::start(store, config, nonce, clock).await.unwrap()
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The data of the agent's own events, in order.
pub(crate) fn agent_data(events: &[TurnEvent]) -> Vec<String> {
    let text = |event: &TurnEvent| match event {
        TurnEvent::Agent { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

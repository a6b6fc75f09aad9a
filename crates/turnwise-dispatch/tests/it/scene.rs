//! A node with one slot, at a store that fails on request and on a clock that
//! can jump; other nodes at the same store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use turnwise_broker::{Broker, BrokerConfig, Turn, TurnEvent};
use turnwise_core::{Kind, MessageId, Name, Read, ReadFrom, Store, Timestamp};
use turnwise_mock::{AgentConfig, CallOutcome};
use turnwise_store::memory::MemoryStore;
use turnwise_store::{Clock, system_clock};
use turnwise_testkit::faulty::FaultyStore;

use crate::{ORG, Stage, start_broker};

/// Short, so that a lost one is soon noticed.
pub(crate) const SHORT_LEASE: Duration = Duration::from_millis(1_500);
/// As in production.
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(20);

pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) store: Arc<FaultyStore>,
    clock: Clock,
    jumped: Arc<AtomicI64>,
    config: BrokerConfig,
}

impl Scene {
    pub(crate) async fn new(turn_lease: Duration) -> Scene {
        let (jumped, real) = (Arc::new(AtomicI64::new(0)), system_clock());
        let offset = Arc::clone(&jumped);
        let clock: Clock = Arc::new(move || Timestamp(real().0 + offset.load(Ordering::SeqCst)));
        let store = FaultyStore::new(MemoryStore::new(Arc::clone(&clock)));
        let config =
            BrokerConfig { turn_lease, poll_interval: Duration::from_millis(20), ..BrokerConfig::default() };
        let shared: Arc<dyn Store> = store.clone();
        let mut stage = Stage::on(shared, Arc::clone(&clock), AgentConfig::default(), config.clone()).await;
        stage.config.timeout = Duration::from_secs(30);
        stage.config.concurrency = 1;
        stage.start();
        Scene { stage, store, clock, jumped, config }
    }

    /// Another node at the same store, without the first one's faults.
    pub(crate) async fn other_node(&self) -> Broker {
        start_broker(Arc::clone(self.store.inner()), Arc::clone(&self.clock), self.config.clone()).await
    }

    /// Every lease of this moment is over, on the clock of the store.
    pub(crate) fn jump(&self) {
        let micros = i64::try_from(self.config.turn_lease.as_micros()).unwrap();
        self.jumped.fetch_add(micros * 2, Ordering::SeqCst);
    }

    /// Attempt and outcome of every call of a turn, as the agent saw them.
    pub(crate) fn calls(&self, id: MessageId) -> Vec<(u32, Option<CallOutcome>)> {
        let calls = self.stage.agent.journal().calls();
        let of = calls.iter().filter(|call| call.message_id == id.to_string());
        of.map(|call| (call.attempt, call.outcome)).collect()
    }

    /// Types of all events the store has of a turn.
    pub(crate) async fn written(&self, id: MessageId) -> Vec<String> {
        let topic = Name::new(ORG, Kind::Reply, &format!("{:016x}", id.nonce())).unwrap();
        match self.store.inner().read(&topic, ReadFrom::Earliest, 10_000).await.unwrap() {
            Read::Events { events, .. } => events.into_iter().map(|event| event.event_type).collect(),
            Read::Gap { .. } => panic!("nothing is trimmed here"),
        }
    }

    /// Waits until the store has so many events of a turn.
    pub(crate) async fn until_written(&self, id: MessageId, count: usize) {
        let written = async {
            while self.written(id).await.len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("events are stored");
    }

    /// No conversation had two calls at once, and readers see exactly one end.
    pub(crate) async fn is_sound(&self, user: &str, id: MessageId) {
        assert_eq!(self.stage.agent.journal().stats().overlaps, 0);
        let events = self.stage.events(user, id).await;
        let is_end = |event: &&TurnEvent| {
            matches!(event, TurnEvent::Done { .. } | TurnEvent::Error { .. } | TurnEvent::Cancelled { .. })
        };
        assert_eq!(events.iter().filter(is_end).count(), 1, "{events:?}");
        assert!(events.last().is_some_and(|last| is_end(&last)), "{events:?}");
        let ends = ["turn.done", "turn.error", "turn.cancelled"];
        let written = self.written(id).await;
        assert_eq!(written.iter().filter(|name| ends.contains(&name.as_str())).count(), 1, "{written:?}");
    }
}

/// The next turn of a broker that no dispatcher works for.
pub(crate) async fn claim(broker: &Broker) -> Turn {
    loop {
        if let Some(turn) = broker.claim_turns(1).await.unwrap().pop() {
            return turn;
        }
        broker.wake().await;
    }
}

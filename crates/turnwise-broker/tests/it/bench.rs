//! A broker over a memory store, on a clock that moves when told to.

use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use turnwise_broker::*;
use turnwise_core::{MessageId, Store, Timestamp};
use turnwise_store::memory::MemoryStore;
use turnwise_testkit::faulty::FaultyStore;

pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) store: Arc<FaultyStore>,
    clock: Arc<AtomicI64>,
    config: BrokerConfig,
}

/// Goes on over restarts: a nonce is never drawn twice.
static NONCES: AtomicU64 = AtomicU64::new(1);

pub(crate) const LEASE: Duration = Duration::from_secs(20);

impl Bench {
    pub(crate) async fn new() -> Bench {
        Bench::with(BrokerConfig::default()).await
    }

    pub(crate) async fn with(config: BrokerConfig) -> Bench {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let hand = Arc::clone(&clock);
        let read = move || Timestamp(hand.fetch_add(1, Ordering::SeqCst));
        let inner: Arc<dyn Store> = MemoryStore::new(Arc::new(read));
        let store = FaultyStore::deaf(inner);
        let broker = start(&store, &clock, &config).await;
        Bench { broker, store, clock, config }
    }

    /// The same store under a new broker, as after a restart: leases of the
    /// former one are left to lapse.
    pub(crate) async fn restart(&mut self) {
        self.broker = start(&self.store, &self.clock, &self.config).await;
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) async fn send(&self, user: &str, text: &str) -> Submitted {
        self.broker.submit(submission("acme", user, text)).await.unwrap()
    }

    /// Claims after letting a poll come due.
    pub(crate) async fn claim(&self) -> Vec<Turn> {
        self.pass(self.config.poll_interval);
        self.broker.claim_turns(10).await.unwrap()
    }

    pub(crate) async fn claim_one(&self) -> Turn {
        let mut turns = self.claim().await;
        assert_eq!(turns.len(), 1, "one turn to claim");
        turns.pop().unwrap()
    }

    pub(crate) async fn answer(&self, turn: &Turn, text: &str) {
        let answer = Some(Bytes::from(format!("{{\"responses\":[\"{text}\"]}}")));
        self.broker.finish(turn, TurnOutcome::Completed { answer, unsaved: Vec::new() }).await.unwrap();
    }

    pub(crate) async fn read(&self, id: MessageId, after: Option<StreamPosition>) -> Vec<TurnEvent> {
        let stream =
            self.broker.follow(&OrgScope::All, "ann", id, after).await.unwrap().events().expect("known");
        stream.map(|event| event.unwrap()).collect().await
    }

    pub(crate) async fn end(&self, id: MessageId) -> TurnEnd {
        self.broker.wait_end("acme", id).await.unwrap()
    }

    pub(crate) async fn view(&self, id: MessageId) -> TurnView {
        self.broker.turn(&OrgScope::All, id).await.unwrap().expect("known")
    }
}

async fn start(store: &Arc<FaultyStore>, clock: &Arc<AtomicI64>, config: &BrokerConfig) -> Broker {
    let nonce = || NONCES.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).rotate_left(23);
    let hand = Arc::clone(clock);
    let read = move || Timestamp(hand.fetch_add(1, Ordering::SeqCst));
    Broker::start(Arc::clone(store) as Arc<dyn Store>, config.clone(), Arc::new(nonce), Arc::new(read))
        .await
        .unwrap()
}

pub(crate) fn submission(org: &str, user: &str, text: &str) -> Submission {
    Submission {
        org: org.into(),
        user: user.into(),
        client: "web".into(),
        conversation: Conversation::User { user: user.into() },
        client_message_id: None,
        request: Bytes::from(text.to_owned()),
        prefer_stream: false,
        traceparent: None,
        callback: None,
        redrive_of: None,
    }
}

pub(crate) fn event(text: &str) -> AgentEvent {
    AgentEvent { name: None, data: Bytes::from(format!("{{\"text\":\"{text}\"}}")) }
}

/// What a reader sees, in short.
pub(crate) fn names(events: &[TurnEvent]) -> Vec<String> {
    let name = |event: &TurnEvent| match event {
        TurnEvent::Queued => "queued".to_owned(),
        TurnEvent::Processing { position: None } => "processing (early)".to_owned(),
        TurnEvent::Processing { position: Some(_) } => "processing".to_owned(),
        TurnEvent::Agent { data, .. } => String::from_utf8_lossy(data).into_owned(),
        TurnEvent::Done { .. } => "done".to_owned(),
        TurnEvent::Error { error, .. } => format!("error {}", error.code),
        TurnEvent::Cancelled { .. } => "cancelled".to_owned(),
        TurnEvent::Position { place } => format!("position {place}"),
        TurnEvent::Gap { .. } => "gap".to_owned(),
    };
    events.iter().map(name).collect()
}

pub(crate) fn position(event: &TurnEvent) -> Option<StreamPosition> {
    match event {
        TurnEvent::Processing { position } => *position,
        TurnEvent::Agent { position, .. }
        | TurnEvent::Done { position }
        | TurnEvent::Error { position, .. }
        | TurnEvent::Cancelled { position } => Some(*position),
        TurnEvent::Queued | TurnEvent::Position { .. } | TurnEvent::Gap { .. } => None,
    }
}

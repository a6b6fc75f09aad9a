//! One store under test with short words for what clauses do again and again.

use crate::clock::ManualClock;
use crate::harness::Harness;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Event, Kind, MessageId, MessageInfo, Name, NewEvent,
    NewMessage, OrderingKey, Outcome, QueueName, Read, ReadFrom, Receipt, Settled, Settlement, Stage, Store,
    StoreError, TopicName,
};

/// The lease of [`Trial::claim`].
pub const LEASE: Duration = Duration::from_secs(30);
/// Rows asked for where a clause wants all of them.
pub const PAGE: u32 = 1_000;

/// A clause that does not hold, and how.
#[derive(Clone, Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Broken {
        Broken(format!("the store answered an error: {error}"))
    }
}

/// Whether a clause holds.
pub type Verdict = Result<(), Broken>;

/// What running a clause on one engine told.
#[derive(Clone, Debug)]
pub enum Ran {
    /// It ran, and it holds.
    Holds,
    /// It ran, and it does not hold.
    Broken(Broken),
    /// It did not run on this engine, and why not. That proves nothing.
    NotRun(&'static str),
}

impl From<Verdict> for Ran {
    fn from(verdict: Verdict) -> Ran {
        match verdict {
            Ok(()) => Ran::Holds,
            Err(broken) => Ran::Broken(broken),
        }
    }
}

/// Ends the clause unless the condition holds.
#[macro_export]
macro_rules! hold {
    ($cond:expr, $($arg:tt)+) => {
        if !$cond {
            return Err($crate::Broken(format!($($arg)+)));
        }
    };
}

/// Ends the clause unless both sides are equal.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr, $($arg:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    return Err($crate::Broken(format!(
                        "{}: {left:?} instead of {right:?}", format_args!($($arg)+)
                    )));
                }
            }
        }
    };
}

/// The public queue of this name.
#[must_use]
pub fn queue(name: &str) -> QueueName {
    Name::new("acme", Kind::Public, name).expect("test names are short and plain")
}

/// The public topic of this name.
#[must_use]
pub fn topic(name: &str) -> TopicName {
    queue(name)
}

/// A message; an empty key stands for none.
#[must_use]
pub fn message(queue: &QueueName, key: &str, text: &str) -> NewMessage {
    let key = (!key.is_empty()).then(|| OrderingKey(key.to_owned().into()));
    NewMessage { key, nonce: 7, ..NewMessage::new(queue.clone(), text.to_owned()) }
}

/// An event without extras.
#[must_use]
pub fn event(topic: &TopicName, text: &str) -> NewEvent {
    NewEvent {
        topic: topic.clone(),
        event_type: "note".into(),
        data: text.to_owned().into(),
        dedup: None,
        keep_until: None,
    }
}

/// The effect of publishing a text.
#[must_use]
pub fn publish(topic: &TopicName, text: &str) -> Effect {
    Effect::Publish(event(topic, text))
}

/// A retry with its reason.
#[must_use]
pub fn retry(delay: Duration, reason: &str) -> Outcome {
    Outcome::Retry { delay, reason: reason.into() }
}

/// A length of time in seconds.
#[must_use]
pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The payload as text.
#[must_use]
pub fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

/// The payloads as texts.
#[must_use]
pub fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.payload)).collect()
}

/// The texts of events.
#[must_use]
pub fn notes(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| text(&event.data)).collect()
}

/// One store under test.
pub struct Trial<'a> {
    /// The engine.
    pub harness: &'a dyn Harness,
    /// The store as it is now.
    pub store: Arc<dyn Store>,
    /// Its clock.
    pub clock: &'a ManualClock,
}

impl<'a> Trial<'a> {
    /// A trial on a fresh store.
    pub async fn new(harness: &'a dyn Harness) -> Trial<'a> {
        Trial { harness, store: harness.open().await, clock: harness.clock() }
    }

    /// Crashes the store and opens it again, where the engine is durable.
    pub async fn crash(&mut self) {
        if self.harness.durable() {
            self.store = self.harness.crash_and_reopen(self.store.clone()).await;
        }
    }

    /// Stores one message.
    pub async fn enqueue(&self, message: NewMessage) -> Result<Enqueued, Broken> {
        let mut answers = self.store.enqueue(vec![message]).await?;
        same!(answers.len(), 1, "answers to a batch of one");
        Ok(answers.remove(0)?)
    }

    /// Stores one message that must be new.
    pub async fn put_message(&self, message: NewMessage) -> Result<MessageId, Broken> {
        match self.enqueue(message).await? {
            Enqueued::New { id, .. } => Ok(id),
            other => Err(Broken(format!("a new message was answered {other:?}"))),
        }
    }

    /// Stores one plain message that must be new.
    pub async fn put(&self, queue: &QueueName, key: &str, text: &str) -> Result<MessageId, Broken> {
        self.put_message(message(queue, key, text)).await
    }

    /// Leases for [`LEASE`], durable.
    pub async fn claim(&self, queue: &QueueName, limit: u32) -> Result<Vec<Delivery>, Broken> {
        let claim = Claim { queue: queue.clone(), limit, lease: LEASE, durable: true };
        let deliveries = self.store.claim(claim).await?;
        hold!(deliveries.len() <= limit as usize, "a claim of {limit} got {}", deliveries.len());
        Ok(deliveries)
    }

    /// Leases one message that must be there.
    pub async fn take(&self, queue: &QueueName) -> Result<Delivery, Broken> {
        let mut deliveries = self.claim(queue, 1).await?;
        hold!(!deliveries.is_empty(), "nothing to claim from {queue:?}");
        Ok(deliveries.remove(0))
    }

    /// Leases one message that must be the one with this text.
    pub async fn expect(&self, queue: &QueueName, text: &str) -> Result<Delivery, Broken> {
        let delivery = self.take(queue).await?;
        same!(crate::trial::text(&delivery.payload), text, "the message handed out");
        Ok(delivery)
    }

    /// Fails if anything can be claimed.
    pub async fn expect_none(&self, queue: &QueueName, when: &str) -> Verdict {
        let deliveries = self.claim(queue, PAGE).await?;
        hold!(deliveries.is_empty(), "{when}: {:?} was handed out", texts(&deliveries));
        Ok(())
    }

    /// Ends one lease with effects.
    pub async fn settle_with(
        &self,
        receipt: &Receipt,
        outcome: Outcome,
        effects: Vec<Effect>,
    ) -> Result<Settled, Broken> {
        let settlement = Settlement { receipt: receipt.clone(), outcome, effects };
        let mut answers = self.store.settle(vec![settlement]).await?;
        same!(answers.len(), 1, "answers to a batch of one");
        Ok(answers.remove(0)?)
    }

    /// Ends one live lease.
    pub async fn settle(&self, delivery: &Delivery, outcome: Outcome) -> Verdict {
        let settled = self.settle_with(&delivery.receipt, outcome, Vec::new()).await?;
        same!(settled, Settled::Done, "settling a live lease");
        Ok(())
    }

    /// Acknowledges one live lease.
    pub async fn ack(&self, delivery: &Delivery) -> Verdict {
        self.settle(delivery, Outcome::Ack).await
    }

    /// What is known about one message.
    pub async fn get(&self, queue: &QueueName, id: MessageId) -> Result<Option<MessageInfo>, Broken> {
        let mut found = self.store.get(queue, vec![id]).await?;
        same!(found.len(), 1, "answers to a get of one");
        Ok(found.remove(0))
    }

    /// What is known about one message that must be there.
    pub async fn info(&self, queue: &QueueName, id: MessageId) -> Result<MessageInfo, Broken> {
        self.get(queue, id).await?.ok_or_else(|| Broken(format!("{id} is not there")))
    }

    /// Sweeps until nothing is left.
    pub async fn sweep(&self) -> Verdict {
        for _ in 0..10_000 {
            if self.store.sweep(PAGE).await? == 0 {
                return Ok(());
            }
        }
        Err(Broken("sweep never answers 0".into()))
    }

    /// Every message of one stage.
    pub async fn list(&self, queue: &QueueName, stage: Stage) -> Result<Vec<MessageInfo>, Broken> {
        let mut all: Vec<MessageInfo> = Vec::new();
        loop {
            let after = all.last().map(|info| info.id);
            let page = self.store.list(queue, stage, after, PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            hold!(all.len() < 1_000_000, "list never ends");
            all.extend(page);
        }
    }

    /// Sweeps, then fails unless the counters of a queue agree with a full count.
    pub async fn conserve(&self, queue: &QueueName) -> Result<Depth, Broken> {
        self.sweep().await?;
        let depth = self.store.depth(queue).await?;
        let mut counted = Vec::new();
        for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
            counted.push(self.list(queue, stage).await?.len() as u64);
        }
        let told = vec![depth.scheduled, depth.ready, depth.leased, depth.dead];
        same!(told, counted, "depth against a full count (scheduled, ready, leased, dead)");
        let kept: u64 = counted.iter().sum();
        let ended = depth.acked + depth.removed + depth.expired;
        same!(depth.enqueued, ended + kept, "enqueued = ended + kept in {depth:?}");
        Ok(depth)
    }

    /// All events of a topic, from the oldest kept.
    pub async fn events(&self, topic: &TopicName) -> Result<Vec<Event>, Broken> {
        match self.store.read(topic, ReadFrom::Earliest, PAGE).await? {
            Read::Events { events, .. } => Ok(events),
            Read::Gap { resume } => {
                Err(Broken(format!("reading from the oldest answers a gap to {resume:?}")))
            }
        }
    }

    /// The texts of all events of a topic.
    pub async fn notes(&self, topic: &TopicName) -> Result<Vec<String>, Broken> {
        Ok(notes(&self.events(topic).await?))
    }
}

//! Whether the store does what everything here rests on: each node asks it, writes and reads, hears of what it wrote,
//! and passes a message through a queue, and remembers how long that took.

use crate::broker::Broker;
use crate::limits::{
    CHECK_AGAIN, CHECK_DEGRADED, CHECK_INTERVAL, CHECK_PATIENCE, CHECK_UNHEALTHY, CHECKS_KEPT, PROBES_KEPT,
};
use crate::submit::one;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use turnwise_core::{
    Claim, Kind, Name, NewEvent, NewMessage, Offset, Outcome, Position, QueueName, Read, ReadFrom,
    Settlement, StoreError, TopicFilter, TopicName,
};
use turnwise_metrics::Page;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The store answers.
    Ping,
    /// An event that was stored is read again.
    WriteRead,
    /// A reader that waits hears of an event and reads it.
    PubSub,
    /// A message is stored, handed out and acknowledged.
    Queue,
}

impl CheckKind {
    /// All of them.
    pub const ALL: [CheckKind; 4] =
        [CheckKind::Ping, CheckKind::WriteRead, CheckKind::PubSub, CheckKind::Queue];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckKind::Ping => "ping",
            CheckKind::WriteRead => "write_read",
            CheckKind::PubSub => "pub_sub",
            CheckKind::Queue => "queue",
        }
    }

    /// Whether a node can work while it fails: a hint that does not come makes readers slower, never wrong.
    fn is_needed(self) -> bool {
        self != CheckKind::PubSub
    }
}

/// How it went last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It was not looked at yet.
    Unknown,
    /// Well, and within 50 ms.
    Healthy,
    /// Well, but slower than that.
    Degraded,
    /// It failed, or took more than 200 ms.
    Unhealthy,
}

/// One check over its last 100 times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckView {
    /// Which.
    pub kind: CheckKind,
    /// How it went last.
    pub state: CheckState,
    /// How long it took last, if it did not fail.
    pub last: Option<Duration>,
    /// Of those that did not fail.
    pub average: Option<Duration>,
    /// The quickest of them.
    pub min: Option<Duration>,
    /// The slowest of them.
    pub max: Option<Duration>,
    /// How many there are.
    pub measured: usize,
    /// How many of these failed.
    pub failed: usize,
}

/// The last times of each.
#[derive(Default)]
pub(crate) struct Checks {
    times: Mutex<[VecDeque<Option<Duration>>; CheckKind::ALL.len()]>,
}

impl Checks {
    fn note(&self, took: [Option<Duration>; CheckKind::ALL.len()]) {
        for (times, took) in self.times.lock().iter_mut().zip(took) {
            if times.len() == CHECKS_KEPT {
                times.pop_front();
            }
            times.push_back(took);
        }
    }

    fn views(&self) -> [CheckView; CheckKind::ALL.len()] {
        let all = self.times.lock();
        let mut kinds = CheckKind::ALL.iter();
        all.each_ref().map(|times| {
            let kind = kinds.next().copied().unwrap_or(CheckKind::Ping);
            view(kind, times)
        })
    }

    /// The check that makes a node unfit for work: it was tried, and failed.
    pub(crate) fn failed(&self) -> Option<CheckKind> {
        let all = self.times.lock();
        let mut last = CheckKind::ALL.into_iter().zip(all.iter().map(VecDeque::back));
        last.find(|(kind, last)| kind.is_needed() && *last == Some(&None)).map(|(kind, _)| kind)
    }

    pub(crate) fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let views = self.views();
        let tell = |of: fn(&CheckView) -> f64| views.each_ref().map(|view| (view.kind.name(), of(view)));
        let seconds = tell(|view| view.last.unwrap_or_default().as_secs_f64());
        let help = "Time that a check of the store took last; 0 if it failed.";
        page.gauges("turnwise_check_seconds", help, "check", &seconds)?;
        let healthy = tell(|view| f64::from(u8::from(view.state == CheckState::Healthy)));
        page.gauges("turnwise_check_healthy", "1 if it went well within 50 ms.", "check", &healthy)
    }
}

fn view(kind: CheckKind, times: &VecDeque<Option<Duration>>) -> CheckView {
    let well: Vec<Duration> = times.iter().flatten().copied().collect();
    let state = match times.back() {
        None => CheckState::Unknown,
        Some(Some(took)) if *took <= CHECK_DEGRADED => CheckState::Healthy,
        Some(Some(took)) if *took <= CHECK_UNHEALTHY => CheckState::Degraded,
        Some(_) => CheckState::Unhealthy,
    };
    let count = u32::try_from(well.len()).unwrap_or(u32::MAX);
    CheckView {
        kind,
        state,
        last: times.back().copied().flatten(),
        average: well.iter().sum::<Duration>().checked_div(count),
        min: well.iter().min().copied(),
        max: well.iter().max().copied(),
        measured: times.len(),
        failed: times.len() - well.len(),
    }
}

/// What the checks write to. All nodes share it, and none needs to find its own.
struct Places {
    topic: TopicName,
    queue: QueueName,
}

impl Broker {
    /// How the checks of the store went; from memory.
    #[must_use]
    pub fn checks(&self) -> [CheckView; CheckKind::ALL.len()] {
        self.0.checks.views()
    }

    /// The check that failed last time and without which there is no work; `None` while all is well.
    #[must_use]
    pub fn failed_check(&self) -> Option<CheckKind> {
        self.0.checks.failed()
    }

    /// Checks the store each 30 s until `shutdown`; after a failure each second.
    pub async fn run_checks(&self, shutdown: CancellationToken) {
        let Ok(name) = Name::new("", Kind::Sys, "checks") else { return };
        let places = Places { topic: name.clone(), queue: name };
        let rounds = async {
            loop {
                let took = self.check(&places).await;
                self.0.checks.note(took);
                sleep(if took.contains(&None) { CHECK_AGAIN } else { CHECK_INTERVAL }).await;
            }
        };
        let _stopped = shutdown.run_until_cancelled(rounds).await;
    }

    async fn check(&self, places: &Places) -> [Option<Duration>; CheckKind::ALL.len()] {
        let ping = timed(CheckKind::Ping, self.ping(places)).await;
        let write_read = timed(CheckKind::WriteRead, self.write_and_read(places)).await;
        let pub_sub = timed(CheckKind::PubSub, self.publish_and_hear(places)).await;
        let queue = timed(CheckKind::Queue, self.through_queue(places)).await;
        [ping, write_read, pub_sub, queue]
    }

    async fn ping(&self, places: &Places) -> Result<(), StoreError> {
        self.0.store.depth(&places.queue).await.map(|_| ())
    }

    async fn write_and_read(&self, places: &Places) -> Result<(), StoreError> {
        let at = self.probe(places).await?;
        self.read_again(places, at).await?;
        let oldest = at.offset.0.saturating_sub(PROBES_KEPT);
        self.0.store.trim(&places.topic, Offset(oldest)).await
    }

    async fn publish_and_hear(&self, places: &Places) -> Result<(), StoreError> {
        let mut hints = self.0.store.watch(TopicFilter::One(places.topic.clone()));
        let at = self.probe(places).await?;
        if hints.next().await.is_none() {
            return Err(StoreError::Unavailable("hints about topics have ended".to_owned()));
        }
        self.read_again(places, at).await
    }

    /// Stores an event.
    async fn probe(&self, places: &Places) -> Result<Position, StoreError> {
        let event = NewEvent {
            topic: places.topic.clone(),
            event_type: "check".to_owned(),
            data: Bytes::new(),
            dedup: None,
            keep_until: None,
        };
        one(self.0.store.append(vec![event]).await?)?
    }

    /// It is there.
    async fn read_again(&self, places: &Places, at: Position) -> Result<(), StoreError> {
        let before = Position { offset: Offset(at.offset.0.saturating_sub(1)), ..at };
        match self.0.store.read(&places.topic, ReadFrom::After(before), 1).await? {
            Read::Events { events, .. } if events.first().is_some_and(|event| event.offset == at.offset) => {
                Ok(())
            }
            _ => Err(StoreError::Unavailable("an event is not read where it was stored".to_owned())),
        }
    }

    /// Any node's message will do: as many come out as went in.
    async fn through_queue(&self, places: &Places) -> Result<(), StoreError> {
        let store = &self.0.store;
        let now = self.0.now();
        let message = NewMessage {
            expires_at: Some(now.after(2 * CHECK_INTERVAL)),
            ..NewMessage::new(places.queue.clone(), Bytes::new())
        };
        one(store.enqueue(vec![message]).await?)??;
        loop {
            let claim = Claim { queue: places.queue.clone(), limit: 1, lease: CHECK_INTERVAL, durable: true };
            let handed_out = store.claim(claim).await?;
            let is_any = !handed_out.is_empty();
            let acks = handed_out.into_iter().map(|delivery| Settlement {
                receipt: delivery.receipt,
                outcome: Outcome::Ack,
                effects: Vec::new(),
            });
            if is_any {
                return store.settle(acks.collect()).await.map(|_| ());
            }
            sleep(self.0.config.poll_interval).await;
        }
    }
}

/// How long it took; `None` if it failed, or did not end in time.
async fn timed(kind: CheckKind, check: impl Future<Output = Result<(), StoreError>>) -> Option<Duration> {
    let started = Instant::now();
    match timeout(CHECK_PATIENCE, check).await {
        Ok(Ok(())) => Some(started.elapsed()),
        Ok(Err(error)) => {
            tracing::warn!(check = kind.name(), %error, "a check of the store failed");
            None
        }
        Err(_) => {
            tracing::warn!(check = kind.name(), "a check of the store did not end in time");
            None
        }
    }
}

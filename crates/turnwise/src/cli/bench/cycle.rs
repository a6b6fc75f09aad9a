//! Messages through the queue of a store: some store them, one after another, each in keys of its own; others are
//! handed them and acknowledge. Counts, times, and holds the order of every key against what it should be.

use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use turnwise_core::{Claim, Delivery, NewMessage, OrderingKey, Outcome, QueueName, Settlement, Store};

/// Bytes of every message.
pub(crate) const PAYLOAD_BYTES: usize = 512;
/// Keys of each producer, used in turn.
pub(crate) const KEYS_EACH: usize = 4;
/// Longer than any measurement holds a message.
const LEASE: Duration = Duration::from_secs(120);
/// A consumer that has nothing to do and hears of nothing looks again after this long.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time a histogram holds, in microseconds.
const MICROS_MAX: u64 = 120_000_000;

/// What is run.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) queue: QueueName,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    /// Messages that a consumer is handed at once, and acknowledges at once.
    pub(crate) batch: u32,
    /// For so long new messages are stored.
    pub(crate) length: Duration,
}

/// What came of it.
pub(crate) struct Cycled {
    pub(crate) count: u64,
    /// From the first message to the last acknowledgement.
    pub(crate) elapsed: Duration,
    /// Microseconds of each enqueue.
    pub(crate) enqueues: Histogram<u64>,
    /// Microseconds from before a message was stored until it was handed out.
    pub(crate) handed_out: Histogram<u64>,
}

impl Cycled {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Why it is no measurement.
type Wrong = String;

struct Shared {
    store: Arc<dyn Store>,
    plan: Plan,
    began: Instant,
    /// The number that the next message of each key has to have.
    expected: Vec<AtomicU32>,
    stored: AtomicU64,
    acked: AtomicU64,
    all_stored: AtomicBool,
}

/// Runs it to the end.
pub(crate) async fn run(store: Arc<dyn Store>, plan: Plan) -> Result<Cycled, Wrong> {
    let keys = plan.producers * KEYS_EACH;
    let (producers, consumers) = (plan.producers, plan.consumers);
    let shared = Arc::new(Shared {
        store,
        plan,
        began: Instant::now(),
        expected: (0..keys).map(|_| AtomicU32::new(0)).collect(),
        stored: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        all_stored: AtomicBool::new(false),
    });
    let (mut producing, mut consuming) = (JoinSet::new(), JoinSet::new());
    for producer in 0..producers {
        producing.spawn(Arc::clone(&shared).produce(producer));
    }
    for _ in 0..consumers {
        consuming.spawn(Arc::clone(&shared).consume());
    }
    let enqueues = joined(producing).await?;
    shared.all_stored.store(true, Ordering::Release);
    let handed_out = joined(consuming).await?;
    let elapsed = shared.began.elapsed();
    Ok(Cycled { count: shared.acked.load(Ordering::Acquire), elapsed, enqueues, handed_out })
}

async fn joined(mut tasks: JoinSet<Result<Histogram<u64>, Wrong>>) -> Result<Histogram<u64>, Wrong> {
    let mut all = histogram();
    while let Some(ended) = tasks.join_next().await {
        let times = ended.map_err(|error| error.to_string())??;
        all.add(&times).map_err(|error| error.to_string())?;
    }
    Ok(all)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MICROS_MAX, 3).expect("the bounds are fixed and right")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX)
}

impl Shared {
    fn message(&self, key: usize, number: u32) -> NewMessage {
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        payload.extend_from_slice(&micros(self.began.elapsed()).to_be_bytes());
        payload.extend_from_slice(&(key as u64).to_be_bytes());
        payload.extend_from_slice(&number.to_be_bytes());
        payload.resize(PAYLOAD_BYTES, b'x');
        NewMessage {
            key: Some(OrderingKey(format!("key-{key}").into())),
            ..NewMessage::new(self.plan.queue.clone(), payload)
        }
    }

    async fn produce(self: Arc<Shared>, producer: usize) -> Result<Histogram<u64>, Wrong> {
        let mut times = histogram();
        let mut numbers = [0_u32; KEYS_EACH];
        while self.began.elapsed() < self.plan.length {
            for (at, number) in numbers.iter_mut().enumerate() {
                let message = self.message(producer * KEYS_EACH + at, *number);
                *number += 1;
                let asked = Instant::now();
                let answers = self.store.enqueue(vec![message]).await.map_err(|error| error.to_string())?;
                answers.into_iter().try_for_each(|answer| answer.map(|_| ())).map_err(|e| e.to_string())?;
                times.saturating_record(micros(asked.elapsed()));
                self.stored.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(times)
    }

    fn is_over(&self) -> bool {
        self.all_stored.load(Ordering::Acquire)
            && self.acked.load(Ordering::Acquire) >= self.stored.load(Ordering::Acquire)
    }

    async fn consume(self: Arc<Shared>) -> Result<Histogram<u64>, Wrong> {
        let mut times = histogram();
        let mut wakeups = self.store.wakeups();
        while !self.is_over() {
            let queue = self.plan.queue.clone();
            let claim = Claim { queue, limit: self.plan.batch, lease: LEASE, durable: true };
            let deliveries = self.store.claim(claim).await.map_err(|error| error.to_string())?;
            if deliveries.is_empty() {
                let _ = tokio::time::timeout(LOOK, wakeups.next()).await;
                continue;
            }
            let now = micros(self.began.elapsed());
            for delivery in &deliveries {
                let stored = self.check(delivery).ok_or("a message came twice or out of order")?;
                times.saturating_record(now.saturating_sub(stored));
            }
            let count = deliveries.len() as u64;
            let acks = deliveries.into_iter().map(|delivery| Settlement {
                receipt: delivery.receipt,
                outcome: Outcome::Ack,
                effects: Vec::new(),
            });
            self.store.settle(acks.collect()).await.map_err(|error| error.to_string())?;
            self.acked.fetch_add(count, Ordering::AcqRel);
        }
        Ok(times)
    }

    /// When a message was stored, if it is the next one of its key.
    fn check(&self, delivery: &Delivery) -> Option<u64> {
        let (stored, rest) = delivery.payload.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let key = usize::try_from(u64::from_be_bytes(*key)).ok()?;
        let number = u32::from_be_bytes(*number);
        let expected = self.expected.get(key)?;
        expected
            .compare_exchange(number, number + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then(|| u64::from_be_bytes(*stored))
    }
}

//! Messages through a queue: some store them, one after another, each in keys of its own; others are handed them and
//! acknowledge. Counts, times, and holds the order of every key against what it should be.

use hdrhistogram::Histogram;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of every message: a JSON text of digits and filling.
pub(crate) const PAYLOAD_BYTES: usize = 512;
/// Keys of each producer, used in turn.
pub(crate) const KEYS_EACH: usize = 4;
/// Longer than any measurement holds a message.
pub(crate) const LEASE: Duration = Duration::from_secs(120);
/// A consumer that has nothing to do and hears of nothing looks again after this long.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// Longest time a histogram holds, in microseconds.
const MICROS_MAX: u64 = 120_000_000;
/// Digits of each number in a message.
const DIGITS: usize = 16;

/// Payloads, each with the proof that it was handed out.
pub(crate) type HandedOut<R> = Vec<(Vec<u8>, R)>;

/// One producer's or consumer's way to the queue.
pub(crate) trait Way: Send + 'static {
    /// Proves that a message was handed out.
    type Receipt: Send;

    /// Stores messages, each of a key or without one.
    fn enqueue(
        &mut self,
        messages: Vec<(Option<String>, String)>,
    ) -> impl Future<Output = Result<(), Wrong>> + Send;

    /// Is handed up to so many; waits a little when there are none.
    fn claim(&mut self, limit: u32) -> impl Future<Output = Result<HandedOut<Self::Receipt>, Wrong>> + Send;

    /// They are done.
    fn ack(&mut self, receipts: Vec<Self::Receipt>) -> impl Future<Output = Result<(), Wrong>> + Send;
}

/// What is run.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    /// Messages of a key are handed out one after another; without keys only that each comes once is held against what
    /// should be.
    pub(crate) keyed: bool,
    /// Messages that a producer stores at once.
    pub(crate) together: usize,
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
pub(crate) type Wrong = String;

/// Of one key.
#[derive(Default)]
struct Seen {
    /// All below this one were.
    below: u32,
    /// And these.
    beyond: BTreeSet<u32>,
}

impl Seen {
    /// False if it was handed out before.
    fn add(&mut self, number: u32) -> bool {
        let is_new = number >= self.below && self.beyond.insert(number);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
        is_new
    }
}

struct Shared {
    plan: Plan,
    began: Instant,
    /// The messages that were handed out, by key.
    seen: Vec<Mutex<Seen>>,
    stored: AtomicU64,
    acked: AtomicU64,
    all_stored: AtomicBool,
}

/// Runs it to the end.
pub(crate) async fn run<W: Way>(way: impl Fn() -> W, plan: Plan) -> Result<Cycled, Wrong> {
    let keys = plan.producers * KEYS_EACH;
    let (producers, consumers) = (plan.producers, plan.consumers);
    let shared = Arc::new(Shared {
        plan,
        began: Instant::now(),
        seen: (0..keys).map(|_| Mutex::default()).collect(),
        stored: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        all_stored: AtomicBool::new(false),
    });
    let (mut producing, mut consuming) = (JoinSet::new(), JoinSet::new());
    for producer in 0..producers {
        producing.spawn(Arc::clone(&shared).produce(producer, way()));
    }
    for _ in 0..consumers {
        consuming.spawn(Arc::clone(&shared).consume(way()));
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
    fn message(&self, key: usize, number: u32) -> (Option<String>, String) {
        let stored = micros(self.began.elapsed());
        let filling = PAYLOAD_BYTES - 2;
        let text = format!("{stored:0DIGITS$x}{key:0DIGITS$x}{number:0DIGITS$x}");
        (self.plan.keyed.then(|| format!("key-{key}")), format!("\"{text:x<filling$}\""))
    }

    async fn produce<W: Way>(
        self: Arc<Shared>,
        producer: usize,
        mut way: W,
    ) -> Result<Histogram<u64>, Wrong> {
        let mut times = histogram();
        let mut numbers = [0_u32; KEYS_EACH];
        let mut keys = (0..KEYS_EACH).cycle();
        while self.began.elapsed() < self.plan.length {
            let mut messages = Vec::with_capacity(self.plan.together);
            for at in keys.by_ref().take(self.plan.together) {
                if let Some(number) = numbers.get_mut(at) {
                    messages.push(self.message(producer * KEYS_EACH + at, *number));
                    *number += 1;
                }
            }
            let count = messages.len() as u64;
            let asked = Instant::now();
            way.enqueue(messages).await?;
            times.saturating_record(micros(asked.elapsed()));
            self.stored.fetch_add(count, Ordering::AcqRel);
        }
        Ok(times)
    }

    fn is_over(&self) -> bool {
        self.all_stored.load(Ordering::Acquire)
            && self.acked.load(Ordering::Acquire) >= self.stored.load(Ordering::Acquire)
    }

    async fn consume<W: Way>(self: Arc<Shared>, mut way: W) -> Result<Histogram<u64>, Wrong> {
        let mut times = histogram();
        while !self.is_over() {
            let handed_out = way.claim(self.plan.batch).await?;
            if handed_out.is_empty() {
                continue;
            }
            let now = micros(self.began.elapsed());
            let mut receipts = Vec::with_capacity(handed_out.len());
            for (payload, receipt) in handed_out {
                let stored = self.check(&payload).ok_or("a message came twice or out of order")?;
                times.saturating_record(now.saturating_sub(stored));
                receipts.push(receipt);
            }
            let count = receipts.len() as u64;
            way.ack(receipts).await?;
            self.acked.fetch_add(count, Ordering::AcqRel);
        }
        Ok(times)
    }

    /// When a message was stored, if it is the next one of its key.
    fn check(&self, payload: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(payload.strip_prefix(b"\"")?).ok()?;
        let number = |at: usize| u64::from_str_radix(text.get(at * DIGITS..(at + 1) * DIGITS)?, 16).ok();
        let key = usize::try_from(number(1)?).ok()?;
        let place = u32::try_from(number(2)?).ok()?;
        let mut seen = self.seen.get(key)?.lock().ok()?;
        let is_next = seen.below == place || !self.plan.keyed;
        (is_next && seen.add(place)).then(|| number(0))?
    }
}

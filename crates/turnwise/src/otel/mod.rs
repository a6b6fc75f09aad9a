//! Spans to an OpenTelemetry collector: kept in a bounded queue, sent in batches by a task of their own. Whoever hands
//! one in never waits; what finds no room, or cannot be delivered, is dropped and counted.

mod collector;
mod otlp;

use crate::failure::{Exit, Failure};
use crate::node::nonce;
use collector::Collector;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use turnwise_metrics::{Place, Span, Spans};

/// Spans that wait to be sent; more are dropped.
const WAITING_SPANS_MAX: usize = 4_096;
/// Spans in one request.
const BATCH_SPANS_MAX: usize = 512;
/// How long a batch waits for more.
const BATCH_TIME_MAX: Duration = Duration::from_secs(1);
/// What is left at the end has this time.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);
/// Failures are told at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// A span, and when it ended.
struct Ended {
    span: Span,
    at: Duration,
}

/// Where spans are handed in.
struct Queue {
    sender: Sender<Ended>,
    dropped: Arc<AtomicU64>,
}

impl Spans for Queue {
    fn below(&self, parent: Option<Place>) -> Place {
        let span = nonce().max(1);
        match parent {
            Some(parent) => Place { span, ..parent },
            None => {
                let trace = (u128::from(nonce()) << 64) | u128::from(nonce().max(1));
                Place { trace, span, flags: Place::SAMPLED }
            }
        }
    }

    fn ended(&self, span: Span) {
        if span.place.flags & Place::SAMPLED == 0 {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = now.saturating_sub(span.ended_ago);
        if self.sender.try_send(Ended { span, at }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends spans as long as it is not stopped.
pub(crate) struct Exporter {
    queue: Arc<Queue>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Exporter {
    /// Sends nothing yet: a collector that is away is no reason not to start.
    pub(crate) fn start(endpoint: &str) -> Result<Exporter, Failure> {
        let collector = Collector::new(endpoint).map_err(|detail| {
            Failure::new(Exit::Usage, "telemetry.otlp_endpoint cannot be used", detail)
                .hint("set OTEL_EXPORTER_OTLP_ENDPOINT, for example to http://localhost:4318")
        })?;
        let (sender, receiver) = mpsc::channel(WAITING_SPANS_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let queue = Arc::new(Queue { sender, dropped: Arc::clone(&dropped) });
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(export(collector, receiver, dropped, stop.clone()));
        Ok(Exporter { queue, stop, task })
    }

    /// Where to hand them in.
    pub(crate) fn spans(&self) -> Arc<dyn Spans> {
        Arc::clone(&self.queue) as Arc<dyn Spans>
    }

    /// Sends what waits, within its time.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if timeout(FLUSH_TIME_MAX, self.task.join_next()).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
            self.task.shutdown().await;
        }
    }
}

async fn export(
    collector: Collector,
    mut receiver: Receiver<Ended>,
    dropped: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
    let mut complained: Option<Instant> = None;
    let mut open = true;
    while open {
        open = fill(&mut batch, &mut receiver, &stop).await;
        if batch.is_empty() {
            continue;
        }
        let sent = collector.send(otlp::request(&batch)).await;
        if sent.is_err() {
            dropped.fetch_add(u64::try_from(batch.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        batch.clear();
        let lost = dropped.load(Ordering::Relaxed);
        if lost > 0 && complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
            complained = Some(Instant::now());
            dropped.fetch_sub(lost, Ordering::Relaxed);
            let why = sent.err().unwrap_or_else(|| "the collector was too slow".into());
            tracing::warn!(lost, why, "spans were lost");
        }
    }
    collector.close().await;
}

/// Fills a batch until it is full or has waited long enough. Answers whether more may come.
async fn fill(batch: &mut Vec<Ended>, receiver: &mut Receiver<Ended>, stop: &CancellationToken) -> bool {
    let mut due: Option<Instant> = None;
    while batch.len() < BATCH_SPANS_MAX {
        let room = BATCH_SPANS_MAX - batch.len();
        let waited = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled(), if !receiver.is_closed() => receiver.close(),
            () = waited => return true,
            got = receiver.recv_many(batch, room) => {
                if got == 0 {
                    return false;
                }
                due.get_or_insert_with(|| Instant::now() + BATCH_TIME_MAX);
            }
        }
    }
    true
}

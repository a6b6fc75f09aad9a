//! Closed loops: every client sends its next request when the last one was
//! answered. Counts and times them.

use crate::failure::{Exit, Failure};
use hdrhistogram::Histogram;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use turnwise_mock::Conn;

/// Bytes of every message.
pub(crate) const MESSAGE_BYTES: usize = 512;
/// Run and thrown away before each measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// Messages of one conversation in the async loops, below its depth limit.
const PER_CONVERSATION: u64 = 40;
/// Longest time a histogram holds, in microseconds.
const MICROS_MAX: u64 = 120_000_000;

/// What is asked of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent itself.
    Direct,
    /// A turn that is answered in the request.
    Sync,
    /// A turn that is accepted at once.
    Async,
}

/// Answers counted and timed.
pub(crate) struct Measured {
    /// Answers.
    pub(crate) count: u64,
    /// How long was measured.
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) times: Histogram<u64>,
}

impl Measured {
    fn empty() -> Measured {
        Measured { count: 0, elapsed: Duration::ZERO, times: histogram() }
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Milliseconds at a quantile.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        millis(&self.times, quantile)
    }
}

/// An empty histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MICROS_MAX, 3).expect("the bounds are fixed and right")
}

/// Milliseconds at a quantile.
pub(crate) fn millis(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1_000.0
}

/// Notes a time.
pub(crate) fn note(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX));
}

/// The text of every message.
pub(crate) fn text() -> String {
    "x".repeat(MESSAGE_BYTES)
}

/// Runs `clients` loops for `seconds`.
pub(crate) async fn closed_loop(
    kind: Kind,
    url: &str,
    clients: usize,
    seconds: Duration,
    name: &str,
) -> Result<Measured, Failure> {
    let started = Instant::now() + WARM_UP;
    let mut loops = JoinSet::new();
    for client in 0..clients {
        let worker = Worker::new(kind, url, format!("{name}-{client}"));
        loops.spawn(worker.run(started, started + seconds));
    }
    let measured = joined(loops).await?;
    if measured.count == 0 {
        let detail =
            format!("Nobody got an answer that was asked for within {seconds:?}: measure for longer.");
        return Err(Failure::new(Exit::Failure, "there is nothing to measure", detail));
    }
    Ok(measured)
}

/// Runs `clients` that ask once each `period`, evenly spread.
pub(crate) async fn paced(
    kind: Kind,
    url: &str,
    name: &str,
    clients: usize,
    period: Duration,
    until: Instant,
) -> Result<Measured, Failure> {
    paced_by(|client| Worker::of(kind, url, name, client), clients, period, until).await
}

/// The same with clients of any kind.
pub(crate) async fn paced_by(
    worker: impl Fn(usize) -> Worker,
    clients: usize,
    period: Duration,
    until: Instant,
) -> Result<Measured, Failure> {
    let mut loops = JoinSet::new();
    for client in 0..clients {
        let worker = worker(client);
        let begin = Instant::now() + period.mul_f64(client as f64 / clients.max(1) as f64);
        loops.spawn(async move {
            tokio::time::sleep_until(begin.into()).await;
            worker.run_paced(period, until).await
        });
    }
    joined(loops).await
}

async fn joined(mut loops: JoinSet<Result<Measured, Failure>>) -> Result<Measured, Failure> {
    let mut all = Measured::empty();
    while let Some(ended) = loops.join_next().await {
        let one =
            ended.map_err(|error| Failure::new(Exit::Failure, "a client broke", error.to_string()))??;
        all.count += one.count;
        all.elapsed = all.elapsed.max(one.elapsed);
        all.times += &one.times;
    }
    Ok(all)
}

/// One client.
pub(crate) struct Worker {
    kind: Kind,
    conn: Conn,
    name: String,
    org: &'static str,
    hook: Option<String>,
    rotates: bool,
    text: String,
    sent: u64,
}

impl Worker {
    pub(crate) fn new(kind: Kind, url: &str, name: String) -> Worker {
        let conn = Conn::new(url);
        Worker { kind, conn, name, org: "bench", hook: None, rotates: false, text: text(), sent: 0 }
    }

    /// The same in another organisation.
    pub(crate) fn in_org(self, org: &'static str) -> Worker {
        Worker { org, ..self }
    }

    /// The same, the end of each turn to be posted there.
    pub(crate) fn with_hook(self, url: &str) -> Worker {
        Worker { hook: Some(url.to_owned()), ..self }
    }

    /// The same with a new conversation now and then.
    pub(crate) fn rotating(self) -> Worker {
        Worker { rotates: true, ..self }
    }

    /// One request each `period`, until then; what is late is not caught up.
    async fn run_paced(mut self, period: Duration, until: Instant) -> Result<Measured, Failure> {
        let (started, mut measured) = (Instant::now(), Measured::empty());
        let mut next = started;
        while next < until {
            tokio::time::sleep_until(next.into()).await;
            note(&mut measured.times, self.once().await?);
            measured.count += 1;
            next = (next + period).max(Instant::now());
        }
        measured.elapsed = started.elapsed();
        Ok(measured)
    }

    async fn run(mut self, from: Instant, until: Instant) -> Result<Measured, Failure> {
        let mut measured = Measured::empty();
        while Instant::now() < from {
            self.once().await?;
        }
        let started = Instant::now();
        while Instant::now() < until {
            let time = self.once().await?;
            note(&mut measured.times, time);
            measured.count += 1;
        }
        measured.elapsed = started.elapsed();
        Ok(measured)
    }

    /// One request and how long it took.
    pub(crate) async fn once(&mut self) -> Result<Duration, Failure> {
        let (path, body) = self.request();
        let headers: &[(&'static str, &str)] = match self.kind {
            Kind::Async => &[("prefer", "respond-async")],
            Kind::Direct | Kind::Sync => &[],
        };
        let started = Instant::now();
        let answer =
            self.conn.call(Method::POST, path, headers, body.into()).await.map_err(|error| {
                Failure::new(Exit::Unreachable, "a request had no answer", error.to_string())
            })?;
        let time = started.elapsed();
        if !answer.status.is_success() {
            return Err(Failure::of_answer(answer.status.as_u16(), &answer.body));
        }
        if self.kind == Kind::Sync {
            let parsed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if parsed.get("status").and_then(Value::as_str) != Some("completed") {
                return Err(Failure::new(
                    Exit::Check,
                    "a turn was not completed",
                    "the answer is not `completed`",
                ));
            }
        }
        Ok(time)
    }

    fn request(&mut self) -> (&'static str, String) {
        let conversation = match self.kind {
            Kind::Async => self.sent / PER_CONVERSATION,
            Kind::Direct | Kind::Sync if self.rotates => self.sent / PER_CONVERSATION,
            Kind::Direct | Kind::Sync => 0,
        };
        self.sent += 1;
        let user = format!("{}-{conversation}", self.name);
        match self.kind {
            Kind::Direct => (
                "/api/v1/chat",
                json!({"client_id": "bench", "user_id": user, "message": self.text,
                       "message_type": "text", "org": "bench"})
                .to_string(),
            ),
            Kind::Sync | Kind::Async => (
                "/api/v1/message",
                json!({"client_id": "bench", "user_id": user, "org_id": self.org, "message": self.text,
                       "callback_url": self.hook})
                .to_string(),
            ),
        }
    }
}

//! Fake agents over pipes: HTTP by hand, so that an answer can be late, cut,
//! garbage or missing at any byte. What they do is drawn from the seed.

use super::book::Book;
use super::lock;
use super::request::{self, Request};
use super::weather::SimClock;
use crate::prng::Prng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use turnwise_mock::{Call, CallOutcome};

pub use super::request::body;

/// Bytes a pipe holds.
const PIPE_BYTES: usize = 8 * 1024;
/// How long a hanging agent hangs, unless its caller leaves.
const HANG: Duration = Duration::from_secs(600);

/// All agents behind one address.
pub struct Agents {
    book: Book,
    clock: Arc<SimClock>,
    random: Mutex<Prng>,
    healthy: AtomicBool,
    closed: AtomicBool,
    serving: Mutex<JoinSet<()>>,
}

/// What an agent does with one call.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// After so many milliseconds, as a stream of so many parts or plainly.
    Answer {
        ms: u64,
        parts: Option<u64>,
    },
    /// A status, with seconds for `Retry-After`.
    Refuse {
        status: u16,
        retry_after: Option<u64>,
    },
    /// Bytes that are no answer.
    Garbage(&'static str),
    /// The answer stops after so many parts.
    Cut {
        parts: u64,
    },
    /// An error event after so many parts.
    ErrorEvent {
        parts: u64,
    },
    Hang,
}

const GARBAGE: [&str; 5] = [
    "this is not http\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"responses\":",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "",
];

impl Agents {
    /// Agents that misbehave as the seed says.
    #[must_use]
    pub fn new(book: Book, clock: Arc<SimClock>, random: Prng) -> Arc<Agents> {
        Arc::new(Agents {
            book,
            clock,
            random: Mutex::new(random),
            healthy: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            serving: Mutex::new(JoinSet::new()),
        })
    }

    /// From now on every call gets a quick answer.
    pub fn heal(&self) {
        self.healthy.store(true, Ordering::SeqCst);
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Closes or opens the port.
    pub fn close_port(&self, closed: bool) {
        self.closed.store(closed, Ordering::SeqCst);
    }

    /// One end of a new connection; none when the port is closed.
    pub fn connect(self: &Arc<Self>) -> Option<DuplexStream> {
        let refuses = !self.healthy.load(Ordering::SeqCst) && lock(&self.random).chance(4);
        if self.closed.load(Ordering::SeqCst) || refuses {
            self.book.count(|counts| counts.closed_port += 1);
            return None;
        }
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let agents = Arc::clone(self);
        let mut serving = lock(&self.serving);
        while serving.try_join_next().is_some() {}
        serving.spawn(async move { agents.serve(ours).await });
        Some(theirs)
    }

    /// Ends all agents.
    pub async fn stop(&self) {
        let mut serving = std::mem::take(&mut *lock(&self.serving));
        serving.shutdown().await;
    }

    async fn serve(&self, mut pipe: DuplexStream) {
        while let Some(request) = request::read(&mut pipe).await {
            let goes_on = if request.path == "/health" {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                pipe.write_all(answer.as_bytes()).await.is_ok()
            } else {
                self.attend(&mut pipe, &request).await
            };
            if !goes_on {
                return;
            }
        }
    }

    /// One call; whether the connection can be used again.
    async fn attend(&self, pipe: &mut DuplexStream, request: &Request) -> bool {
        let stream = request.path.ends_with("/stream");
        let call = Call {
            message_id: request.id.clone(),
            attempt: request.attempt,
            conversation: request.conversation.clone(),
            started: 0,
            ended: None,
            started_us: 0,
            ended_us: None,
            outcome: None,
            stream,
        };
        let now = (self.clock.now(), self.clock.elapsed_us());
        let number = self.book.call_started(now, call, request.submission);
        let open = OpenCall { agents: self, number };
        let plan = self.plan(stream);
        let (id, attempt) = (&request.id, request.attempt);
        self.book.tell(&self.clock, &format_args!("call {number} of {id} attempt {attempt}: {plan:?}"));
        let done = self.carry_out(pipe, request, plan, &open).await;
        done.unwrap_or(false)
    }

    fn plan(&self, stream: bool) -> Plan {
        let mut random = lock(&self.random);
        let parts = (stream && random.chance(85)).then(|| random.below(6));
        if self.healthy.load(Ordering::SeqCst) {
            return Plan::Answer { ms: random.below(50), parts };
        }
        let some_parts = parts.unwrap_or(0);
        match random.below(100) {
            0..=39 => Plan::Answer { ms: random.below(300), parts },
            // Beyond a lease.
            40..=51 => Plan::Answer { ms: 1_500 + random.below(3_000), parts },
            52..=57 => Plan::Hang,
            58..=62 => Plan::Refuse { status: 400, retry_after: None },
            63..=67 => Plan::Refuse { status: 500, retry_after: None },
            68..=74 => Plan::Refuse { status: 429, retry_after: random.chance(70).then(|| random.below(4)) },
            75..=79 => Plan::Refuse { status: 503, retry_after: Some(random.below(4)) },
            80..=81 => Plan::Refuse { status: 503, retry_after: None },
            82..=87 => Plan::Garbage(random.pick(&GARBAGE).copied().unwrap_or_default()),
            88..=95 => Plan::Cut { parts: some_parts },
            _ => Plan::ErrorEvent { parts: some_parts },
        }
    }

    /// None when the caller has left.
    async fn carry_out(
        &self,
        pipe: &mut DuplexStream,
        request: &Request,
        plan: Plan,
        open: &OpenCall<'_>,
    ) -> Option<bool> {
        let said = format!("{}#{}", request.submission, request.attempt);
        match plan {
            Plan::Answer { ms, parts: None } => {
                pause(pipe, ms).await?;
                let json = format!(r#"{{"responses":["{said}"]}}"#);
                open.end(CallOutcome::Answered);
                write(pipe, &plain("200 OK", "", &json)).await?;
                Some(true)
            }
            Plan::Answer { ms, parts: Some(parts) } => {
                self.stream(pipe, &said, parts, ms / (parts + 1)).await?;
                let whole = format!(r#"{{"type":"complete","response":{{"responses":["{said}"]}}}}"#);
                open.end(CallOutcome::Answered);
                write(pipe, &(event(&whole) + "0\r\n\r\n")).await?;
                Some(true)
            }
            Plan::Refuse { status, retry_after } => {
                open.end(CallOutcome::Refused);
                let wait = retry_after.map_or(String::new(), |secs| format!("retry-after: {secs}\r\n"));
                write(pipe, &plain(&format!("{status} No"), &wait, "{}")).await?;
                Some(true)
            }
            Plan::Garbage(bytes) => {
                self.book.count(|counts| counts.broken_answers += 1);
                pause(pipe, 20).await?;
                open.end(CallOutcome::Broken);
                write(pipe, bytes).await?;
                Some(false)
            }
            Plan::Cut { parts } => {
                self.book.count(|counts| counts.broken_answers += 1);
                self.stream(pipe, &said, parts, 40).await?;
                let half = event(r#"{"type":"progress","text":"half"}"#);
                write(pipe, half.get(..half.len() / 2).unwrap_or_default()).await?;
                open.end(CallOutcome::Broken);
                Some(false)
            }
            Plan::ErrorEvent { parts } => {
                self.stream(pipe, &said, parts, 40).await?;
                open.end(CallOutcome::Refused);
                write(pipe, &(event(r#"{"type":"error","error":"no model"}"#) + "0\r\n\r\n")).await?;
                Some(true)
            }
            Plan::Hang => {
                self.book.count(|counts| counts.hangs += 1);
                pause(pipe, u64::try_from(HANG.as_millis()).unwrap_or(u64::MAX)).await?;
                Some(false)
            }
        }
    }

    /// The head of a stream and so many parts, with a pause before each piece.
    async fn stream(&self, pipe: &mut DuplexStream, said: &str, parts: u64, gap_ms: u64) -> Option<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        write(pipe, head).await?;
        for part in 0..parts {
            pause(pipe, gap_ms).await?;
            write(pipe, &event(&format!(r#"{{"type":"progress","text":"{said}:{part}"}}"#))).await?;
        }
        pause(pipe, gap_ms).await
    }
}

/// Notes the end of a call; dropped unended, the caller has left.
struct OpenCall<'a> {
    agents: &'a Agents,
    number: usize,
}

impl OpenCall<'_> {
    fn end(&self, outcome: CallOutcome) {
        let agents = self.agents;
        agents.book.tell(&agents.clock, &format_args!("call {} ends: {outcome:?}", self.number));
        self.agents.book.call_ended(self.agents.clock.elapsed_us(), self.number, outcome);
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        // Only the first end counts.
        self.end(CallOutcome::Abandoned);
    }
}

fn plain(status: &str, headers: &str, json: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{json}",
        json.len()
    )
}

/// One event of a stream as one chunk of the body.
fn event(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// Waits; none when the caller leaves meanwhile.
async fn pause(pipe: &mut DuplexStream, ms: u64) -> Option<()> {
    let mut byte = [0];
    tokio::select! {
        biased;
        // Nobody sends a second request before the first is answered.
        _ = pipe.read(&mut byte) => None,
        () = sleep(Duration::from_millis(ms)) => Some(()),
    }
}

async fn write(pipe: &mut DuplexStream, text: &str) -> Option<()> {
    pipe.write_all(text.as_bytes()).await.ok()
}

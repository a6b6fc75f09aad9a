//! Reads a streamed answer and stores its events. While one append is on its
//! way, newly arrived events gather and go with the next.

use std::pin::{Pin, pin};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::time::{Instant, sleep};
use turnwise_broker::{AgentEvent, BrokerError, Turn, TurnError, TurnOutcome};
use turnwise_core::StoreError;

use crate::limits::{
    EVENT_BYTES_MAX, GATHERED_BYTES_MAX, GATHERED_EVENTS_MAX, STREAM_BYTES_MAX, UNSAVED_BYTES_MAX,
    UNSAVED_EVENTS_MAX,
};
use crate::sse::{SseEvent, SseParser};
use crate::turn::{Context, Interrupt};
use crate::verdict::{Meaning, agent_error, agent_timeout, meaning};

/// Why reading stopped.
enum End {
    Complete { event: Option<AgentEvent>, answer: Option<Bytes> },
    Failed(TurnError),
    Interrupted(Interrupt),
}

type Append<'a> = Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + 'a>>;

/// Reads to the end of the answer, of the stream, or of the lease (none then).
pub(crate) async fn read(
    context: &Context,
    turn: &Turn,
    mut body: Incoming,
    mut watch: Pin<&mut (impl Future<Output = Interrupt> + Send)>,
) -> Option<TurnOutcome> {
    let limit = context.config.timeout;
    let mut intake = Intake::new();
    let mut appending: Option<Append<'_>> = None;
    let mut stored_any = false;
    let mut idle = pin!(sleep(limit));
    let end = loop {
        if appending.is_none() && !intake.gathered.is_empty() {
            appending = Some(Box::pin(context.broker.append(turn, intake.take())));
        }
        let has_room = intake.has_room();
        tokio::select! {
            biased;
            done = wait_for(&mut appending), if appending.is_some() => {
                appending = None;
                match done {
                    Ok(()) => stored_any = true,
                    Err(BrokerError::LeaseLost) => return None,
                    Err(error) => break End::Failed(append_failed(&error)),
                }
                if !has_room {
                    // Nobody listened meanwhile: that was no silence of the agent.
                    idle.as_mut().reset(Instant::now() + limit);
                }
            }
            frame = body.frame(), if has_room => {
                idle.as_mut().reset(Instant::now() + limit);
                if let Some(end) = intake.take_frame(frame) {
                    break end;
                }
            }
            () = idle.as_mut(), if has_room => break End::Failed(intake.silent_for(limit)),
            interrupt = watch.as_mut() => break End::Interrupted(interrupt),
        }
    };
    release_connection(body, &end).await;
    if let Some(append) = appending {
        match append.await {
            Ok(()) => stored_any = true,
            Err(BrokerError::LeaseLost) => return None,
            Err(error) => return Some(TurnOutcome::Failed(append_failed(&error))),
        }
    }
    conclude(context, turn, intake, end, stored_any).await
}

/// Stores what is still gathered and says how the turn ends.
async fn conclude(
    context: &Context,
    turn: &Turn,
    mut intake: Intake,
    end: End,
    stored_any: bool,
) -> Option<TurnOutcome> {
    let fits = intake.gathered.len() < UNSAVED_EVENTS_MAX && intake.bytes <= UNSAVED_BYTES_MAX;
    let outcome = match end {
        End::Interrupted(Interrupt::Lost) => return None,
        // Nothing of it was seen: the next call may start afresh.
        End::Interrupted(Interrupt::Abandon) if !stored_any => return Some(TurnOutcome::Release),
        End::Interrupted(Interrupt::Abandon) => TurnOutcome::Release,
        End::Interrupted(Interrupt::Stop) => TurnOutcome::Cancelled,
        End::Failed(error) => TurnOutcome::Failed(error),
        End::Complete { event, answer } if fits => {
            let mut unsaved = intake.take();
            unsaved.extend(event);
            return Some(TurnOutcome::Completed { answer, unsaved });
        }
        End::Complete { event, answer } => {
            TurnOutcome::Completed { answer, unsaved: event.into_iter().collect() }
        }
    };
    while !intake.gathered.is_empty() {
        match context.broker.append(turn, intake.take()).await {
            Ok(()) => {}
            Err(BrokerError::LeaseLost) => return None,
            Err(error) => return Some(TurnOutcome::Failed(append_failed(&error))),
        }
    }
    Some(outcome)
}

/// Events that arrived and are not yet on their way to the store.
struct Intake {
    parser: SseParser,
    fresh: Vec<SseEvent>,
    gathered: Vec<AgentEvent>,
    bytes: usize,
    stream_bytes: u64,
}

impl Intake {
    fn new() -> Intake {
        Intake {
            parser: SseParser::new(EVENT_BYTES_MAX),
            fresh: Vec::new(),
            gathered: Vec::new(),
            bytes: 0,
            stream_bytes: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.gathered.len() < GATHERED_EVENTS_MAX && self.bytes < GATHERED_BYTES_MAX
    }

    /// The oldest of what is gathered, no more than one append takes in one step.
    fn take(&mut self) -> Vec<AgentEvent> {
        let rest = self.gathered.split_off(self.gathered.len().min(GATHERED_EVENTS_MAX));
        self.bytes = rest.iter().map(|event| event.data.len()).sum();
        std::mem::replace(&mut self.gathered, rest)
    }

    /// Takes what the connection gave. Some when it was the end.
    fn take_frame(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<End> {
        let is_last = frame.is_none();
        let parsed = match frame {
            Some(Ok(frame)) => {
                let Ok(chunk) = frame.into_data() else {
                    return None;
                };
                self.stream_bytes += chunk.len() as u64;
                if self.stream_bytes > STREAM_BYTES_MAX {
                    return Some(End::Failed(agent_error("The agent's stream is too large.")));
                }
                self.parser.push(&chunk, &mut self.fresh)
            }
            Some(Err(_)) => return Some(End::Failed(agent_error("The agent's stream broke off."))),
            None => std::mem::replace(&mut self.parser, SseParser::new(0)).finish(&mut self.fresh),
        };
        for event in std::mem::take(&mut self.fresh) {
            match meaning(event) {
                Meaning::Part(event) => {
                    self.bytes += event.data.len();
                    self.gathered.push(event);
                }
                Meaning::Complete { event, answer } => {
                    return Some(End::Complete { event, answer });
                }
                Meaning::Failed(error) => return Some(End::Failed(error)),
            }
        }
        match parsed {
            Err(error) => {
                Some(End::Failed(agent_error(format!("The agent's stream cannot be read: {error}."))))
            }
            Ok(()) if is_last => {
                Some(End::Failed(agent_error("The agent's stream ended without an answer.")))
            }
            Ok(()) => None,
        }
    }

    fn silent_for(&self, limit: std::time::Duration) -> TurnError {
        if self.stream_bytes == 0 {
            return agent_timeout(limit);
        }
        agent_error(format!("The agent's stream was silent for {} s.", limit.as_secs_f64()))
    }
}

/// Events that may or may not be stored can be neither repeated nor left out,
/// so the answer ends here.
fn append_failed(error: &BrokerError) -> TurnError {
    match error {
        BrokerError::Store(StoreError::Invalid(_)) => agent_error("The agent's stream could not be stored."),
        _ => TurnError::answer_interrupted(),
    }
}

async fn wait_for<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// After a complete answer the end of the body is usually there already:
/// reading it lets the connection be used again. Else the connection closes.
async fn release_connection(mut body: Incoming, end: &End) {
    if matches!(end, End::Complete { .. }) {
        tokio::select! {
            biased;
            _ = body.frame() => {}
            () = std::future::ready(()) => {}
        }
    }
}

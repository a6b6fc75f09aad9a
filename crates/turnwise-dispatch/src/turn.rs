//! One turn in the hands of dispatch: the call, the watch over its lease, its
//! end in the store (clauses C4 and C5).

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerError, Renewed, Turn, TurnError, TurnOutcome};
use turnwise_core::StoreError;

use crate::agent::Agent;
use crate::causes::{innermost, is_short_of_descriptors};
use crate::config::{DispatchConfig, StreamMode};
use crate::counts::AgentCounts;
use crate::limits::{ANSWER_BYTES_MAX, DESCRIPTORS_WAIT, FINISH_PAUSE, REFUSAL_BYTES_MAX};
use crate::reply;
use crate::span::Begun;
use crate::verdict::{agent_error, agent_timeout, agent_unreachable, answer, refusal};

/// What all turns of this node share.
pub(crate) struct Context {
    pub(crate) broker: Broker,
    pub(crate) agent: Agent,
    pub(crate) config: DispatchConfig,
    /// Turns still running are to be given back.
    pub(crate) abandon: CancellationToken,
    pub(crate) agent_up: std::sync::Arc<AtomicBool>,
    pub(crate) counts: std::sync::Arc<AgentCounts>,
}

/// Why a call is broken off from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Its client wants it stopped.
    Stop,
    /// The lease is over: nothing more may be written.
    Lost,
    /// This process is about to end.
    Abandon,
}

/// Sees one turn to its end, or loses it.
pub(crate) async fn attend(context: &Context, mut turn: Turn) {
    // A slow store may have taken longer to hand it out than the lease lasts.
    if !context.broker.holds(&turn) {
        tracing::warn!(message_id = %turn.id, attempt = turn.attempt, "lost the lease on a turn before its call");
        return;
    }
    if turn.interrupted {
        finish(context, &turn, TurnOutcome::Failed(TurnError::answer_interrupted())).await;
        return;
    }
    let started = Instant::now();
    let span = Begun::with(context.config.spans.as_ref(), &mut turn);
    let outcome = counted_call(context, &turn).await;
    if let Some(span) = span {
        span.end(&turn, outcome.as_ref(), started.elapsed());
    }
    let Some(outcome) = outcome else {
        tracing::warn!(message_id = %turn.id, attempt = turn.attempt, "lost the lease on a turn; its call was dropped");
        return;
    };
    report(&turn, &outcome, started.elapsed());
    finish(context, &turn, outcome).await;
}

/// Hands back a turn that was never called.
pub(crate) async fn give_back(context: &Context, turn: Turn) {
    finish(context, &turn, TurnOutcome::Release).await;
}

/// The call, and what a scraper is told of it.
async fn counted_call(context: &Context, turn: &Turn) -> Option<TurnOutcome> {
    let started = Instant::now();
    let in_flight = context.counts.call();
    let outcome = call(context, turn).await;
    drop(in_flight);
    context.counts.over(outcome.as_ref(), started.elapsed());
    outcome
}

/// Calls the agent and reads its answer. None when the lease was lost.
async fn call(context: &Context, turn: &Turn) -> Option<TurnOutcome> {
    let stream = match context.config.stream {
        StreamMode::Auto => turn.prefer_stream,
        StreamMode::Always => true,
        StreamMode::Never => false,
    };
    let mut watch = pin!(watch(context, turn));
    let exchange = tokio::select! {
        biased;
        exchange = exchange(context, turn, stream) => exchange,
        interrupt = watch.as_mut() => return after_interrupt(interrupt),
    };
    match exchange {
        Exchange::Over(outcome) => Some(outcome),
        Exchange::Stream(body) => read_boxed(context, turn, body, watch).await,
    }
}

/// Streams are rarer and larger than plain calls: kept out of their futures.
fn read_boxed<'a>(
    context: &'a Context,
    turn: &'a Turn,
    body: Incoming,
    watch: Pin<&'a mut (impl Future<Output = Interrupt> + Send)>,
) -> Pin<Box<dyn Future<Output = Option<TurnOutcome>> + Send + 'a>> {
    Box::pin(reply::read(context, turn, body, watch))
}

pub(crate) fn after_interrupt(interrupt: Interrupt) -> Option<TurnOutcome> {
    match interrupt {
        Interrupt::Stop => Some(TurnOutcome::Cancelled),
        Interrupt::Abandon => Some(TurnOutcome::Release),
        Interrupt::Lost => None,
    }
}

enum Exchange {
    Over(TurnOutcome),
    Stream(Incoming),
}

/// One request and, unless it is a stream, its whole response, within the timeout.
async fn exchange(context: &Context, turn: &Turn, stream: bool) -> Exchange {
    let limit = context.config.timeout;
    match tokio::time::timeout(limit, exchange_unbounded(context, turn, stream)).await {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(error)) => Exchange::Over(TurnOutcome::Failed(error)),
        Err(_) => Exchange::Over(TurnOutcome::Failed(agent_timeout(limit))),
    }
}

async fn exchange_unbounded(context: &Context, turn: &Turn, stream: bool) -> Result<Exchange, TurnError> {
    let response = match context.agent.call(turn, stream).await {
        Ok(response) => response,
        Err(error) if is_short_of_descriptors(&error) => {
            tracing::warn!(
                why = innermost(&error),
                "no call to the agent can be opened: `ulimit -n` is too low"
            );
            return Ok(Exchange::Over(TurnOutcome::RetryAfter(DESCRIPTORS_WAIT)));
        }
        Err(error) if error.is_connect() => {
            if context.agent_up.swap(false, Ordering::Relaxed) {
                tracing::warn!(why = innermost(&error), "the agent cannot be reached");
            }
            return Err(agent_unreachable());
        }
        Err(_) => {
            return Err(agent_error("The connection to the agent broke before its answer."));
        }
    };
    if !context.agent_up.load(Ordering::Relaxed) {
        context.agent_up.store(true, Ordering::Relaxed);
    }
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        return Ok(Exchange::Over(TurnOutcome::Completed { answer: None, unsaved: Vec::new() }));
    }
    if !status.is_success() {
        let headers = response.headers().clone();
        // Its words are welcome, but its status alone is enough.
        let body = body_of(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        return Ok(Exchange::Over(refusal(status, &headers, &body, context.broker.now())));
    }
    if is_stream(&response, stream) {
        return Ok(Exchange::Stream(response.into_body()));
    }
    let answer = answer(body_of(response, ANSWER_BYTES_MAX).await?)?;
    Ok(Exchange::Over(TurnOutcome::Completed { answer: Some(answer), unsaved: Vec::new() }))
}

/// The content type decides; without one, the route does.
fn is_stream(response: &Response<Incoming>, asked: bool) -> bool {
    match response.headers().get(header::CONTENT_TYPE) {
        Some(kind) => kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"),
        None => asked,
    }
}

async fn body_of(response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, TurnError> {
    match Limited::new(response.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(agent_error(format!("The agent's answer is larger than {bytes_max} bytes.")))
        }
        Err(_) => Err(agent_error("The agent's answer broke off.")),
    }
}

/// Renews the lease every third of it and listens for reasons to stop.
async fn watch(context: &Context, turn: &Turn) -> Interrupt {
    tokio::select! {
        biased;
        () = turn.stopped() => Interrupt::Stop,
        () = context.abandon.cancelled() => Interrupt::Abandon,
        interrupt = renewals(context, turn) => interrupt,
    }
}

async fn renewals(context: &Context, turn: &Turn) -> Interrupt {
    let lease = context.broker.config().turn_lease;
    let mut renewed = Instant::now();
    let mut pause = lease / 3;
    loop {
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        match tokio::time::timeout_at(renewed + lease, context.broker.renew(turn)).await {
            Ok(Ok(Renewed::Ok)) => {
                renewed = asked;
                pause = lease / 3;
            }
            Ok(Ok(Renewed::Stop)) => return Interrupt::Stop,
            Ok(Ok(Renewed::Lost) | Err(BrokerError::LeaseLost)) | Err(_) => return Interrupt::Lost,
            // The store may be back before the lease is over.
            Ok(Err(_)) if renewed.elapsed() < lease => {
                pause = pause_after_failure(lease, renewed.elapsed());
            }
            Ok(Err(_)) => return Interrupt::Lost,
        }
    }
}

/// Never beyond the lease: when that ends the call must stop.
fn pause_after_failure(lease: Duration, since_renewal: Duration) -> Duration {
    (lease / 12).min(lease.saturating_sub(since_renewal))
}

/// Stores the end of a turn. A store that is away for a moment is asked again
/// as long as the lease may live.
async fn finish(context: &Context, turn: &Turn, outcome: TurnOutcome) {
    let lease = context.broker.config().turn_lease;
    let mut held_since = Instant::now();
    let mut outcome = outcome;
    loop {
        let error = match context.broker.finish(turn, outcome.clone()).await {
            Ok(()) => return,
            Err(error) => error,
        };
        match &error {
            BrokerError::LeaseLost | BrokerError::Gone => {
                tracing::warn!(message_id = %turn.id, "lost the lease on a turn before its end was stored");
                return;
            }
            BrokerError::Store(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {}
            BrokerError::Store(StoreError::Invalid(_) | StoreError::Corrupt(_))
            | BrokerError::LaneFull { .. }
            | BrokerError::OrgsFull { .. }
            | BrokerError::TurnsFull { .. }
            | BrokerError::OrgTurnsFull { .. }
            | BrokerError::CallbacksFull { .. }
            | BrokerError::WorkFull(_)
            | BrokerError::Bus(_)
            | BrokerError::TooManyOrgs { .. }
            | BrokerError::DedupConflict(_) => {
                tracing::error!(message_id = %turn.id, %error, "the store refuses the end of a turn");
                if matches!(outcome, TurnOutcome::Failed(_)) {
                    return;
                }
                outcome = TurnOutcome::Failed(agent_error("The agent's answer could not be stored."));
                continue;
            }
        }
        tokio::time::sleep(FINISH_PAUSE).await;
        let asked = Instant::now();
        match context.broker.renew(turn).await {
            Ok(Renewed::Ok | Renewed::Stop) => held_since = asked,
            Ok(Renewed::Lost) | Err(BrokerError::LeaseLost) => return,
            Err(_) if held_since.elapsed() < lease => {}
            Err(_) => {
                tracing::error!(message_id = %turn.id, %error, "the end of a turn could not be stored in time");
                return;
            }
        }
    }
}

/// Says how a call went. Never what was said in it.
fn report(turn: &Turn, outcome: &TurnOutcome, took: Duration) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (attempt, ms, trace_id) = (turn.attempt, millis(took), turn.trace_id());
    let wait_ms = millis(turn.first_claimed_at.since(turn.accepted_at));
    match outcome {
        TurnOutcome::Completed { .. } => {
            tracing::debug!(message_id = %turn.id, trace_id, attempt, wait_ms, ms, "turn answered");
        }
        TurnOutcome::Failed(TurnError { code, status, .. }) => {
            tracing::warn!(message_id = %turn.id, trace_id, attempt, wait_ms, ms, %code, status, "turn failed");
        }
        TurnOutcome::Cancelled => {
            tracing::debug!(message_id = %turn.id, trace_id, attempt, wait_ms, ms, "turn stopped for its client");
        }
        TurnOutcome::RetryAfter(pause) => {
            let pause_ms = millis(*pause);
            tracing::info!(message_id = %turn.id, trace_id, attempt, ms, pause_ms, "the agent is busy");
        }
        TurnOutcome::Release => {
            tracing::info!(message_id = %turn.id, trace_id, attempt, ms, "turn given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_renewal_is_repeated_soon_and_never_after_the_lease() {
        let check = |since_ms, pause_ms| {
            let pause = pause_after_failure(Duration::from_secs(12), Duration::from_millis(since_ms));
            assert_eq!(pause, Duration::from_millis(pause_ms), "{since_ms}");
        };
        check(4_000, 1_000);
        check(11_000, 1_000);
        check(11_700, 300);
        check(12_500, 0);
    }
}

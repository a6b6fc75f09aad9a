//! `GET /api/v1/bus/agents/{agent_id}/inbox` and `POST …/inbox/settle`.

use super::{agent, kind};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::drain::Phase;
use crate::error::Failure;
use crate::limits::{CLAIM_MESSAGES_MAX, CLAIM_WAIT_MAX, LEASE_USUAL, MOMENT};
use crate::rest::message::rfc3339;
use crate::rest::query::{Parameters, org};
use crate::rest::queues::claim::{handed, payload};
use crate::rest::queues::handed::{InHand, Whose};
use crate::rest::queues::settle::{Settlement, settlement};
use crate::rest::queues::{each, item_error};
use crate::rest::rules::Errors;
use crate::rest::{json, json_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::Uri;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use turnwise_api::{
    BusDeliveryAnswer, BusInbox, BusSettleOutcome, BusSettledAnswer, BusSettledAnswers, BusSettledState, Code,
};
use turnwise_broker::{BusClaim, BusDelivery, BusOutcome, BusSettled, WorkReceipt};
use turnwise_core::limits::LEASE_MAX;

const OUTCOMES: [(&str, BusSettleOutcome); 3] =
    [("ack", BusSettleOutcome::Ack), ("retry", BusSettleOutcome::Retry), ("dead", BusSettleOutcome::Dead)];

/// Leases messages of an inbox, and waits for the first of them.
pub(crate) async fn take(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let agent = agent(path)?;
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    caller.must_be(&agent)?;
    if app.drain.phase() > Phase::Serving {
        return Err(Failure::new(Code::Draining, "The server is shutting down; nothing was handed out"));
    }
    let claim = asked(agent, &parameters)?;
    // In a task of its own: who goes away in the middle of it leaves no lease behind.
    let (answer, answered) = oneshot::channel();
    app.tasks.spawn(hand_out(Arc::clone(&app), caller.clone(), org, claim, answer));
    let missing = |_| Failure::new(Code::Internal, "The messages could not be handed out");
    let (in_hand, deliveries) = answered.await.map_err(missing)??;
    let deliveries = deliveries.iter().map(delivery).collect();
    handed(&app, &caller, in_hand, Bytes::from(json_bytes(&BusInbox { deliveries })?))
}

fn asked(agent: String, parameters: &Parameters) -> Result<BusClaim, Failure> {
    let mut errors = Errors::default();
    let limit = parameters.limit(1, CLAIM_MESSAGES_MAX, &mut errors);
    let lease = seconds(parameters, "lease_seconds", MOMENT..=LEASE_MAX, &mut errors);
    let wait = seconds(parameters, "wait_seconds", Duration::ZERO..=CLAIM_WAIT_MAX, &mut errors);
    errors.into_result()?;
    Ok(BusClaim { agent, limit, lease: lease.unwrap_or(LEASE_USUAL), wait: wait.unwrap_or_default() })
}

fn seconds(
    parameters: &Parameters,
    name: &'static str,
    range: RangeInclusive<Duration>,
    errors: &mut Errors,
) -> Option<Duration> {
    let text = parameters.get(name)?;
    let (least, most) = (range.start().as_secs_f64(), range.end().as_secs_f64());
    let seconds = text.parse::<f64>().ok().filter(|seconds| (least..=most).contains(seconds));
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if time.is_none() {
        errors.add(format!("?{name}"), format!("must be a number from {least} to {most}"));
    }
    time
}

/// Claims until there is something, whoever asks has gone or may no longer ask, or the node stops.
async fn hand_out(
    app: Arc<App>,
    caller: Caller,
    org: String,
    claim: BusClaim,
    mut answer: oneshot::Sender<Result<(InHand, Vec<BusDelivery>), Failure>>,
) {
    let (begun, revoked) = (app.drain.begun(), caller.revoked());
    let claimed = {
        let ended = async {
            tokio::select! {
                () = answer.closed() => {}
                () = begun.cancelled() => {}
                () = revoked.cancelled() => {}
            }
        };
        app.broker.claim_inbox(&org, &claim, ended).await
    };
    let in_hand = claimed.map_err(Failure::from).map(|deliveries| {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt).collect();
        (InHand::new(app, Whose::Inbox { org, agent: claim.agent }, receipts), deliveries)
    });
    // Nobody there any more: they go back.
    drop(answer.send(in_hand));
}

fn delivery(delivery: &BusDelivery) -> BusDeliveryAnswer<'_> {
    let message = &delivery.message;
    BusDeliveryAnswer {
        message_id: message.id.as_str(),
        receipt: delivery.receipt.to_string(),
        attempt: delivery.attempt,
        from_agent: &message.from,
        to_agent: message.to.as_deref(),
        workspace_id: message.workspace.as_deref(),
        topic: message.topic.as_deref(),
        message_type: kind(message.message_type),
        priority: message.priority,
        content: payload(&message.content),
        correlation_id: message.correlation_id.as_deref(),
        in_reply_to: message.in_reply_to.as_ref().map(turnwise_broker::BusMessageId::as_str),
        metadata: message.metadata.as_deref().and_then(payload),
        sent_at: rfc3339(message.sent_at),
        expires_at: message.expires_at.map(rfc3339),
        lease_expires_at: rfc3339(delivery.lease_expires_at),
    }
}

/// Ends deliveries.
pub(crate) async fn settle(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let agent = agent(path)?;
    let (head, body) = request.into_parts();
    let org = org(&caller, &Parameters::of(&head.uri)?)?;
    caller.must_be(&agent)?;
    body::require_json(&head.headers)?;
    let (settlements, is_batch) = {
        let body = body::read(&app, body).await?;
        settlements(&body.bytes)?
    };
    let settled = app.broker.settle_inbox(&org, &agent, settlements).await?;
    answered(settled, is_batch)
}

/// What is asked for, and whether it came as a batch.
pub(crate) fn settlements(body: &[u8]) -> Result<(Vec<(WorkReceipt, BusOutcome)>, bool), Failure> {
    each(body, |form, errors| {
        let may_have_more = [BusSettleOutcome::Retry, BusSettleOutcome::Dead];
        let Settlement { receipt, outcome, delay, reason } =
            settlement(form, &OUTCOMES, may_have_more, errors)?;
        let outcome = match outcome {
            BusSettleOutcome::Ack => BusOutcome::Ack,
            BusSettleOutcome::Retry => BusOutcome::Nack { delay: delay.unwrap_or_default(), reason },
            BusSettleOutcome::Dead => BusOutcome::Reject { reason },
        };
        Some((receipt, outcome))
    })
}

/// One by one for a batch; for an only item, what went wrong is a problem.
fn answered(settled: Vec<BusSettled>, is_batch: bool) -> Result<Response, Failure> {
    let mut results = Vec::with_capacity(settled.len());
    for settled in settled {
        let (status, error) = match settled {
            BusSettled::Done => (BusSettledState::Done, None),
            BusSettled::LeaseLost if is_batch => (BusSettledState::LeaseLost, None),
            BusSettled::LeaseLost => {
                let detail = "The lease on this message is over; nothing was changed";
                return Err(Failure::new(Code::LeaseLost, detail));
            }
            BusSettled::Failed(error) if is_batch => (BusSettledState::Failed, Some(item_error(error))),
            BusSettled::Failed(error) => return Err(error.into()),
        };
        results.push(BusSettledAnswer { status, error });
    }
    if is_batch {
        return json(&BusSettledAnswers { results });
    }
    let only = results.into_iter().next();
    json(&only.ok_or_else(|| Failure::new(Code::Internal, "The store gave no answer"))?)
}

//! `POST /api/v1/queues/{queue}/claim`.

use super::handed::{Handed, InHand, Whose};
use super::{fields, only_queue};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::drain::Phase;
use crate::error::Failure;
use crate::held::Shared;
use crate::limits::{CLAIM_MESSAGES_MAX, CLAIM_WAIT_MAX, LEASE_USUAL, MOMENT};
use crate::rest::message::rfc3339;
use crate::rest::{json_bytes, json_response};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use turnwise_api::{Code, QueueDeliveries, QueueDelivery};
use turnwise_broker::{WorkClaim, WorkDelivery, WorkQueue};
use turnwise_core::Headers;
use turnwise_core::limits::LEASE_MAX;

/// Leases messages, and waits for the first of them.
pub(crate) async fn claim(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let queue = only_queue(&caller, path, &head.uri)?;
    if app.drain.phase() > Phase::Serving {
        return Err(Failure::new(Code::Draining, "The server is shutting down; nothing was handed out"));
    }
    let claim = {
        let body = body::read(&app, body).await?;
        if !body.bytes.is_empty() {
            body::require_json(&head.headers)?;
        }
        asked(queue, &body.bytes)?
    };
    // In a task of its own: who goes away in the middle of it leaves no lease behind.
    let (answer, answered) = oneshot::channel();
    app.tasks.spawn(hand_out(Arc::clone(&app), caller.clone(), claim, answer));
    let missing = |_| Failure::new(Code::Internal, "The messages could not be handed out");
    let (in_hand, deliveries) = answered.await.map_err(missing)??;
    let bytes = Bytes::from(written(&deliveries)?);
    handed(&app, &caller, in_hand, bytes)
}

/// The answer that carries what was leased.
pub(in crate::rest) fn handed(
    app: &App,
    caller: &Caller,
    in_hand: InHand,
    bytes: Bytes,
) -> Result<Response, Failure> {
    if in_hand.is_empty() {
        return Ok(json_response(bytes.into()));
    }
    let room = app.answers.of_key(&caller.holder().answers);
    let full = || {
        Failure::new(Code::Overloaded, "Too many long answers wait for their readers; nothing was handed out")
    };
    let bytes = room.hold(bytes).ok_or_else(full)?;
    let mut response = json_response(Vec::new());
    *response.body_mut() = Body::new(Handed::new(bytes, in_hand));
    // It has its room, and is not to be put together before it leaves.
    response.extensions_mut().insert(Shared);
    Ok(response)
}

fn asked(queue: WorkQueue, body: &[u8]) -> Result<WorkClaim, Failure> {
    fields(if body.is_empty() { b"{}" } else { body }, |form, errors| {
        let limit = form.whole("limit", 1..=CLAIM_MESSAGES_MAX.into(), errors);
        let lease = form.seconds("lease_seconds", MOMENT..=LEASE_MAX, errors);
        let wait = form.seconds("wait_seconds", Duration::ZERO..=CLAIM_WAIT_MAX, errors);
        WorkClaim {
            queue,
            limit: limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(1),
            lease: lease.unwrap_or(LEASE_USUAL),
            wait: wait.unwrap_or_default(),
        }
    })
}

/// Claims until there is something, whoever asks has gone or may no longer ask, or the node stops.
async fn hand_out(
    app: Arc<App>,
    caller: Caller,
    claim: WorkClaim,
    mut answer: oneshot::Sender<Result<(InHand, Vec<WorkDelivery>), Failure>>,
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
        app.broker.claim_work(&claim, ended).await
    };
    let in_hand = claimed.map_err(Failure::from).map(|deliveries| {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt).collect();
        (InHand::new(app, Whose::Queue(claim.queue), receipts), deliveries)
    });
    // Nobody there any more: they go back.
    drop(answer.send(in_hand));
}

fn written(deliveries: &[WorkDelivery]) -> Result<Vec<u8>, Failure> {
    json_bytes(&QueueDeliveries { deliveries: deliveries.iter().map(delivery).collect() })
}

fn delivery(delivery: &WorkDelivery) -> QueueDelivery<'_> {
    QueueDelivery {
        message_id: delivery.receipt.message_id().to_string(),
        receipt: delivery.receipt.to_string(),
        attempt: delivery.attempt,
        ordering_key: delivery.key.as_ref().and_then(|key| std::str::from_utf8(key).ok()),
        priority: delivery.priority,
        headers: headers(&delivery.headers),
        payload: payload(&delivery.payload),
        enqueued_at: rfc3339(delivery.enqueued_at),
        lease_expires_at: rfc3339(delivery.lease_expires_at),
    }
}

pub(super) fn headers(headers: &Headers) -> std::collections::BTreeMap<&str, &str> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// As it came; it was checked then.
pub(in crate::rest) fn payload(payload: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(payload).ok()
}

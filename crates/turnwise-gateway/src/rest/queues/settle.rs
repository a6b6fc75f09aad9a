//! `POST /api/v1/queues/{queue}/settle` and `…/extend`.

use super::form::{self, Form};
use super::{Items, each, item_error, items, queue_and_body};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{LEASE_USUAL, MOMENT, REASON_BYTES_MAX};
use crate::rest::json;
use crate::rest::message::rfc3339;
use crate::rest::rules::Errors;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{Code, LeaseAnswer, LeaseAnswers, LeaseState, QueueOutcome};
use turnwise_broker::{WorkExtended, WorkOutcome, WorkReceipt, WorkSettled, WorkSettlement};
use turnwise_core::limits::{LEASE_MAX, RETRY_DELAY_MAX};
use turnwise_core::{MessageId, StoreError, Timestamp};

const OUTCOMES: [(&str, QueueOutcome); 4] = [
    ("ack", QueueOutcome::Ack),
    ("retry", QueueOutcome::Retry),
    ("release", QueueOutcome::Release),
    ("dead", QueueOutcome::Dead),
];

/// What became of a lease.
enum Became {
    Done,
    Extended(Timestamp),
    LeaseLost,
    Failed(StoreError),
}

/// Ends leases.
pub(crate) async fn settle(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (queue, body) = queue_and_body(&app, &caller, path, request).await?;
    let (settlements, is_batch) = settlements(&body.bytes)?;
    drop(body);
    let ids: Vec<MessageId> = settlements.iter().map(|one| one.receipt.message_id()).collect();
    let settled = app.broker.settle_work(&queue, settlements).await?;
    let became = settled.into_iter().map(|settled| match settled {
        WorkSettled::Done => Became::Done,
        WorkSettled::LeaseLost => Became::LeaseLost,
        WorkSettled::Failed(error) => Became::Failed(error),
    });
    answered(ids, became, is_batch)
}

/// What is asked for, and whether it came as a batch.
pub(crate) fn settlements(body: &[u8]) -> Result<(Vec<WorkSettlement>, bool), Failure> {
    each(body, |form, errors| {
        let Settlement { receipt, outcome, delay, reason } =
            settlement(form, &OUTCOMES, [QueueOutcome::Retry, QueueOutcome::Dead], errors)?;
        let outcome = match outcome {
            QueueOutcome::Ack => WorkOutcome::Ack,
            QueueOutcome::Retry => WorkOutcome::Retry { delay, reason },
            QueueOutcome::Release => WorkOutcome::Release,
            QueueOutcome::Dead => WorkOutcome::Dead { reason },
        };
        Some(WorkSettlement { receipt, outcome })
    })
}

/// The end of one lease, as it is asked for.
pub(in crate::rest) struct Settlement<O> {
    pub(in crate::rest) receipt: WorkReceipt,
    pub(in crate::rest) outcome: O,
    /// Of a retry.
    pub(in crate::rest) delay: Option<Duration>,
    /// Of a retry, and of what is given up on.
    pub(in crate::rest) reason: Option<String>,
}

/// None if something is wrong with it, which is said then. `retry` and `dead` are those of the outcomes that may have
/// more beside them.
pub(in crate::rest) fn settlement<O: Copy + PartialEq>(
    mut form: Form<'_>,
    outcomes: &[(&'static str, O)],
    [retry, dead]: [O; 2],
    errors: &mut Errors,
) -> Option<Settlement<O>> {
    let receipt = receipt(&mut form, errors);
    if let (false, Some(((last, _), others))) = (form.has("outcome"), outcomes.split_last()) {
        let others: Vec<&str> = others.iter().map(|(word, _)| *word).collect();
        let detail = format!("is required: {} or {last}", others.join(", "));
        form::add(errors, form.pointer("outcome"), detail);
    }
    let outcome = form.word("outcome", outcomes, errors);
    let delay = form.seconds("delay_seconds", Duration::ZERO..=RETRY_DELAY_MAX, errors);
    let reason = form.text("reason", reason_rule, errors);
    if delay.is_some() && outcome.is_some_and(|outcome| outcome != retry) {
        form::add(errors, form.pointer("delay_seconds"), "may only stand beside outcome retry");
    }
    if reason.is_some() && outcome.is_some_and(|outcome| outcome != retry && outcome != dead) {
        form::add(errors, form.pointer("reason"), "may only stand beside outcome retry or dead");
    }
    form.finish(errors);
    Some(Settlement { receipt: receipt?, outcome: outcome?, delay, reason })
}

pub(in crate::rest) fn reason_rule(text: &str) -> Option<Cow<'static, str>> {
    let fits = (1..=REASON_BYTES_MAX).contains(&text.len());
    (!fits).then(|| format!("must have 1 to {REASON_BYTES_MAX} bytes").into())
}

pub(in crate::rest) fn receipt(form: &mut Form<'_>, errors: &mut Errors) -> Option<WorkReceipt> {
    if !form.has("receipt") {
        form::add(errors, form.pointer("receipt"), "is required; it comes with the message");
        return None;
    }
    let text = form.text("receipt", |_| None, errors)?;
    let receipt = text.parse().ok();
    if receipt.is_none() {
        form::add(errors, form.pointer("receipt"), "must be a receipt as it came with a message");
    }
    receipt
}

/// Lets leases go on.
pub(crate) async fn extend(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (queue, body) = queue_and_body(&app, &caller, path, request).await?;
    let (receipts, lease, is_batch) = {
        let mut errors = Errors::default();
        let Items { items, batch } = items(&body.bytes, &mut errors)?;
        let is_batch = batch.is_some();
        let mut lease = None;
        // It holds for the whole batch; of an only item it is a field.
        if let Some(mut batch) = batch {
            lease = batch.seconds("lease_seconds", MOMENT..=LEASE_MAX, &mut errors);
            batch.finish(&mut errors);
        }
        let mut receipts: Vec<WorkReceipt> = Vec::with_capacity(items.len());
        for mut form in items {
            receipts.extend(receipt(&mut form, &mut errors));
            if !is_batch {
                lease = form.seconds("lease_seconds", MOMENT..=LEASE_MAX, &mut errors);
            }
            form.finish(&mut errors);
        }
        errors.into_result()?;
        (receipts, lease.unwrap_or(LEASE_USUAL), is_batch)
    };
    drop(body);
    let ids: Vec<MessageId> = receipts.iter().map(WorkReceipt::message_id).collect();
    let extended = app.broker.extend_work(&queue, &receipts, lease).await?;
    let became = extended.into_iter().map(|extended| match extended {
        WorkExtended::Until(until) => Became::Extended(until),
        WorkExtended::LeaseLost => Became::LeaseLost,
        WorkExtended::Failed(error) => Became::Failed(error),
    });
    answered(ids, became, is_batch)
}

/// One by one for a batch; for an only item, what went wrong is a problem.
fn answered(
    ids: Vec<MessageId>,
    became: impl Iterator<Item = Became>,
    is_batch: bool,
) -> Result<Response, Failure> {
    let mut results = Vec::with_capacity(ids.len());
    for (id, became) in ids.into_iter().zip(became) {
        let mut result = LeaseAnswer {
            message_id: id.to_string(),
            status: LeaseState::Done,
            lease_expires_at: None,
            error: None,
        };
        match became {
            Became::Done => {}
            Became::Extended(until) => {
                result.status = LeaseState::Extended;
                result.lease_expires_at = Some(rfc3339(until));
            }
            Became::LeaseLost if is_batch => result.status = LeaseState::LeaseLost,
            Became::LeaseLost => {
                let detail = "The lease on this message is over; nothing was changed";
                return Err(Failure::new(Code::LeaseLost, detail).about(id));
            }
            Became::Failed(error) if is_batch => {
                result.status = LeaseState::Failed;
                result.error = Some(item_error(error));
            }
            Became::Failed(error) => return Err(error.into()),
        }
        results.push(result);
    }
    if is_batch {
        return json(&LeaseAnswers { results });
    }
    let only = results.into_iter().next();
    json(&only.ok_or_else(|| Failure::new(Code::Internal, "The store gave no answer"))?)
}

//! What operators do: redrive, remove, purge.

use super::form::{self, Form};
use super::settle::reason_rule;
use super::{fields, queue_and_body, queue_and_id};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{QUEUE_BATCH_MAX, RATE_MAX, RATE_MIN};
use crate::rest::json;
use crate::rest::rules::Errors;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{Code, QueueRedriven, QueueRemoved, Text};
use turnwise_broker::{WorkFilter, WorkRedrive};
use turnwise_core::{MessageId, Removed, Stage};

/// `POST /api/v1/queues/{queue}/redrive`.
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (queue, body) = queue_and_body(&app, &caller, path, request).await?;
    let (which, dry_run, rate) = fields(&body.bytes, |form, errors| {
        let rate = form.number("rate_per_second", RATE_MIN..=RATE_MAX, errors);
        (which(form, errors), form.flag("dry_run", errors), rate)
    })?;
    drop(body);
    let begun = app.drain.begun();
    let done = app.broker.redrive_work(&queue, which, dry_run, rate, begun.cancelled()).await?;
    json(&QueueRedriven { redriven: done.count, more: done.more, dry_run })
}

fn which(form: &mut Form<'_>, errors: &mut Errors) -> WorkRedrive {
    let named = ["ids", "all", "filter"].into_iter().filter(|name| form.has(name)).count();
    let ids = ids(form, errors);
    let all = form.flag("all", errors);
    let filter = form.object("filter", errors).map(|filter| filtered(filter, errors));
    if named != 1 || (ids.is_none() && filter.is_none() && !all) {
        form::add(errors, form.pointer("ids"), "exactly one of ids, all: true and filter is required");
    }
    match ids {
        Some(ids) => WorkRedrive::These(ids),
        None => WorkRedrive::Filtered(filter.unwrap_or_default()),
    }
}

/// What is no id names nothing.
fn ids(form: &mut Form<'_>, errors: &mut Errors) -> Option<Vec<MessageId>> {
    let raw = form.value("ids")?;
    let texts = form::list(raw, QUEUE_BATCH_MAX).and_then(|list| {
        list.into_iter()
            .map(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok())
            .collect::<Option<Vec<_>>>()
    });
    if texts.is_none() {
        form::add(errors, form.pointer("ids"), format!("must be an array of at most {QUEUE_BATCH_MAX} ids"));
    }
    Some(texts.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect())
}

fn filtered(mut form: Form<'_>, errors: &mut Errors) -> WorkFilter {
    let filter = WorkFilter {
        reason: form.text("reason_contains", reason_rule, errors),
        from: form.time("enqueued_from", errors),
        before: form.time("enqueued_before", errors),
    };
    form.finish(errors);
    filter
}

/// `DELETE /api/v1/queues/{queue}/messages/{id}`.
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let (queue, id) = queue_and_id(&caller, path, &uri)?;
    match app.broker.remove_work(&queue, id).await? {
        Removed::Done => json(&QueueRemoved { removed: 1, more: false, dry_run: false }),
        Removed::Leased => {
            Err(Failure::new(Code::MessageLeased, "The message is in somebody's hands just now").about(id))
        }
        Removed::Dead | Removed::NotFound => Err(Failure::not_found()),
    }
}

/// `POST /api/v1/queues/{queue}/purge`.
pub(crate) async fn purge(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    const STAGES: [(&str, &[Stage]); 4] = [
        ("ready", &[Stage::Ready]),
        ("scheduled", &[Stage::Scheduled]),
        ("dead", &[Stage::Dead]),
        ("all", &[Stage::Scheduled, Stage::Ready, Stage::Dead]),
    ];
    let (queue, body) = queue_and_body(&app, &caller, path, request).await?;
    let (stages, dry_run) = fields(&body.bytes, |form, errors| {
        if !form.has("stage") {
            form::add(errors, form.pointer("stage"), "is required: ready, scheduled, dead or all");
        }
        (form.word("stage", &STAGES, errors).unwrap_or_default(), form.flag("dry_run", errors))
    })?;
    drop(body);
    let done = app.broker.purge_work(&queue, stages, dry_run).await?;
    json(&QueueRemoved { removed: done.count, more: done.more, dry_run })
}

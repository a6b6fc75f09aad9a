//! `/api/v1/queues`: work queues for services. A queue belongs to an
//! organisation and needs no creation.

pub(crate) mod claim;
pub(in crate::rest) mod form;
pub(in crate::rest) mod handed;
pub(crate) mod inspect;
pub(crate) mod mend;
pub(crate) mod policy;
pub(crate) mod send;
pub(crate) mod settle;

use super::query::{Parameters, org};
use super::rules::Errors;
use super::submission;
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::QUEUE_BATCH_MAX;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use form::Form;
use http::Uri;
use turnwise_api::{Code, ItemError};
use turnwise_broker::WorkQueue;
use turnwise_core::{MessageId, StoreError};

/// The queue in the path.
fn queue(caller: &Caller, name: &str, uri: &Uri) -> Result<WorkQueue, Failure> {
    let org = org(caller, &Parameters::of(uri)?)?;
    let must = "must be 1 to 128 letters, digits and _ . : -";
    WorkQueue::new(&org, name).ok_or_else(|| Failure::invalid_at("queue", must))
}

/// The same of a route that names nothing else.
fn only_queue(
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
) -> Result<WorkQueue, Failure> {
    let name = path.map_or_else(|_| String::new(), |Path(name)| name);
    queue(caller, &name, uri)
}

/// The queue and the message in the path; what is no id names no message.
fn queue_and_id(
    caller: &Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: &Uri,
) -> Result<(WorkQueue, MessageId), Failure> {
    let (name, id) = path.map_or_else(|_| Default::default(), |Path(names)| names);
    let queue = queue(caller, &name, uri)?;
    let id = id.parse().map_err(|()| Failure::not_found())?;
    Ok((queue, id))
}

/// The queue that a request is about, and its body.
async fn queue_and_body<'a>(
    app: &'a App,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(WorkQueue, body::Read<'a>), Failure> {
    let (head, body) = request.into_parts();
    let queue = only_queue(caller, path, &head.uri)?;
    body::require_json(&head.headers)?;
    Ok((queue, body::read(app, body).await?))
}

/// The fields of a body that is one object: all that is known of it is taken, and the rest refused.
pub(in crate::rest) fn fields<T>(
    body: &[u8],
    take: impl FnOnce(&mut Form<'_>, &mut Errors) -> T,
) -> Result<T, Failure> {
    let mut errors = Errors::default();
    let mut form = object(body)?;
    let taken = take(&mut form, &mut errors);
    form.finish(&mut errors);
    errors.into_result()?;
    Ok(taken)
}

/// A body that is one object.
pub(in crate::rest) fn object(body: &[u8]) -> Result<Form<'_>, Failure> {
    Form::of(submission::utf8(body)?, String::new()).map_err(|error| submission::unreadable(&error))
}

/// The items of a batch, or the only one, which is told apart because it is answered as one. What stands beside
/// `items` is left in the form that is answered.
pub(in crate::rest) struct Items<'b> {
    pub(in crate::rest) items: Vec<Form<'b>>,
    /// The batch itself; none for a single item.
    pub(in crate::rest) batch: Option<Form<'b>>,
}

pub(in crate::rest) fn items<'b>(body: &'b [u8], errors: &mut Errors) -> Result<Items<'b>, Failure> {
    let mut whole = object(body)?;
    let Some(raw) = whole.raw("items") else { return Ok(Items { items: vec![whole], batch: None }) };
    let raw = form::list(raw, QUEUE_BATCH_MAX).filter(|raw| (1..=QUEUE_BATCH_MAX).contains(&raw.len()));
    let Some(raw) = raw else {
        errors.add("/items", format!("must be an array of 1 to {QUEUE_BATCH_MAX} objects"));
        return Ok(Items { items: Vec::new(), batch: Some(whole) });
    };
    let mut items = Vec::with_capacity(raw.len());
    for (place, raw) in raw.into_iter().enumerate() {
        match Form::of(raw.get(), format!("/items/{place}")) {
            Ok(form) => items.push(form),
            Err(_) => form::add(errors, format!("/items/{place}"), "must be an object".to_owned()),
        }
    }
    Ok(Items { items, batch: Some(whole) })
}

/// The same one by one; none of an item with which something is wrong. Answers whether it came as a batch.
pub(in crate::rest) fn each<T>(
    body: &[u8],
    mut take: impl FnMut(Form<'_>, &mut Errors) -> Option<T>,
) -> Result<(Vec<T>, bool), Failure> {
    let mut errors = Errors::default();
    let Items { items, batch } = items(body, &mut errors)?;
    let is_batch = batch.is_some();
    if let Some(batch) = batch {
        batch.finish(&mut errors);
    }
    let taken = items.into_iter().filter_map(|form| take(form, &mut errors)).collect();
    errors.into_result()?;
    Ok((taken, is_batch))
}

/// What the store said about one item.
pub(in crate::rest) fn item_error(error: StoreError) -> ItemError {
    let (code, detail) = match error {
        StoreError::Unavailable(_) => {
            (Code::StoreUnavailable, "The store could not take this item; nothing was done".to_owned())
        }
        StoreError::Unknown(_) => {
            (Code::OutcomeUnknown, "The store did not confirm this item in time".to_owned())
        }
        StoreError::Invalid(why) => (Code::InvalidContent, why),
        StoreError::Corrupt(why) => {
            tracing::error!(%why, "the stored data is damaged");
            (Code::StoreUnavailable, "The store could not take this item".to_owned())
        }
    };
    ItemError::new(code, detail)
}

//! `/api/v1/callbacks`: what waits or was given up on, and what operators may do about it.

use super::query::{self, Parameters};
use super::rules::{self, Errors};
use super::{json, message, strict};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::hex;
use crate::limits::{CALLBACKS_NAMED_MAX, CALLBACKS_PAGE_MAX, CALLBACKS_PAGE_USUAL};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{StatusCode, Uri};
use std::sync::Arc;
use turnwise_api::{
    CallbackAnswer, CallbackList, CallbackPhase, Code, RedriveAnswer, RedriveRequest, TurnCallback,
};
use turnwise_broker::{
    CallbackPlace, CallbackRedrive, CallbackStage, CallbackState, CallbackView, DropCallback,
};
use turnwise_core::MessageId;

/// `GET /api/v1/callbacks`.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let mut errors = Errors::default();
    let stage = match parameters.get("stage") {
        None | Some("dead") => CallbackStage::Dead,
        Some("waiting") => CallbackStage::Waiting,
        Some(_) => {
            errors.add("?stage", "must be dead or waiting");
            CallbackStage::Dead
        }
    };
    let limit = parameters.limit(CALLBACKS_PAGE_USUAL, CALLBACKS_PAGE_MAX, &mut errors);
    let org = parameters.get("org_id");
    if let Some(detail) = org.and_then(rules::id) {
        errors.add("?org_id", detail);
    }
    errors.into_result()?;
    let after = match parameters.get("after") {
        None => None,
        Some(text) => Some(
            place(text)
                .ok_or_else(|| Failure::new(Code::BadRequest, "`after` is not a cursor of this list"))?,
        ),
    };
    let page = app.broker.callbacks(&caller.scope_in(org), stage, after, limit).await?;
    json(&CallbackList {
        items: page.items.iter().map(answer).collect(),
        next: page.next.as_ref().map(cursor),
    })
}

/// `GET /api/v1/callbacks/{id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let id = query::message_id(path)?;
    let view = app.broker.callback(&caller.scope(), id).await?.ok_or_else(Failure::not_found)?;
    json(&answer(&view))
}

/// `POST /api/v1/callbacks/redrive`.
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    body::require_json(&head.headers)?;
    let request: RedriveRequest = {
        let body = body::read(&app, body).await?;
        strict(&body.bytes, "must be one JSON object with ids or all, org_id and dry_run, and nothing else")?
    };
    let mut errors = Errors::default();
    if let Some(detail) = request.org_id.as_deref().and_then(rules::id) {
        errors.add("/org_id", detail);
    }
    let which = match (request.ids, request.all) {
        (Some(ids), false) if ids.len() <= CALLBACKS_NAMED_MAX => {
            // What is no id names nothing.
            CallbackRedrive::These(ids.iter().filter_map(|id| id.parse::<MessageId>().ok()).collect())
        }
        (Some(_), false) => {
            errors.add("/ids", format!("must hold at most {CALLBACKS_NAMED_MAX} ids"));
            CallbackRedrive::These(Vec::new())
        }
        (None, true) => CallbackRedrive::All,
        (Some(_), true) | (None, false) => {
            errors.add("/ids", "either ids or all: true is required, and not both");
            CallbackRedrive::These(Vec::new())
        }
    };
    errors.into_result()?;
    let scope = caller.scope_in(request.org_id.as_deref());
    let redriven = app.broker.redrive_callbacks(&scope, which, request.dry_run).await?;
    json(&RedriveAnswer { redriven, dry_run: request.dry_run })
}

/// `DELETE /api/v1/callbacks/{id}`.
pub(crate) async fn discard(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let id = query::message_id(path)?;
    match app.broker.drop_callback(&caller.scope(), id).await? {
        DropCallback::NotFound => Err(Failure::not_found()),
        DropCallback::InProgress => {
            Err(Failure::new(Code::CallbackInProgress, "The callback is being delivered just now"))
        }
        DropCallback::Dropped => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
    }
}

fn cursor(place: &CallbackPlace) -> String {
    format!("{}.{}", place.id, hex::write(place.org.bytes()))
}

fn place(text: &str) -> Option<CallbackPlace> {
    let (id, org) = text.split_once('.')?;
    let org = String::from_utf8(hex::read(org)?).ok()?;
    rules::id(&org).is_none().then_some(())?;
    Some(CallbackPlace { org, id: id.parse().ok()? })
}

fn answer(view: &CallbackView) -> CallbackAnswer {
    let turn = of_turn(view);
    CallbackAnswer {
        id: turn.id.unwrap_or_default(),
        org_id: view.org.clone(),
        message_id: view.turn.to_string(),
        status: turn.status,
        origin: view.origin.clone(),
        created_at: view.created_at.map(message::rfc3339),
        attempts: turn.attempts,
        next_attempt_at: turn.next_attempt_at,
        last_attempt_at: turn.last_attempt_at,
        last_status: turn.last_status,
        last_error: turn.last_error,
    }
}

/// The same as part of its turn.
pub(crate) fn of_turn(view: &CallbackView) -> TurnCallback {
    TurnCallback {
        id: view.id.map(|id| id.to_string()),
        status: match view.state {
            CallbackState::Waiting => CallbackPhase::Waiting,
            CallbackState::Delivering => CallbackPhase::Delivering,
            CallbackState::Delivered => CallbackPhase::Delivered,
            CallbackState::Dead => CallbackPhase::Dead,
            CallbackState::Dropped => CallbackPhase::Dropped,
        },
        attempts: view.attempts,
        next_attempt_at: view.next_attempt_at.map(message::rfc3339),
        last_attempt_at: view.last.as_ref().map(|last| message::rfc3339(last.at)),
        last_status: view.last.as_ref().and_then(|last| last.status),
        last_error: view.last.as_ref().and_then(|last| last.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_nothing_else_does() {
        let place_of = CallbackPlace { org: "a.b/ü".to_owned(), id: MessageId::new(7, 9) };
        assert_eq!(place(&cursor(&place_of)), Some(place_of.clone()));
        let good = cursor(&place_of);
        for wrong in
            ["", ".", "x", &good[1..], &format!("{good}f"), &format!("{good}zz"), &good.replace('.', "")]
        {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}

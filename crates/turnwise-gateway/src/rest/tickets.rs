//! `POST /api/v1/tickets`: leave to read one stream, for a browser.

use super::{json, strict};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::{TICKET_FIRST_USE_MAX, TICKET_LIFETIME};
use crate::ticket::StreamOf;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;
use turnwise_api::{TicketAnswer, TicketRequest};
use turnwise_core::MessageId;

const FORM: &str = "must be {\"stream\": {\"user_id\": \"…\", \"message_id\": \"…\"}} and nothing else";

pub(crate) async fn issue(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    body::require_json(&head.headers)?;
    let body = body::read(&app, body).await?;
    let TicketRequest { stream } = strict(&body.bytes, FORM)?;
    let id: MessageId = stream.message_id.parse().map_err(|()| Failure::not_found())?;
    let view = app.broker.turn(&caller.scope(), id).await?;
    let view = view.filter(|view| view.user == stream.user_id).ok_or_else(Failure::not_found)?;
    let stream = StreamOf { org: view.org.into(), user: view.user, id };
    let tickets = app.tickets.as_ref().ok_or_else(Failure::not_found)?;
    let ticket = tickets.issue(&caller, stream)?;
    let mut response = json(&TicketAnswer {
        ticket: &ticket,
        first_use_seconds: TICKET_FIRST_USE_MAX.as_secs(),
        lifetime_seconds: TICKET_LIFETIME.as_secs(),
    })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

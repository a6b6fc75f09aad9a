//! `POST /api/v1/tickets`: leave to read one stream, to follow some topics or
//! to open one WebSocket, for a browser.

use super::query;
use super::rules::{self, Errors};
use super::{json, strict};
use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::error::Failure;
use crate::limits::{PATTERNS_MAX, TICKET_FIRST_USE_MAX, TICKET_LIFETIME};
use crate::scope::Access;
use crate::ticket::{StreamOf, TicketFor, TopicsOf};
use crate::ws::{Identity, require_agent};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use turnwise_api::{Code, TicketAnswer, TicketConnection, TicketRequest, TicketStream, TicketTopics};
use turnwise_core::MessageId;

const FORM: &str = "must be {\"stream\": {\"user_id\": \"…\", \"message_id\": \"…\"}}, {\"subscribe\": {\"topics\": […]}} \
                    or {\"connect\": {…}}, and nothing else";

pub(crate) async fn issue(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    body::require_json(&head.headers)?;
    let body = body::read(&app, body).await?;
    let (what, lifetime) = match strict(&body.bytes, FORM)? {
        TicketRequest { stream: Some(stream), subscribe: None, connect: None } => {
            (TicketFor::Turn(turn(&app, &caller, &stream).await?), TICKET_LIFETIME)
        }
        TicketRequest { stream: None, subscribe: Some(topics), connect: None } => {
            (TicketFor::Topics(followed(&caller, topics)?), TICKET_LIFETIME)
        }
        TicketRequest { stream: None, subscribe: None, connect: Some(who) } => {
            (TicketFor::Connection(identity(&caller, who)?), Duration::ZERO)
        }
        _ => return Err(Failure::new(Code::InvalidContent, format!("The body {FORM}"))),
    };
    let tickets = app.tickets.as_ref().ok_or_else(Failure::not_found)?;
    let ticket = tickets.issue(&caller, what)?;
    let mut response = json(&TicketAnswer {
        ticket: &ticket,
        first_use_seconds: TICKET_FIRST_USE_MAX.as_secs(),
        lifetime_seconds: lifetime.as_secs(),
    })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn turn(app: &App, caller: &Caller, stream: &TicketStream<'_>) -> Result<StreamOf, Failure> {
    caller.require(Access::Read)?;
    let id: MessageId = stream.message_id.parse().map_err(|()| Failure::not_found())?;
    let view = app.broker.turn(&caller.scope(), id).await?;
    let view = view.filter(|view| view.user == stream.user_id).ok_or_else(Failure::not_found)?;
    Ok(StreamOf { org: view.org.into(), user: view.user, id })
}

fn followed(caller: &Caller, wanted: TicketTopics) -> Result<TopicsOf, Failure> {
    caller.require(Access::TopicsRead)?;
    let org = query::org_named(caller, wanted.org_id.as_deref(), "/subscribe/org_id")?;
    let topics: BTreeSet<String> = wanted.topics.into_iter().collect();
    let mut errors = Errors::default();
    if !(1..=PATTERNS_MAX).contains(&topics.len()) {
        errors.add("/subscribe/topics", format!("must be 1 to {PATTERNS_MAX} topics and patterns"));
    }
    if let Some(detail) = topics.iter().find_map(|topic| rules::topic_pattern(topic)) {
        errors.add("/subscribe/topics", detail);
    }
    errors.into_result()?;
    Ok(TopicsOf { org, topics })
}

fn identity(caller: &Caller, who: TicketConnection) -> Result<Identity, Failure> {
    caller.require(Access::Connect)?;
    let org = query::org_named(caller, who.org_id.as_deref(), "/connect/org_id")?;
    if let Some(agent) = &who.agent_id {
        require_agent(caller, agent)?;
    }
    let identity = Identity { org, user: who.user_id, workspace: who.workspace_id, agent: who.agent_id };
    let mut errors = Errors::default();
    let named = [
        ("/connect/user_id", &identity.user),
        ("/connect/workspace_id", &identity.workspace),
        ("/connect/agent_id", &identity.agent),
    ];
    for (pointer, value) in named {
        if let Some(detail) = value.as_deref().and_then(rules::id) {
            errors.add(pointer, detail);
        }
    }
    errors.into_result()?;
    Ok(identity)
}

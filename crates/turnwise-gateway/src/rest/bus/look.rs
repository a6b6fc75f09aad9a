//! `GET` of agents, and of what became of a message.

use super::{agent, reply, state};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{BUS_RECIPIENTS_TOLD_MAX, QUEUE_PAGE_MAX, QUEUE_PAGE_USUAL};
use crate::rest::json;
use crate::rest::message::rfc3339;
use crate::rest::query::{Parameters, org};
use crate::rest::rules::{self, Errors};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{BusAgentAnswer, BusAgentList, BusReceiptAnswer, BusRecipientAnswer};
use turnwise_broker::{BusAgentView, BusMessageId, BusRecipient};

/// `GET /api/v1/bus/agents`.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    let mut errors = Errors::default();
    let limit = limit(&parameters, QUEUE_PAGE_USUAL, QUEUE_PAGE_MAX, &mut errors);
    let after = parameters.optional("after", rules::id, &mut errors);
    let workspace = parameters.optional("workspace_id", rules::id, &mut errors);
    errors.into_result()?;
    let mut found = app.broker.bus_agents(&org, workspace, after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let items: Vec<BusAgentAnswer> = found.into_iter().map(shown).collect();
    let next = items.last().filter(|_| more).map(|last| last.agent_id.clone());
    json(&BusAgentList { items, next })
}

fn limit(parameters: &Parameters, usual: u32, most: u32, errors: &mut Errors) -> usize {
    usize::try_from(parameters.limit(usual, most, errors)).unwrap_or(usize::MAX)
}

fn shown(view: BusAgentView) -> BusAgentAnswer {
    BusAgentAnswer {
        agent_id: view.presence.agent,
        online: view.presence.is_online,
        since: view.presence.since.map(rfc3339),
        connections: view.connections,
        workspaces: view.workspaces,
        topics: view.topics,
    }
}

/// `GET /api/v1/bus/agents/{agent_id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let agent = agent(path)?;
    let org = org(&caller, &Parameters::of(&uri)?)?;
    let view = app.broker.bus_agent(&org, &agent).await?.ok_or_else(Failure::not_found)?;
    json(&shown(view))
}

/// `GET /api/v1/bus/receipts/{bus_message_id}`: for who may be its sender or one of its recipients.
pub(crate) async fn receipt(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let org = org(&caller, &parameters)?;
    let mut errors = Errors::default();
    let limit = limit(&parameters, BUS_RECIPIENTS_TOLD_MAX, BUS_RECIPIENTS_TOLD_MAX, &mut errors);
    let after = parameters.optional("after", rules::id, &mut errors);
    errors.into_result()?;
    let Ok(Path(text)) = path else { return Err(Failure::not_found()) };
    let id: BusMessageId = text.parse().map_err(|()| Failure::not_found())?;
    let view = app.broker.bus_receipt(&org, &id).await?.ok_or_else(Failure::not_found)?;
    let is_theirs = caller.may_be(&view.from) || view.recipients.iter().any(|one| caller.may_be(&one.agent));
    if !is_theirs {
        return Err(Failure::not_found());
    }
    let behind = view.recipients.iter().filter(|one| after.is_none_or(|after| one.agent.as_str() > after));
    let mut recipients: Vec<BusRecipientAnswer<'_>> = behind.take(limit + 1).map(recipient).collect();
    let more = recipients.len() > limit;
    recipients.truncate(limit);
    let next = recipients.last().filter(|_| more).map(|last| last.agent_id);
    json(&BusReceiptAnswer {
        message_id: id.as_str(),
        from_agent: &view.from,
        workspace_id: view.workspace.as_deref(),
        topic: view.topic.as_deref(),
        sent_at: rfc3339(view.sent_at),
        expires_at: view.expires_at.map(rfc3339),
        recipients,
        next,
        reply: view.reply.as_ref().map(reply),
    })
}

fn recipient(one: &BusRecipient) -> BusRecipientAnswer<'_> {
    BusRecipientAnswer {
        agent_id: &one.agent,
        state: state(&one.state),
        at: rfc3339(one.at),
        offline_since: one.state.offline_since().map(rfc3339),
        delivered_at: one.delivered_at.map(rfc3339),
        ended_at: one.ended_at.map(rfc3339),
        reason: one.state.reason(),
    }
}

//! `/ws/connections` and `/ws/stats`: who is connected, for administrators.

use super::connections::Connection;
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{CONNECTIONS_PAGE_MAX, CONNECTIONS_PAGE_USUAL};
use crate::rest::json;
use crate::rest::query::Parameters;
use crate::rest::rules::Errors;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{ConnectionAnswer, ConnectionList, ConnectionState, ConnectionStats, Rfc3339};
use turnwise_core::Timestamp;

/// `GET /ws/connections`.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let mut errors = Errors::default();
    let mut number =
        |name: &'static str, usual: u64, most: u64, what: &str| match parameters.get(name).map(str::parse) {
            None => usual,
            Some(Ok(number)) if (1..=most).contains(&number) => number,
            Some(Ok(_) | Err(_)) => {
                errors.add(format!("?{name}"), what.to_owned());
                usual
            }
        };
    let after = number("after", 0, u64::MAX, "must be `next` of the page before");
    let what = format!("must be a number from 1 to {CONNECTIONS_PAGE_MAX}");
    let limit = number("limit", CONNECTIONS_PAGE_USUAL, CONNECTIONS_PAGE_MAX, &what);
    errors.into_result()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = app.sockets.list(&caller, after, limit);
    let now = app.broker.now();
    let next = found.last().filter(|_| found.len() == limit).map(|(number, _)| number.to_string());
    json(&ConnectionList {
        total_connections: app.sockets.totals(&caller).connections,
        connections: found.iter().map(|(_, connection)| answer(connection, now)).collect(),
        next,
    })
}

/// `GET /ws/connections/{connection_id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Ok(Path(id)) = path else { return Err(Failure::not_found()) };
    let connection = app.sockets.find(&caller, &id).ok_or_else(Failure::not_found)?;
    json(&answer(&connection, app.broker.now()))
}

/// `GET /ws/stats`.
pub(crate) async fn stats(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Failure> {
    let totals = app.sockets.totals(&caller);
    json(&ConnectionStats {
        total_connections: totals.connections,
        unique_users: totals.users,
        unique_workspaces: totals.workspaces,
        unique_agents: totals.agents,
        active_topics: totals.topics,
    })
}

fn answer(connection: &Connection, now: Timestamp) -> ConnectionAnswer {
    let who = &connection.identity;
    let micros = now.0.saturating_sub(connection.connected_at.0).max(0);
    ConnectionAnswer {
        connection_id: connection.id.clone(),
        org_id: who.org.clone(),
        user_id: who.user.clone(),
        workspace_id: who.workspace.clone(),
        agent_id: who.agent.clone(),
        subscriptions: connection.topics.lock().clone(),
        state: if connection.is_closing() { ConnectionState::Closing } else { ConnectionState::Connected },
        connected_at: Rfc3339(connection.connected_at.0),
        duration_seconds: micros as f64 / 1e6,
    }
}

//! `/health`, `/livez`, `/readyz`: from counters and cached probes only.

use super::json;
use super::query::Parameters;
use crate::app::App;
use crate::drain::Phase;
use crate::error::Failure;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{Code, Health, HealthStatus, Readiness};

/// The original's form; always 200.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let store = app.broker.health();
    let agent = (app.config.agent)();
    let status = match (store.store_ok, agent) {
        (false, _) => HealthStatus::Unhealthy,
        (true, Some(true)) => HealthStatus::Healthy,
        (true, Some(false) | None) => HealthStatus::Degraded,
    };
    json(&Health {
        status,
        redis_connected: store.store_ok,
        active_queues: store.active_queues,
        messages_processing: store.processing,
        worker_connected: agent == Some(true),
    })
}

/// The process answers; nothing else is looked at.
pub(crate) async fn livez() -> Result<Response, Failure> {
    json(&Readiness { status: "live", store: None, agent: None })
}

/// Whether work should be sent here.
pub(crate) async fn readyz(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Failure> {
    let verbose = Parameters::of(&uri)?.has("verbose");
    if app.drain.phase() > Phase::Serving {
        return Err(Failure::new(Code::Draining, "The server is shutting down"));
    }
    let store = if app.broker.health().store_ok { "ok" } else { "down" };
    let agent = match (app.config.agent)() {
        Some(true) => "ok",
        Some(false) => "down",
        None => "none",
    };
    if store == "down" {
        let detail = if verbose {
            format!("store: down; agent: {agent}")
        } else {
            "The store does not answer".to_owned()
        };
        return Err(Failure::new(Code::NotReady, detail));
    }
    let shown = |part| verbose.then_some(part);
    json(&Readiness { status: "ready", store: shown(store), agent: shown(agent) })
}

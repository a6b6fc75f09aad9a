//! `/health`, `/livez`, `/readyz`: from counters and cached probes only.

use super::json;
use super::query::Parameters;
use super::status::millis;
use crate::app::App;
use crate::error::Failure;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{Code, Health, HealthStatus, Readiness, StoreCheck};
use turnwise_broker::{CheckState, CheckView};

/// The original's form; always 200.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let store = app.broker.health();
    json(&Health {
        status: status(&app),
        redis_connected: store.store_ok,
        active_queues: store.active_queues,
        messages_processing: store.processing,
        worker_connected: (app.config.agent)() == Some(true),
        store_weakness: (app.config.store)().weakness,
    })
}

/// How the whole node is.
pub(crate) fn status(app: &App) -> HealthStatus {
    match (app.broker.health().store_ok, (app.config.agent)()) {
        (false, _) => HealthStatus::Unhealthy,
        (true, Some(true)) => HealthStatus::Healthy,
        (true, Some(false) | None) => HealthStatus::Degraded,
    }
}

/// How the store and the agent are.
pub(crate) fn parts(app: &App) -> (&'static str, &'static str) {
    let agent = match (app.config.agent)() {
        Some(true) => "ok",
        Some(false) => "down",
        None => "none",
    };
    (if app.broker.health().store_ok { "ok" } else { "down" }, agent)
}

/// The process answers; nothing else is looked at.
pub(crate) async fn livez() -> Result<Response, Failure> {
    json(&Readiness { status: "live", ..Readiness::default() })
}

/// Whether work should be sent here.
pub(crate) async fn readyz(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Failure> {
    let verbose = Parameters::of(&uri)?.has("verbose");
    app.require_serving()?;
    let (store, agent) = parts(&app);
    if store == "down" {
        let detail = if verbose {
            format!("store: down; agent: {agent}")
        } else {
            "The store does not answer".to_owned()
        };
        return Err(Failure::new(Code::NotReady, detail));
    }
    if let Some(check) = app.broker.failed_check() {
        let detail = format!("The store answers, but fails the check `{}`; the log says why", check.name());
        return Err(Failure::new(Code::NotReady, detail));
    }
    if !verbose {
        return json(&Readiness { status: "ready", ..Readiness::default() });
    }
    json(&Readiness {
        status: "ready",
        store: Some(store),
        agent: Some(agent),
        store_ms: Some(millis(app.broker.numbers().store_probe)),
        agent_ms: (app.config.agent_probe)().map(millis),
        checks: Some(app.broker.checks().map(check).into()),
    })
}

fn check(view: CheckView) -> StoreCheck {
    let state = match view.state {
        CheckState::Unknown => "unknown",
        CheckState::Healthy => "healthy",
        CheckState::Degraded => "degraded",
        CheckState::Unhealthy => "unhealthy",
    };
    StoreCheck {
        name: view.kind.name(),
        state,
        latency_ms: view.last.map(millis),
        average_ms: view.average.map(millis),
        min_ms: view.min.map(millis),
        max_ms: view.max.map(millis),
        measured: view.measured,
        failed: view.failed,
    }
}

//! `GET /api/v1/status`: the node for people. From memory, like `/metrics`, and for the same callers.

use super::{json, seconds};
use crate::app::App;
use crate::drain::Phase;
use crate::error::Failure;
use crate::rest::health;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use turnwise_api::{NodeStatus, Part, StorePart, TurnNumbers};

pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let (store, numbers) = (app.broker.health(), app.broker.numbers());
    let report = (app.config.store)();
    let (store_state, agent_state) = health::parts(&app);
    json(&NodeStatus {
        status: health::status(&app),
        version: env!("CARGO_PKG_VERSION"),
        draining: app.drain.phase() > Phase::Serving,
        uptime_seconds: seconds(numbers.uptime),
        store: StorePart {
            state: store_state,
            latency_ms: Some(millis(numbers.store_probe)),
            losses: report.losses,
            weakness: report.weakness,
        },
        agent: Part { state: agent_state, latency_ms: (app.config.agent_probe)().map(millis) },
        turns: TurnNumbers {
            waiting: numbers.waiting,
            in_flight: numbers.in_flight,
            dead: numbers.dead,
            oldest_waiting_seconds: numbers.oldest_waiting.map(seconds),
            conversations: store.active_queues,
            accepted: numbers.accepted,
            ended: numbers.ended.into_iter().collect(),
            leases_lost: numbers.leases_lost,
        },
        streams_open: app.counts.streams.get(),
        connections: app.counters.connections(),
    })
}

/// Milliseconds for people, to the microsecond.
pub(crate) fn millis(time: std::time::Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

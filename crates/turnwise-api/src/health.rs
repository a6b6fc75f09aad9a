//! `/health`, `/livez` and `/readyz`.

use serde::Serialize;
use utoipa::ToSchema;

/// How the whole node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Store and agent answer.
    Healthy,
    /// The store answers, the agent does not.
    Degraded,
    /// The store does not answer.
    Unhealthy,
}

/// The answer of `GET /health`, always with HTTP 200.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// How the whole node is.
    pub status: HealthStatus,
    /// The store answers. The name is the original's.
    pub redis_connected: bool,
    /// Conversations with a turn that waits or runs.
    pub active_queues: u64,
    /// Turns at the agent.
    pub messages_processing: u64,
    /// The agent answers.
    pub worker_connected: bool,
    /// What the store may lose of what it acknowledges, if the operator allowed that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub store_weakness: Option<String>,
}

/// The answer of `/livez`, and of `/readyz` when all is well.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Readiness {
    /// `live` or `ready`.
    pub status: &'static str,
    /// With `?verbose`: `ok` or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub store: Option<&'static str>,
    /// With `?verbose`: `ok`, `down` or `none`. Never makes a node not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub agent: Option<&'static str>,
    /// With `?verbose`: how long the store took to answer when it was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ms: Option<f64>,
    /// With `?verbose`: the same of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_ms: Option<f64>,
    /// With `?verbose`: what the store was asked to do, and how it went the last hundred times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub checks: Option<Vec<StoreCheck>>,
}

/// One check of the store. Times are those of checks that went well.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StoreCheck {
    /// `ping`, `write_read`, `pub_sub` or `queue`.
    pub name: &'static str,
    /// `healthy`; `degraded`, if it took more than 50 ms last time; `unhealthy`, if more than 200 ms or if it failed;
    /// `unknown` before the first.
    pub state: &'static str,
    /// How long it took last; null if it failed.
    #[schema(required = true)]
    pub latency_ms: Option<f64>,
    /// On average.
    #[schema(required = true)]
    pub average_ms: Option<f64>,
    /// The quickest.
    #[schema(required = true)]
    pub min_ms: Option<f64>,
    /// The slowest.
    #[schema(required = true)]
    pub max_ms: Option<f64>,
    /// How many are remembered, at most 100.
    pub measured: usize,
    /// How many of them failed.
    pub failed: usize,
}

//! `GET /api/v1/status` and `GET /api/v1/tail`: a node for people who watch it.

use crate::conversation::TurnStep;
use crate::health::HealthStatus;
use crate::time::Rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The answer of `GET /api/v1/status`. Counts are since this process started.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeStatus {
    /// How the whole node is.
    pub status: HealthStatus,
    /// Which version it runs.
    pub version: &'static str,
    /// It finishes what it began and takes nothing new.
    pub draining: bool,
    /// For how long it has run.
    pub uptime_seconds: f64,
    /// The store.
    pub store: StorePart,
    /// The agent.
    pub agent: Part,
    /// Its turns.
    pub turns: TurnNumbers,
    /// Readers of event streams.
    pub streams_open: u64,
    /// Connections.
    pub connections: u64,
}

/// The store of a node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StorePart {
    /// `ok` or `down`.
    pub state: &'static str,
    /// How long it took to answer when it was last asked.
    #[schema(required = true)]
    pub latency_ms: Option<f64>,
    /// How often it came back without what it had acknowledged, since this process started.
    pub losses: u64,
    /// What it may lose of what it acknowledges, if the operator allowed that.
    #[schema(required = true)]
    pub weakness: Option<String>,
}

/// A part the node needs.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Part {
    /// `ok`, `down`, or `none` if there is none.
    pub state: &'static str,
    /// How long it took to answer when it was last asked.
    #[schema(required = true)]
    pub latency_ms: Option<f64>,
}

/// What a node holds and has done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TurnNumbers {
    /// Waiting for their turn, a free slot, or a busy agent.
    pub waiting: u64,
    /// At the agent.
    pub in_flight: u64,
    /// Failed ones that are kept.
    pub dead: u64,
    /// Age of the oldest waiting one.
    #[schema(required = true)]
    pub oldest_waiting_seconds: Option<f64>,
    /// Conversations that hold turns.
    pub conversations: u64,
    /// Accepted.
    pub accepted: u64,
    /// Ended, by outcome.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub ended: BTreeMap<&'static str, u64>,
    /// Leases that ended under a call.
    pub leases_lost: u64,
}

/// The data of an event `step` of `GET /api/v1/tail`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TailStep<'a> {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Rfc3339,
    /// The turn.
    pub message_id: &'a str,
    /// Its organisation.
    pub org_id: &'a str,
    /// Its user.
    pub user_id: &'a str,
    /// What happened.
    pub step: TurnStep,
    /// Which call, 1 for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Of `claimed`: since it was accepted. Of an end: since its last call began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
}

//! WebSocket connections, as administrators see them.

use crate::time::Rfc3339;
use serde::Serialize;
use utoipa::ToSchema;

/// A connection.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionAnswer {
    /// Names it.
    pub connection_id: String,
    /// Its organisation.
    pub org_id: String,
    /// Whose it is.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// In which group of agents it takes part.
    #[schema(required = true)]
    pub workspace_id: Option<String>,
    /// Which agent it is.
    #[schema(required = true)]
    pub agent_id: Option<String>,
    /// Topics and patterns it follows.
    pub subscriptions: Vec<String>,
    /// Where it stands.
    pub state: ConnectionState,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    pub connected_at: Rfc3339,
    /// Since then.
    pub duration_seconds: f64,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// It takes part.
    Connected,
    /// Its close frame is on its way.
    Closing,
}

/// A page of this node's connections.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionList {
    /// All there are, on every page.
    pub total_connections: usize,
    /// In the order in which they came.
    pub connections: Vec<ConnectionAnswer>,
    /// The next page's `after`; null on the last one.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// This node's connections in numbers.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ConnectionStats {
    /// All of them.
    pub total_connections: usize,
    /// Users they named.
    pub unique_users: usize,
    /// Workspaces they named.
    pub unique_workspaces: usize,
    /// Agents they named.
    pub unique_agents: usize,
    /// Different topics and patterns they follow.
    pub active_topics: usize,
}

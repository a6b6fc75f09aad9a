//! Tickets for browsers that cannot set headers.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// What `POST /api/v1/tickets` is asked: one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest<'a> {
    /// The stream it is to open.
    #[serde(borrow, default)]
    pub stream: Option<TicketStream<'a>>,
    /// The topics it is to follow, by `GET /api/v1/subscribe`.
    #[serde(default)]
    pub subscribe: Option<TicketTopics>,
    /// The WebSocket it is to open, once.
    #[serde(default)]
    pub connect: Option<TicketConnection>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketTopics {
    /// Topics and patterns; the subscription names the same.
    pub topics: Vec<String>,
    /// Their organisation; without it the only one of the key.
    #[serde(default)]
    pub org_id: Option<String>,
}

/// Who a WebSocket connection is to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketConnection {
    /// Its organisation; without it the only one of the key.
    #[serde(default)]
    pub org_id: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The workspace it takes part in.
    #[serde(default)]
    pub workspace_id: Option<String>,
    /// The agent it is.
    #[serde(default)]
    pub agent_id: Option<String>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketStream<'a> {
    /// Whose turn it is.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub user_id: Cow<'a, str>,
    /// The turn.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub message_id: Cow<'a, str>,
}

/// A ticket.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TicketAnswer<'a> {
    /// To be sent as `?ticket=` to the stream. It is shown this once.
    pub ticket: &'a str,
    /// It is first used within this time.
    pub first_use_seconds: u64,
    /// Used in time, it is good for reconnects until this much after it was made.
    pub lifetime_seconds: u64,
}

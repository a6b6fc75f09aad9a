//! Tickets for browsers that cannot set headers.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// What `POST /api/v1/tickets` is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest<'a> {
    /// The stream it is to open.
    #[serde(borrow)]
    pub stream: TicketStream<'a>,
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

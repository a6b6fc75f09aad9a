//! `/api/v1/bus`: agents send to each other. What a frame of a connection can
//! do, a request can do as well.

pub(crate) mod inbox;
pub(crate) mod look;
pub(crate) mod send;

use super::message::rfc3339;
use super::query;
use super::queues::claim::payload;
use super::rules;
use crate::error::Failure;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use turnwise_api::{BusMessageKind, BusMessageState, BusReplyAnswer};
use turnwise_broker::{BusMessageType, BusMode, BusReply, BusState};

/// What a message may be, as it is written.
pub(crate) const TYPES: [(&str, BusMessageType); 4] = [
    ("request", BusMessageType::Request),
    ("response", BusMessageType::Response),
    ("notification", BusMessageType::Notification),
    ("command", BusMessageType::Command),
];
/// How it may be delivered.
pub(crate) const MODES: [(&str, BusMode); 3] =
    [("pubsub", BusMode::Pubsub), ("queue", BusMode::Queue), ("both", BusMode::Both)];

/// The agent in the path.
fn agent(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    query::in_path(path, "agent_id", rules::id)
}

fn kind(message_type: BusMessageType) -> BusMessageKind {
    match message_type {
        BusMessageType::Request => BusMessageKind::Request,
        BusMessageType::Response => BusMessageKind::Response,
        BusMessageType::Notification => BusMessageKind::Notification,
        BusMessageType::Command => BusMessageKind::Command,
    }
}

fn state(state: &BusState) -> BusMessageState {
    match state {
        BusState::Pending => BusMessageState::Pending,
        BusState::Queued { .. } => BusMessageState::Queued,
        BusState::Delivered => BusMessageState::Delivered,
        BusState::Acked => BusMessageState::Acked,
        BusState::Failed { .. } => BusMessageState::Failed,
        BusState::Expired => BusMessageState::Expired,
        BusState::Bounced { .. } => BusMessageState::Bounced,
    }
}

fn reply(reply: &BusReply) -> BusReplyAnswer<'_> {
    BusReplyAnswer {
        message_id: reply.message_id.as_str(),
        from_agent: &reply.from,
        content: payload(&reply.content),
        metadata: reply.metadata.as_deref().and_then(payload),
        at: rfc3339(reply.at),
    }
}

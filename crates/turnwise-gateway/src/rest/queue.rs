//! `GET /api/v1/queue/{user_id}`.

use super::query::{self, Parameters};
use super::rules::{self, Errors};
use super::{json, seconds};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use std::sync::Arc;
use turnwise_api::{Code, QueueAnswer, QueueConversation};
use turnwise_broker::{Conversation, ConversationView};

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Failure> {
    let scope = caller.scope();
    let user = query::user_id(path)?;
    let parameters = Parameters::of(&uri)?;
    let org = parameters.get("org_id").or_else(|| parameters.get("org"));
    if let Some(detail) = org.and_then(rules::id) {
        let mut errors = Errors::default();
        errors.add("?org_id", detail);
        return Err(Failure::invalid(Code::InvalidContent, errors.0));
    }
    let view = app.broker.queue(&scope, &user, org).await?;
    json(&QueueAnswer {
        user_id: &user,
        queue_length: view.queue_length,
        is_processing: view.is_processing,
        current_message_id: view.current_message_id.map(|id| id.to_string()),
        oldest_waiting_seconds: view.oldest_waiting.map(seconds),
        conversations: view.conversations.iter().map(conversation).collect(),
    })
}

fn conversation(view: &ConversationView) -> QueueConversation<'_> {
    let (chat_type, chat_id, thread_id) = match &view.conversation {
        Conversation::User { .. } => ("private", None, None),
        Conversation::Group { chat, thread } => ("group", Some(chat.as_str()), thread.as_deref()),
    };
    QueueConversation {
        org_id: &view.org,
        chat_type,
        chat_id,
        thread_id,
        queue_length: view.queue_length,
        is_processing: view.current_message_id.is_some(),
        current_message_id: view.current_message_id.map(|id| id.to_string()),
        oldest_waiting_seconds: view.oldest_waiting.map(seconds),
    }
}

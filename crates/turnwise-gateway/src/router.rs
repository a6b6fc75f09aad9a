//! Every route on one page.

use crate::app::App;
use crate::error::Failure;
use crate::rest::{health, message, queue};
use crate::sse::stream;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use turnwise_api::Code;

pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/v1/message", post(message::submit))
        .route("/api/v1/message/{message_id}", get(message::show).delete(message::cancel))
        .route("/api/v1/stream", get(stream::follow))
        .route("/api/v1/queue/{user_id}", get(queue::show))
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .fallback(async || Failure::not_found())
        .method_not_allowed_fallback(async || Failure::new(Code::MethodNotAllowed, "Method Not Allowed"))
        .with_state(app)
}

//! What stands before each route that is not open: who asks, and whether it
//! may. It is decided from the head alone, before anything of the body is read.

use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::scope::Access;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use std::sync::Arc;
use turnwise_api::Code;

/// Lets a request on to its route if whoever asks may; the route gets the [`Caller`].
pub(crate) async fn admit(app: Arc<App>, access: Access, mut request: Request, next: Next) -> Response {
    match app.keys.caller(request.headers(), access) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// Only a route that is not open has a caller.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Failure> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            tracing::error!("a route that is open asked who calls");
            Failure::new(Code::Internal, "The route is not set up")
        })
    }
}

//! What stands before each route that is not open: who asks, and whether it
//! may. It is decided from the head alone, before anything of the body is read.

use crate::app::App;
use crate::auth::{Caller, shows_key};
use crate::error::Failure;
use crate::rest::query::Parameters;
use crate::scope::Access;
use crate::sse::stream;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use std::sync::Arc;
use turnwise_api::Code;

/// Lets a request on to its route if whoever asks may; the route gets the [`Caller`].
pub(crate) async fn admit(app: Arc<App>, access: Access, mut request: Request, next: Next) -> Response {
    let caller = match caller(&app, access, &request) {
        Ok(caller) => caller,
        Err(failure) => return failure.into_response(),
    };
    let answers = caller.holder().answers.clone();
    let standing = app.rates.of_key(&caller.holder().meter);
    let mut response = match standing.map_or(Ok(()), |standing| standing.check()) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    response.extensions_mut().insert(answers);
    response
}

/// Who asks: by a key, or where a ticket will do and no key is shown, by a ticket.
fn caller(app: &App, access: Access, request: &Request) -> Result<Caller, Failure> {
    if access == Access::Stream && !shows_key(request.headers()) {
        let parameters = Parameters::of(request.uri())?;
        if let Some(ticket) = parameters.get("ticket") {
            let refused = || Failure::new(Code::InvalidTicket, "Invalid ticket");
            let user = parameters.get("user_id").ok_or_else(refused)?;
            let id = parameters.get("message_id").and_then(|id| id.parse().ok()).ok_or_else(refused)?;
            let tickets = app.tickets.as_ref().ok_or_else(refused)?;
            let resumes = stream::resumes(request.headers(), &parameters);
            return tickets.caller(ticket, user, id, resumes).ok_or_else(refused);
        }
    }
    app.keys.caller(request.headers(), access)
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

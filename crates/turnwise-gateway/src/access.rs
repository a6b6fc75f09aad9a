//! What stands before each route that is not open: who asks, and whether it
//! may. It is decided from the head alone, before anything of the body is read.

use crate::app::App;
use crate::auth::{Caller, shows_key};
use crate::error::Failure;
use crate::rest::query::Parameters;
use crate::scope::Access;
use crate::sse::stream;
use crate::ticket::Tickets;
use crate::ws::Identity;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use std::sync::Arc;
use turnwise_api::Code;

/// Left with a browser's request for a connection: its ticket is not good, which it is told over the connection.
#[derive(Clone, Copy)]
pub(crate) struct TicketRefused;

/// Lets a request on to its route if whoever asks may; the route gets the [`Caller`].
pub(crate) async fn admit(app: Arc<App>, access: Access, mut request: Request, next: Next) -> Response {
    let caller = match caller(&app, access, &mut request) {
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
fn caller(app: &App, access: Access, request: &mut Request) -> Result<Caller, Failure> {
    let takes_tickets = matches!(access, Access::Stream | Access::Subscribe | Access::Connect);
    if takes_tickets && !shows_key(request.headers()) {
        let parameters = Parameters::of(request.uri())?;
        if let Some(ticket) = parameters.get("ticket") {
            let shown =
                app.tickets.as_ref().and_then(|tickets| shown(tickets, ticket, access, request, &parameters));
            return match shown {
                Some((caller, None)) => Ok(caller),
                Some((caller, Some(identity))) => {
                    request.extensions_mut().insert(identity);
                    Ok(caller)
                }
                None if access == Access::Connect => {
                    request.extensions_mut().insert(TicketRefused);
                    Ok(Caller::nobody())
                }
                None => Err(Failure::new(Code::InvalidTicket, "Invalid ticket")),
            };
        }
    }
    app.keys.caller(request.headers(), access)
}

/// Who shows a ticket, if it is good for this; and for a connection as whom.
fn shown(
    tickets: &Tickets,
    ticket: &str,
    access: Access,
    request: &Request,
    parameters: &Parameters,
) -> Option<(Caller, Option<Identity>)> {
    match access {
        Access::Connect => tickets.connecting(ticket).map(|(caller, identity)| (caller, Some(identity))),
        Access::Subscribe => {
            let topics = parameters.get("topics")?.split(',').collect();
            tickets.follower(ticket, &topics).map(|caller| (caller, None))
        }
        _ => {
            let user = parameters.get("user_id")?;
            let id = parameters.get("message_id")?.parse().ok()?;
            let resumes = stream::resumes(request.headers(), parameters);
            tickets.caller(ticket, user, id, resumes).map(|caller| (caller, None))
        }
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

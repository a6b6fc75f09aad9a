//! `GET /api/v1/stream`: one turn's events, from any position.

use super::live::Live;
use super::turn::OfTurn;
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::STREAMS_RETRY_SECONDS;
use crate::note::About;
use crate::rest::query::Parameters;
use crate::rest::rules::{self, Errors};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use std::str::FromStr;
use std::sync::Arc;
use turnwise_api::Code;
use turnwise_broker::{BrokerError, Followed, StreamPosition, TurnEvent};
use turnwise_core::MessageId;
use turnwise_metrics::Held;

pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let scope = caller.scope();
    let parameters = Parameters::of(&uri)?;
    let mut errors = Errors::default();
    let user = parameters.required("user_id", rules::id, &mut errors);
    let id = parameters.required("message_id", rules::any, &mut errors);
    let after = place::<StreamPosition>(&headers, &parameters, &mut errors);
    errors.into_result()?;
    let id: MessageId = id.parse().map_err(|()| Failure::not_found())?;
    let events = match app.broker.follow(&scope, user, id, after).await? {
        Followed::Events(events) => events,
        Followed::NotFound => return Err(Failure::not_found()),
        Followed::Over => {
            if let (Some(tickets), Some(ticket)) = (&app.tickets, caller.ticket()) {
                tickets.end(ticket);
            }
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
    };
    let of_turn = move |event: Result<TurnEvent, BrokerError>| event.map(|event| OfTurn { id, event });
    let events = counted(&app, seat(&app, &caller)?, events).map(of_turn);
    let room = app.answers.of_key(&caller.holder().answers);
    let mut live = Live::new(id.nonce(), events, room, app.drain.closing(), caller.revoked());
    if let Some(ticket) = caller.ticket().copied() {
        let app = Arc::clone(&app);
        live.once_delivered(move || {
            if let Some(tickets) = &app.tickets {
                tickets.delivered(&ticket);
            }
        });
    }
    let mut response = super::response(Body::new(live));
    response.extensions_mut().insert(About(id));
    Ok(response)
}

/// Counts as an open stream while it is kept, in all and of its key.
pub(crate) type Seat = [Held; 2];

/// A place for one more reader.
pub(crate) fn seat(app: &App, caller: &Caller) -> Result<Seat, Failure> {
    // Taken first, then compared: of those that come at once none is overlooked.
    let seat = [app.counts.streams.hold(), caller.holder().streams.hold()];
    match crowding(app, caller) {
        None => Ok(seat),
        Some(whose) => {
            let detail = format!("As many streams as may be are open {whose}");
            Err(Failure::new(Code::RateLimited, detail).retry_after(STREAMS_RETRY_SECONDS))
        }
    }
}

/// Whose streams and WebSocket connections are too many, if any are.
pub(crate) fn crowding(app: &App, caller: &Caller) -> Option<&'static str> {
    let over = |open: u64, most: usize| open > u64::try_from(most).unwrap_or(u64::MAX);
    let own = caller.holder().streams.get() + caller.holder().sockets.get();
    if over(own, app.config.streams_per_key_max) {
        return Some("under this key");
    }
    over(app.counts.streams.get() + app.sockets.open(), app.config.streams_max).then_some("on this server")
}

/// The same events; a scraper is told how many there were, and that somebody reads.
pub(crate) fn counted<T: 'static>(
    app: &Arc<App>,
    seat: Seat,
    events: BoxStream<'static, Result<T, BrokerError>>,
) -> impl Stream<Item = Result<T, BrokerError>> + use<T> {
    let counts = Arc::clone(&app.counts);
    events.inspect(move |event| {
        let _open = &seat;
        counts.stream_events.add(u64::from(event.is_ok()));
    })
}

/// Whether a reader goes on from a place it names.
pub(crate) fn resumes(headers: &HeaderMap, parameters: &Parameters) -> bool {
    place::<StreamPosition>(headers, parameters, &mut Errors::default()).is_some()
}

/// Where the reader left off. The header wins: a browser that reconnects
/// sends it beside the address it began with. Both must be places.
pub(super) fn place<P: FromStr>(
    headers: &HeaderMap,
    parameters: &Parameters,
    errors: &mut Errors,
) -> Option<P> {
    let mut read = |text: &str, pointer: &'static str| {
        let place = text.parse().ok();
        if place.is_none() {
            errors.add(pointer, "must be the id of an event of this stream");
        }
        place
    };
    let after = parameters.get("after").and_then(|text| read(text, "?after"));
    let header = headers.get(HeaderName::from_static("last-event-id")).filter(|value| !value.is_empty());
    match header {
        Some(value) => read(value.to_str().unwrap_or_default(), "Last-Event-ID"),
        None => after,
    }
}

//! `GET /api/v1/subscribe`: the events of several topics and patterns, from
//! now on, from the oldest, or from a place.

use super::encoder;
use super::live::{Live, Shown};
use super::stream::{counted, place, seat};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::PATTERNS_MAX;
use crate::rest::query::{self, Parameters};
use crate::rest::rules::{self, Errors};
use crate::rest::topics;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, Uri};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use turnwise_broker::{BrokerError, SubscribeFrom, Subscribed, SubscriptionPlace, TopicEvent};

const EARLIEST: &str = "earliest";

pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let mut parameters = Parameters::of(&uri)?;
    let mut errors = Errors::default();
    let patterns = patterns(&parameters, &mut errors);
    let is_earliest = parameters.get("after") == Some(EARLIEST);
    if is_earliest {
        parameters.0.retain(|(name, _)| name != "after");
    }
    let after: Option<SubscriptionPlace> = place(&headers, &parameters, &mut errors);
    errors.into_result()?;
    let org = query::org(&caller, &parameters)?;
    let from = match after {
        Some(place) => SubscribeFrom::After(place),
        None if is_earliest => SubscribeFrom::Earliest,
        None => SubscribeFrom::Now,
    };
    let seat = seat(&app, &caller)?;
    let events = app.broker.subscribe(&org, &patterns, from).await?;
    let events =
        counted(&app, seat, events).map(|event: Result<Subscribed, BrokerError>| event.map(OfTopics));
    let room = app.answers.of_key(&caller.holder().answers);
    // A different lot for each, with nothing to be told from it.
    let lot = RandomState::new().hash_one(&org);
    let live = Live::new(lot, events, room, app.drain.closing(), caller.revoked()).endless();
    Ok(super::response(Body::new(live)))
}

/// Topics and patterns of `?topics=a,b.*`, each once.
fn patterns(parameters: &Parameters, errors: &mut Errors) -> Vec<String> {
    let Some(text) = parameters.get("topics") else {
        errors.add("?topics", "is required: topics and patterns with commas between them");
        return Vec::new();
    };
    let found: BTreeSet<&str> = text.split(',').take(PATTERNS_MAX + 1).collect();
    if text.split(',').count() > PATTERNS_MAX {
        errors.add("?topics", format!("must be at most {PATTERNS_MAX} topics and patterns"));
    }
    if let Some(detail) = found.iter().find_map(|pattern| rules::topic_pattern(pattern)) {
        errors.add("?topics", detail);
    }
    found.into_iter().map(str::to_owned).collect()
}

/// What a subscriber sees.
struct OfTopics(Subscribed);

impl Shown for OfTopics {
    fn write(self, out: &mut BytesMut) -> bool {
        match self.0 {
            Subscribed::Event(event) => out.extend_from_slice(event.wire.get_or_init(|| wire(&event))),
            Subscribed::Place(place) | Subscribed::Changed(place) => encoder::place(out, &place),
            Subscribed::Refused => {}
            Subscribed::Gap(place) => {
                encoder::own_event(
                    out,
                    Some(&place),
                    encoder::GAP,
                    format_args!("{{\"resume\":\"{place}\"}}"),
                );
            }
        }
        false
    }
}

/// An event's bytes, the same for all who get it.
fn wire(event: &TopicEvent) -> Bytes {
    let mut out = BytesMut::new();
    let json = topics::shown(event).ok().and_then(|shown| serde_json::to_vec(&shown).ok());
    // What cannot be read was said to the log, and has nothing to be sent.
    if let (Some(place), Some(json)) = (event.place, json) {
        encoder::topic_event(&mut out, &place, &event.event_type, &json);
    }
    out.freeze()
}

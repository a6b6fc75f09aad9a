//! `GET /api/v1/tail`: the steps of turns as they happen, of the organisations
//! the caller may see. Live only; who is too slow is told that something was missed.

use super::encoder;
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::limits::{HEARTBEAT, RECONNECT_MS};
use crate::rest::message::turn_step;
use crate::rest::query::Parameters;
use crate::rest::rules::{self, Errors};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http::Uri;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use turnwise_api::{Code, Rfc3339, TailStep};
use turnwise_broker::{News, Onlooker, Seen};

pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri)?;
    let mut errors = Errors::default();
    let org = parameters.optional("org_id", rules::id, &mut errors);
    let user = parameters.optional("user_id", rules::id, &mut errors).map(str::to_owned);
    errors.into_result()?;
    let orgs = caller.scope_in(org);
    let full = |_| Failure::new(Code::Overloaded, "Too many look on at once");
    let place = Arc::clone(&app.onlookers).try_acquire_owned().map_err(full)?;
    let mut first = BytesMut::new();
    encoder::retry(&mut first, RECONNECT_MS);
    let look = Look {
        first: Some(first.freeze()),
        onlooker: app.broker.look_on(orgs, user),
        closing: app.drain.closing(),
        revoked: caller.revoked(),
        ended: false,
        _place: place,
    };
    Ok(super::response(Body::from_stream(unfold(look, Look::next))))
}

struct Look {
    first: Option<Bytes>,
    onlooker: Onlooker,
    closing: CancellationToken,
    revoked: CancellationToken,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Look {
    /// One chunk: a step, a gap, or a comment against the silence.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Look)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                encoder::comment(&mut out, "going away");
                self.ended = true;
            }
            () = self.revoked.cancelled() => {
                encoder::comment(&mut out, "this key is no longer valid");
                self.ended = true;
            }
            seen = self.onlooker.next() => match seen? {
                Seen::News(news) => write_step(&mut out, &news),
                // Without a number: it would count what others do.
                Seen::Missed => encoder::own_event(&mut out, None, "gap", format_args!("{{}}")),
            },
            () = tokio::time::sleep(HEARTBEAT) => encoder::comment(&mut out, "keep-alive"),
        }
        Some((Ok(out.freeze()), self))
    }
}

fn write_step(out: &mut BytesMut, news: &News) {
    let id = news.id.to_string();
    let data = TailStep {
        at: Rfc3339(news.at.0),
        message_id: &id,
        org_id: &news.org,
        user_id: &news.user,
        step: turn_step(news.step),
        attempt: news.attempt,
        after_ms: news.after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        code: news.code.as_deref(),
    };
    let data = serde_json::to_string(&data).expect("strings and numbers are JSON");
    encoder::own_event(out, None, "step", format_args!("{data}"));
}

//! Long answers that wait for their readers: their bytes are bounded for all
//! together, so that many who read slowly cannot fill the memory.

use crate::body::UNIT_BYTES;
use crate::error::Failure;
use crate::limits::{ANSWERS_SHARE_OF_KEY, SMALL_ANSWER_BYTES_MAX};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use turnwise_api::Code;

/// Left with an answer to a request that has stored something: what is said in
/// its place when there is no room, for "nothing was stored" would not be true.
#[derive(Clone)]
pub(crate) struct Instead(pub(crate) Bytes);

/// Left with an answer whose bytes are there once for all who read them: it needs no room.
#[derive(Clone)]
pub(crate) struct Shared;

/// Units of the room that one key holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<AtomicUsize>);

/// Room for long answers.
#[derive(Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    /// Units that one key may hold, and those it holds.
    share: usize,
    own: Waiting,
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Room {
        let units = (bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(units));
        Room { free, share: units / ANSWERS_SHARE_OF_KEY, own: Waiting::default() }
    }

    /// The part of it that is there for one key.
    pub(crate) fn of_key(&self, own: &Waiting) -> Room {
        Room { own: own.clone(), ..self.clone() }
    }

    /// These bytes, which hold their share until they are written or given up.
    /// Short ones need none. None: there is no room, or the key has its share; its
    /// only answer may be longer than that.
    pub(crate) fn hold(&self, bytes: Bytes) -> Option<Bytes> {
        if bytes.len() <= SMALL_ANSWER_BYTES_MAX {
            return Some(bytes);
        }
        let units = bytes.len().div_ceil(UNIT_BYTES);
        let fits = |held: usize| (held == 0 || held + units <= self.share).then_some(held + units);
        self.own.0.fetch_update(Relaxed, Relaxed, fits).ok()?;
        let own = Own { held: self.own.clone(), units };
        let place = Arc::clone(&self.free).try_acquire_many_owned(u32::try_from(units).ok()?).ok()?;
        Some(Bytes::from_owner(Held { bytes, _own: own, _place: place }))
    }

    /// The same for a whole answer; streams come piece by piece and pass.
    pub(crate) async fn hold_answer(&self, mut response: Response) -> Response {
        let instead = response.extensions_mut().remove::<Instead>();
        let own = response.extensions_mut().remove::<Waiting>();
        if response.extensions_mut().remove::<Shared>().is_some() {
            return response;
        }
        let length = http_body::Body::size_hint(response.body()).exact();
        if length.is_none_or(|length| length <= SMALL_ANSWER_BYTES_MAX as u64) {
            return response;
        }
        let (mut head, body) = response.into_parts();
        let held = match body.collect().await {
            Ok(whole) => match own {
                Some(own) => self.of_key(&own).hold(whole.to_bytes()),
                None => self.hold(whole.to_bytes()),
            },
            Err(error) => {
                tracing::error!(%error, "an answer could not be put together");
                return replaced(head, Failure::new(Code::Internal, "The answer could not be written"));
            }
        };
        match (held, instead) {
            (Some(bytes), _) => Response::from_parts(head, Body::from(bytes)),
            (None, Some(Instead(short))) => {
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(short.len()));
                Response::from_parts(head, Body::from(short))
            }
            (None, None) => {
                replaced(head, Failure::new(Code::Overloaded, "Too many long answers wait for their readers"))
            }
        }
    }
}

/// A failure in place of an answer; what is noted of it stays.
fn replaced(head: Parts, failure: Failure) -> Response {
    let mut response = failure.into_response();
    response.extensions_mut().extend(head.extensions);
    response
}

struct Own {
    held: Waiting,
    units: usize,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.units, Relaxed);
    }
}

struct Held {
    bytes: Bytes,
    _own: Own,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_share_the_room_and_short_ones_need_none() {
        let room = Room::new(3 * SMALL_ANSWER_BYTES_MAX);
        let long = || Bytes::from(vec![7; 2 * SMALL_ANSWER_BYTES_MAX]);
        let first = room.hold(long());
        assert_eq!(first.as_deref(), Some(&long()[..]));
        assert!(room.hold(long()).is_none());
        assert!(room.hold(Bytes::from_static(b"short")).is_some());
        let part = first.map(|bytes| bytes.slice(1..2));
        assert!(room.hold(long()).is_none(), "a part that still waits keeps the whole");
        drop(part);
        assert!(room.hold(long()).is_some());
    }

    #[test]
    fn one_key_fills_only_its_share_of_the_room() {
        let room = Room::new(4 * ANSWERS_SHARE_OF_KEY * SMALL_ANSWER_BYTES_MAX);
        let (greedy, other) = (room.of_key(&Waiting::default()), room.of_key(&Waiting::default()));
        let long = |times: usize| Bytes::from(vec![7; times * SMALL_ANSWER_BYTES_MAX]);
        let held = [greedy.hold(long(2)), greedy.hold(long(2))];
        assert!(held.iter().all(Option::is_some) && greedy.hold(long(2)).is_none());
        assert!(other.hold(long(5)).is_some(), "its only one may be longer than its share");
        drop(held);
        assert!(greedy.hold(long(4)).is_some());
    }
}

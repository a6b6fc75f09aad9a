//! Long answers that wait for their readers: their bytes are bounded for all
//! together, so that many who read slowly cannot fill the memory.

use crate::body::UNIT_BYTES;
use crate::error::Failure;
use crate::limits::SMALL_ANSWER_BYTES_MAX;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use turnwise_api::Code;

/// Room for long answers.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Room {
        Room(Arc::new(Semaphore::new((bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// These bytes, which hold their share until they are written or given up.
    /// Short ones need none. None: there is no room.
    pub(crate) fn hold(&self, bytes: Bytes) -> Option<Bytes> {
        if bytes.len() <= SMALL_ANSWER_BYTES_MAX {
            return Some(bytes);
        }
        let units = u32::try_from(bytes.len().div_ceil(UNIT_BYTES)).ok()?;
        let share = Arc::clone(&self.0).try_acquire_many_owned(units).ok()?;
        Some(Bytes::from_owner(Held { bytes, _share: share }))
    }

    /// The same for a whole answer; streams come piece by piece and pass.
    pub(crate) async fn hold_answer(&self, response: Response) -> Response {
        let length = http_body::Body::size_hint(response.body()).exact();
        if length.is_none_or(|length| length <= SMALL_ANSWER_BYTES_MAX as u64) {
            return response;
        }
        let (head, body) = response.into_parts();
        let held = match body.collect().await {
            Ok(whole) => self.hold(whole.to_bytes()),
            Err(error) => {
                tracing::error!(%error, "an answer could not be put together");
                return Failure::new(Code::Internal, "The answer could not be written").into_response();
            }
        };
        match held {
            Some(bytes) => Response::from_parts(head, Body::from(bytes)),
            None => {
                Failure::new(Code::Overloaded, "Too many long answers wait for their readers").into_response()
            }
        }
    }
}

struct Held {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
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
}

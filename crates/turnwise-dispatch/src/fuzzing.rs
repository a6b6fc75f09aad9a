//! The readers of what an agent answers, for the fuzz targets alone.

use crate::sse::SseEvent;
use crate::verdict::{self, Meaning};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use turnwise_broker::{TurnError, TurnOutcome};
use turnwise_core::Timestamp;

/// What an event of a stream came to.
pub enum Told {
    /// It is stored, and passed on.
    Part {
        /// The agent's own name for it.
        name: Option<String>,
        /// Its data.
        data: Bytes,
    },
    /// It is the end.
    End,
}

/// Reads one event of a stream.
#[must_use]
pub fn told(event: SseEvent) -> Told {
    match verdict::meaning(event) {
        Meaning::Part(event) | Meaning::Complete { event: Some(event), .. } => {
            Told::Part { name: event.name, data: event.data }
        }
        Meaning::Complete { event: None, .. } | Meaning::Failed(_) => Told::End,
    }
}

/// Reads a whole answer.
///
/// # Errors
/// When it is none.
pub fn answer_of(body: Bytes) -> Result<Bytes, TurnError> {
    verdict::answer(body)
}

/// Reads a refusal with this `Retry-After`.
#[must_use]
pub fn refusal_of(status: u16, retry_after: &[u8], body: &[u8]) -> TurnOutcome {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(retry_after) {
        headers.insert(header::RETRY_AFTER, value);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    verdict::refusal(status, &headers, body, Timestamp(1_700_000_000_000_000))
}

//! Request ids: taken over from the client when they are harmless, else counted.

use crate::limits::REQUEST_ID_BYTES_MAX;
use http::{HeaderMap, HeaderValue};
use std::sync::atomic::{AtomicU64, Ordering};

/// The header, in and out.
pub(crate) const X_REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");

/// Gives every request an id.
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> RequestIds {
        RequestIds { seed, next: AtomicU64::new(1) }
    }

    /// The client's own id if it is harmless, else a new one.
    pub(crate) fn for_request(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(X_REQUEST_ID) {
            Some(id) if is_harmless(id.as_bytes()) => id.clone(),
            _ => self.fresh(),
        }
    }

    fn fresh(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:016x}-{number:x}", self.seed);
        HeaderValue::try_from(text).expect("hexadecimal digits and a dash are a header value")
    }
}

/// Only what can stand in a log line or a JSON string as it is.
fn is_harmless(id: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(b);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_ids_are_taken_over_and_others_replaced() {
        let ids = RequestIds::new(7);
        let check = |sent: &'static str, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_static(sent));
            assert_eq!(ids.for_request(&headers) == sent, kept, "{sent:?}");
        };
        check("abc-123", true);
        check("0af7651916cd43dd8448eb211c80319c", true);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        assert_ne!(ids.for_request(&HeaderMap::new()), ids.for_request(&HeaderMap::new()));
    }
}

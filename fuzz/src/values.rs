//! Single values in heads, paths and queries; the first byte says which.

use crate::choice;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use turnwise_broker::StreamPosition;
use turnwise_core::MessageId;
use turnwise_gateway::fuzzing::{audio_is_right, parameters_of, preference_of, traceparent_of};

/// What is taken is written as it was read; what is refused is refused.
pub(crate) fn values(input: &[u8]) {
    let (kind, input) = choice(input);
    let text = String::from_utf8_lossy(input);
    match kind % 6 {
        0 => {
            if let Ok(position) = text.parse::<StreamPosition>() {
                let again = position.to_string().parse();
                assert_eq!(again, Ok(position), "{text}");
            }
        }
        1 => {
            if let Ok(id) = text.parse::<MessageId>() {
                assert_eq!(id.to_string(), text, "an id has one form");
            }
        }
        2 => {
            if let Some((_, wait)) = preference_of(input) {
                assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(600)));
            }
        }
        3 => {
            if let Some(context) = traceparent_of(input) {
                assert_eq!((context.as_bytes(), context.len()), (input, 55));
            }
        }
        4 => {
            if let Some(pairs) = parameters_of(input) {
                let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
                // A byte that is no UTF-8 becomes the three of U+FFFD.
                assert!(bytes <= 3 * input.len(), "more came out than went in");
            }
        }
        _ => {
            let decoded = STANDARD.decode(input).is_ok_and(|bytes| !bytes.is_empty());
            if text.as_bytes() == input {
                assert_eq!(audio_is_right(&text), decoded, "{text:?}");
            }
        }
    }
}

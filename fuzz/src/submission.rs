//! The body of a message.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use turnwise_broker::Conversation;
use turnwise_gateway::fuzzing::submission_of;

/// Whatever is accepted goes to the agent as one JSON object with the same
/// fields, within the limits; whatever is refused names why.
pub(crate) fn submission(input: &[u8]) {
    let parsed = match submission_of(input, &HeaderMap::new()) {
        Ok(parsed) => parsed,
        Err((status, errors)) => {
            assert!((400..500).contains(&status), "{status}");
            assert!(status != 422 || errors > 0, "a refusal names what is wrong");
            return;
        }
    };
    for id in [&parsed.org, &parsed.user, &parsed.client] {
        assert!(!id.is_empty() && id.len() <= 256 && !id.contains(char::is_control));
    }
    let sent: Value = serde_json::from_slice(&parsed.request).expect("the agent gets JSON");
    let given: Value = serde_json::from_slice(input).expect("what was accepted is JSON");
    assert_eq!(sent.get("user_id").and_then(Value::as_str), Some(parsed.user.as_str()));
    for name in ["user_id", "client_id", "audio_base64", "chat_id", "metadata"] {
        let of = |value: &Value| value.get(name).filter(|found| !found.is_null()).cloned();
        assert_eq!(of(&sent), of(&given), "{name}");
    }
    if let Conversation::Group { chat, .. } = &parsed.conversation {
        assert_eq!(given.get("chat_id").and_then(Value::as_str), Some(chat.as_str()));
    }
    // What was forwarded has lost nothing that a second reading would need.
    assert!(Bytes::len(&parsed.request) <= 2 * input.len() + 128, "it grew");
}

//! What a WebSocket client sends: the same however it is cut, and texts are text.

use crate::choice;
use turnwise_gateway::fuzzing::web_socket_of;

/// Bytes of a message; small, so that too much is found.
const BYTES_MAX: usize = 300;

/// Read at once and in pieces it comes to the same, within its limits; what is refused names a code that may be sent.
pub(crate) fn web_socket(input: &[u8]) {
    let (chosen, rest) = choice(input);
    let whole = web_socket_of(rest, BYTES_MAX, usize::MAX);
    let pieces = web_socket_of(rest, BYTES_MAX, usize::from(chosen % 16) + 1);
    assert_eq!(whole, pieces, "where it is cut makes a difference");
    for (kind, payload) in &whole.0 {
        match *kind {
            "text" => {
                assert!(payload.len() <= BYTES_MAX, "too long");
                assert!(std::str::from_utf8(payload).is_ok(), "no text");
            }
            _ => assert!(payload.len() <= 125, "a control frame is short"),
        }
    }
    if let Some(code) = whole.1 {
        assert!(matches!(code, 1002 | 1003 | 1007 | 1009), "{code}");
    }
}

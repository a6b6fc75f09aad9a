//! Requests about the agents' bus.

use crate::choice;
use bytes::Bytes;
use serde_json::Value;
use std::time::Duration;
use turnwise_broker::BusTo;
use turnwise_gateway::fuzzing::{bus_message_of, bus_settlements_of};

/// Whatever is accepted is within the limits and as it was given; whatever is refused names why. The first byte
/// chooses.
pub(crate) fn bus_request(input: &[u8]) {
    let (choice, rest) = choice(input);
    match choice % 3 {
        0 => message(rest, BusTo::Agent("ann".to_owned())),
        1 => message(rest, BusTo::Workspace("w".to_owned())),
        _ => match bus_settlements_of(rest) {
            Ok(settlements) => assert!((1..=1_000).contains(&settlements)),
            Err(facts) => refused(facts),
        },
    }
}

fn refused((status, errors): (u16, usize)) {
    assert!((400..500).contains(&status), "{status}");
    assert!(status != 422 || (1..=20).contains(&errors), "a refusal names what is wrong: {errors}");
}

fn message(input: &[u8], to: BusTo) {
    let is_direct = matches!(to, BusTo::Agent(_));
    let (send, wait) = match bus_message_of(&Bytes::copy_from_slice(input), to) {
        Ok(message) => message,
        Err(facts) => return refused(facts),
    };
    let given: Value = serde_json::from_slice(input).expect("what was accepted is JSON");
    let content: Value = serde_json::from_slice(&send.content).expect("a content is JSON");
    assert_eq!(Some(&content), given.get("content"));
    assert_eq!(Some(send.from.as_str()), given.get("from_agent").and_then(Value::as_str));
    assert!((1..=256).contains(&send.from.len()) && !send.from.chars().any(char::is_control));
    assert!(send.content.len() <= 256 * 1024 && send.exclude.len() <= 101);
    assert!(send.priority.is_none_or(|priority| priority <= 9));
    assert!(send.max_attempts.is_none_or(|attempts| (1..=100).contains(&attempts)));
    assert!(send.ttl.is_none_or(|ttl| !ttl.is_zero() && ttl <= Duration::from_secs(30 * 24 * 3600)));
    assert!(wait.is_none_or(|wait| is_direct && wait <= Duration::from_secs(120)));
    assert!(is_direct || send.in_reply_to.is_none());
    if let Some(metadata) = &send.metadata {
        assert!(
            metadata.len() <= 8 * 1024
                && serde_json::from_slice::<Value>(metadata).unwrap_or_default().is_object()
        );
    }
}

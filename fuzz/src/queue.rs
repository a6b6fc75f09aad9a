//! Requests about work queues.

use crate::choice;
use bytes::Bytes;
use serde_json::Value;
use turnwise_api::Rfc3339;
use turnwise_broker::{WorkReceipt, WorkTime};
use turnwise_core::Timestamp;
use turnwise_gateway::fuzzing::{queue_messages_of, queue_settlements_of};

/// 2026-11-22, 00:00 in UTC.
const NOW: Timestamp = Timestamp(1_795_305_600_000_000);

/// Whatever is accepted is within the limits and as it was given; whatever is
/// refused names why. The first byte chooses.
pub(crate) fn queue_request(input: &[u8]) {
    let (choice, rest) = choice(input);
    match choice % 3 {
        0 => messages(rest),
        1 => settlements(rest),
        _ => values(rest),
    }
}

fn refused((status, errors): (u16, usize)) {
    assert!((400..500).contains(&status), "{status}");
    assert!(status != 422 || (1..=20).contains(&errors), "a refusal names what is wrong: {errors}");
}

fn messages(input: &[u8]) {
    let messages = match queue_messages_of(&Bytes::copy_from_slice(input), NOW) {
        Ok(messages) => messages,
        Err(facts) => return refused(facts),
    };
    let given: Value = serde_json::from_slice(input).expect("what was accepted is JSON");
    let items = match given.get("items") {
        Some(items) => items.as_array().cloned().unwrap_or_default(),
        None => vec![given],
    };
    assert!((1..=1_000).contains(&messages.len()) && messages.len() == items.len());
    for (message, item) in messages.iter().zip(&items) {
        let payload: Value = serde_json::from_slice(&message.payload).expect("a payload is JSON");
        assert_eq!(Some(&payload), item.get("payload"));
        assert_eq!(message.key.as_deref(), item.get("ordering_key").and_then(Value::as_str));
        assert!(message.key.as_ref().is_none_or(|key| (1..=256).contains(&key.len())));
        assert!(message.priority.is_none_or(|priority| priority <= 9));
        assert!(message.max_attempts.is_none_or(|attempts| (1..=1_000).contains(&attempts)));
        let bytes: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(message.headers.len() <= 32 && bytes <= 8 * 1024);
        if let Some(WorkTime::At(end)) = message.expires {
            assert!(end > NOW);
        }
    }
}

fn settlements(input: &[u8]) {
    match queue_settlements_of(input) {
        Ok(settlements) => assert!((1..=1_000).contains(&settlements.len())),
        Err(facts) => refused(facts),
    }
}

fn values(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(receipt) = text.parse::<WorkReceipt>() {
        assert_eq!(receipt.to_string(), text);
    }
    if let Ok(time) = text.parse::<Rfc3339>() {
        let again: Rfc3339 = time.to_string().parse().expect("what is written is read");
        assert_eq!(time.0.div_euclid(1_000), again.0.div_euclid(1_000));
    }
}

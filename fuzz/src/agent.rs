//! What an agent may answer.

use crate::choice;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use turnwise_broker::TurnOutcome;
use turnwise_dispatch::fuzzing::{Told, answer_of, refusal_of, told};
use turnwise_dispatch::limits::{REFUSAL_CHARS_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN};
use turnwise_dispatch::sse::{EventTooLarge, SseEvent, SseParser};

/// Bytes of an event in the bounded reading.
const EVENT_BYTES_MAX: usize = 64;

/// Server-sent events: the same however they are split, never more than came
/// in, bounded when told so; and what goes on to readers says the same.
pub(crate) fn stream(input: &[u8]) {
    let (step, input) = choice(input);
    let whole = parse([input], usize::MAX).expect("no limit");
    let step = usize::from(step).max(1);
    assert_eq!(whole, parse(input.chunks(step), usize::MAX).expect("no limit"), "split by {step}");
    let bytes: usize = whole.iter().map(|event| event.data.len()).sum();
    assert!(bytes <= input.len(), "more came out than went in");
    let bounded = parse(input.chunks(step), EVENT_BYTES_MAX);
    if let Ok(events) = bounded {
        assert!(events.iter().all(|event| event.data.len() <= EVENT_BYTES_MAX));
    }
    for event in whole {
        if let Told::Part { name, data } = told(event) {
            passed_on(name.as_deref(), &data);
        }
    }
}

fn parse<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> Result<Vec<SseEvent>, EventTooLarge> {
    let mut parser = SseParser::new(bytes_max);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(chunk, &mut events)?;
    }
    parser.finish(&mut events)?;
    Ok(events)
}

/// One of the agent's events is one event for a reader: with this data, under
/// no name of the broker's own.
fn passed_on(name: Option<&str>, data: &Bytes) {
    let mut wire = BytesMut::new();
    turnwise_gateway::fuzzing::agent_event(&mut wire, "1-2", name, data);
    let events = parse([&wire[..]], usize::MAX).expect("no limit");
    let [event] = events.as_slice() else { panic!("one event became {}: {wire:?}", events.len()) };
    let own = ["queued", "processing", "position", "gap", "done", "error", "cancelled"];
    assert!(!event.name.as_deref().is_some_and(|name| own.contains(&name)), "{wire:?}");
    let lines = |data: &[u8]| String::from_utf8_lossy(data).replace("\r\n", "\n").replace('\r', "\n");
    match serde_json::from_slice::<Value>(data) {
        Ok(json) => assert_eq!(serde_json::from_slice::<Value>(&event.data).ok(), Some(json), "{wire:?}"),
        Err(_) => assert_eq!(lines(&event.data), lines(data), "{wire:?}"),
    }
}

/// A whole answer, and refusals with their ways to say how long to wait.
pub(crate) fn answer(input: &[u8]) {
    let (kind, input) = choice(input);
    if kind % 2 == 0 {
        let body = Bytes::copy_from_slice(input);
        if let Ok(answer) = answer_of(body) {
            assert!(answer.starts_with(b"{") && !answer.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
            let one = serde_json::from_slice::<Value>(&answer);
            let other = serde_json::from_slice::<Value>(input);
            // Numbers too large for a value pass as the text they are.
            assert_eq!(one.ok(), other.ok(), "the answer changed");
        }
        return;
    }
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = input.split_at(line);
    for status in [400, 404, 429, 500, 503] {
        match refusal_of(status, header, body) {
            TurnOutcome::RetryAfter(pause) => assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&pause)),
            TurnOutcome::Failed(error) => {
                assert!(error.detail.chars().count() <= REFUSAL_CHARS_MAX + 100, "{}", error.detail);
                assert!(!error.detail.contains(char::is_control));
            }
            other => panic!("a refusal is none of these: {other:?}"),
        }
    }
}

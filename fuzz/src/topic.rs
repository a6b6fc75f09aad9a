//! What is published to topics, in our own form and as CloudEvents, and where
//! readers of it say they are.

use crate::choice;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use turnwise_broker::{EventBody, Publication, SubscriptionPlace};
use turnwise_gateway::fuzzing::{pattern_is_right, publications_of, topic_event};

const MEDIA: [&str; 4] =
    ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"];

/// Whatever is accepted is sound, within its limits, and one event for a reader; whatever is refused names why.
pub(crate) fn publication(input: &[u8]) {
    let (chosen, rest) = choice(input);
    if chosen == b'p' {
        return place(rest);
    }
    let mut headers = HeaderMap::new();
    let media = MEDIA.get(usize::from(chosen) % MEDIA.len()).copied().unwrap_or_default();
    headers.insert("content-type", HeaderValue::from_static(media));
    let body = head_of(rest, &mut headers);
    match publications_of(&headers, body) {
        Ok(events) => events.iter().for_each(is_sound),
        Err((status, errors)) => {
            assert!((400..500).contains(&status), "{status}");
            assert!(status != 422 || errors > 0, "a refusal names what is wrong");
        }
    }
}

/// Attributes in lines of their own, up to an empty one; what follows is the body.
fn head_of<'i>(mut rest: &'i [u8], headers: &mut HeaderMap) -> &'i [u8] {
    while rest.starts_with(b"ce-") {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    rest
}

fn is_sound(event: &Publication) {
    let (EventBody::Json(json) | EventBody::CloudEvent(json)) = &event.body;
    let value: Value = serde_json::from_slice(json).expect("what was accepted is JSON");
    assert!(json.len() <= 1024 * 1024, "it is within the limit");
    if let EventBody::CloudEvent(_) = event.body {
        assert_eq!(value.get("specversion").and_then(Value::as_str), Some("1.0"));
        assert_eq!(value.get("type").and_then(Value::as_str), Some(event.event_type.as_str()));
        assert!(event.dedup_key.is_some(), "its source and id name it");
    }
    let mut out = BytesMut::new();
    topic_event(&mut out, "1-2-3-4", &event.event_type, json);
    let text = std::str::from_utf8(&out).expect("text in, text out");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    let [id, name, data, "", ""] = lines.as_slice() else { panic!("{text:?} is not one event") };
    assert_eq!((*id, *name), ("id: 1-2-3-4", format!("event: {}", event.event_type).as_str()));
    let shown = data.strip_prefix("data: ").expect("a line of data");
    assert_eq!(serde_json::from_str::<Value>(shown).ok(), Some(value), "the same JSON on one line");
}

/// A place leads back to itself; a pattern is text of its alphabet.
fn place(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(place) = text.parse::<SubscriptionPlace>() {
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    if pattern_is_right(text) {
        let alphabet = |letter: char| letter.is_ascii_alphanumeric() || "_.:-*>".contains(letter);
        assert!((1..=128).contains(&text.len()) && text.chars().all(alphabet), "{text:?}");
    }
}

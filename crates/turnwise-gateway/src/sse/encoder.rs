//! Server-sent events on the wire (WHATWG HTML, section 9.2). Whatever an
//! agent puts into an event's name or data, it cannot add a field, end the
//! event early or pass for one of the broker's own events.

use crate::limits::EVENT_NAME_BYTES_MAX;
use bytes::{BufMut, BytesMut};
use serde::de::IgnoredAny;
use std::fmt::{self, Display, Write};

/// Names that only the broker may use; an agent's event of such a name goes out as `message`.
const OWN_NAMES: [&str; 7] = ["queued", "processing", "position", "gap", "done", "error", "cancelled"];
const DEFAULT_NAME: &str = "message";
/// Tells that something is missing.
pub(crate) const GAP: &str = "gap";

/// One of the broker's own events; `data` is JSON of one line.
pub(crate) fn own_event(
    out: &mut BytesMut,
    id: Option<&dyn Display>,
    name: &'static str,
    data: fmt::Arguments<'_>,
) {
    begin(out, id, name);
    out.put_slice(b"data: ");
    write(out, data);
    out.put_slice(b"\n\n");
}

/// One of the agent's events, its data unchanged. JSON that came in several
/// lines is put on one, which is the same JSON; other text keeps its lines.
pub(crate) fn agent_event(out: &mut BytesMut, id: &dyn Display, name: Option<&str>, data: &[u8]) {
    begin(out, Some(id), agent_name(name));
    let is_break = |b: &u8| matches!(b, b'\r' | b'\n');
    out.reserve(data.len() + 16);
    out.put_slice(b"data: ");
    if !data.iter().any(is_break) {
        out.put_slice(data);
    } else if serde_json::from_slice::<IgnoredAny>(data).is_ok() {
        // Inside JSON a raw line break can only be white space between tokens.
        out.extend(data.iter().map(|b| if is_break(b) { b' ' } else { *b }));
    } else {
        put_lines(out, data);
    }
    out.put_slice(b"\n\n");
}

/// An event of a topic; `data` is JSON. Its type was checked when it was taken in; one that breaks the rules all
/// the same goes out as `message`.
pub(crate) fn topic_event(out: &mut BytesMut, id: &dyn Display, event_type: &str, data: &[u8]) {
    let is_fine = event_type.bytes().all(|byte| byte.is_ascii_graphic()) && event_type != GAP;
    begin(out, Some(id), if is_fine && !event_type.is_empty() { event_type } else { DEFAULT_NAME });
    out.put_slice(b"data: ");
    // Inside JSON a raw line break can only be white space between tokens.
    out.extend(data.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.put_slice(b"\n\n");
}

/// Where to resume from, without an event: a reader keeps it and is told nothing.
pub(crate) fn place(out: &mut BytesMut, id: &dyn Display) {
    write(out, format_args!("id: {id}\n\n"));
}

/// A comment: keeps the connection alive, and readers pass it over.
pub(crate) fn comment(out: &mut BytesMut, text: &'static str) {
    debug_assert!(!text.contains(['\r', '\n']));
    out.put_slice(b": ");
    out.put_slice(text.as_bytes());
    out.put_slice(b"\n\n");
}

/// How long a reader waits before it comes back.
pub(crate) fn retry(out: &mut BytesMut, millis: u32) {
    write(out, format_args!("retry: {millis}\n\n"));
}

fn begin(out: &mut BytesMut, id: Option<&dyn Display>, name: &str) {
    if let Some(id) = id {
        write(out, format_args!("id: {id}\n"));
    }
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\n");
}

fn agent_name(name: Option<&str>) -> &str {
    let Some(name) = name else { return DEFAULT_NAME };
    let ok = (1..=EVENT_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !name.starts_with(' ')
        && !OWN_NAMES.contains(&name);
    if ok { name } else { DEFAULT_NAME }
}

/// Each of CR LF, CR and LF ends a line for a reader, so each begins a new
/// `data:` field here; readers put LF between the lines again.
fn put_lines(out: &mut BytesMut, data: &[u8]) {
    let mut bytes = data.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.put_slice(b"\ndata: ");
            }
            b'\n' => out.put_slice(b"\ndata: "),
            byte => out.put_u8(byte),
        }
    }
}

fn write(out: &mut BytesMut, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("the buffer grows as needed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Default, Clone)]
    struct Seen {
        id: String,
        name: String,
        data: String,
    }

    /// A reader after the letter of the specification.
    fn read(wire: &str) -> Vec<Seen> {
        let mut events = Vec::new();
        let (mut event, mut lines) = (Seen::default(), Vec::<String>::new());
        for line in wire.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
            if line.is_empty() {
                if !lines.is_empty() {
                    event.data = lines.join("\n");
                    events.push(event.clone());
                }
                (event.name, lines) = (String::new(), Vec::new());
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = value.to_owned(),
                "event" => event.name = value.to_owned(),
                "data" => lines.push(value.to_owned()),
                _ => {}
            }
        }
        events
    }

    /// Every text of up to `length` of these pieces.
    fn all_texts(pieces: &[&str], length: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut last = texts.clone();
        for _ in 0..length {
            last = last.iter().flat_map(|t| pieces.iter().map(move |p| format!("{t}{p}"))).collect();
            texts.extend(last.iter().cloned());
        }
        texts
    }

    fn encoded(name: Option<&str>, data: &str) -> String {
        let mut out = BytesMut::new();
        agent_event(&mut out, &"1-2", name, data.as_bytes());
        String::from_utf8(out.to_vec()).expect("text in, text out")
    }

    #[test]
    fn no_data_can_forge_a_field_or_a_second_event() {
        for data in all_texts(&["\r", "\n", ":", " ", "a", "event: done", "id: 9", "{", "\"", "}"], 4) {
            let wire = encoded(None, &data);
            let lines = data.replace("\r\n", "\n").replace('\r', "\n");
            let json = serde_json::from_str::<serde_json::Value>(&data).ok();
            let events = read(&wire);
            assert_eq!(events.len(), 1, "{data:?} as {wire:?}");
            let event = events.first().cloned().unwrap_or_default();
            assert_eq!((event.id.as_str(), event.name.as_str()), ("1-2", "message"), "{data:?}");
            match json {
                None => assert_eq!(event.data, lines, "{data:?}"),
                Some(json) => {
                    assert_eq!(serde_json::from_str::<serde_json::Value>(&event.data).ok(), Some(json));
                    assert!(!event.data.contains('\n'));
                }
            }
            assert!(!wire.contains('\r'));
        }
    }

    #[test]
    fn no_name_can_forge_a_field_or_an_own_event() {
        for name in all_texts(&["\r", "\n", "\u{0}", ":", " ", "done", "data: x", "a"], 4) {
            let events = read(&encoded(Some(&name), "{}"));
            assert_eq!(events.len(), 1, "{name:?}");
            let event = events.first().cloned().unwrap_or_default();
            assert!(!OWN_NAMES.contains(&event.name.as_str()), "{name:?}");
            assert!(event.name == name || event.name == "message", "{name:?}");
            assert_eq!(event.data, "{}");
        }
        for own in OWN_NAMES {
            assert!(encoded(Some(own), "{}").contains("event: message\n"));
        }
        assert!(encoded(Some("progress"), "{}").contains("event: progress\n"));
    }

    #[test]
    fn no_type_of_a_topic_can_forge_a_field_or_a_gap() {
        for event_type in all_texts(&["\r", "\n", ":", " ", "gap", "data: x", "a"], 3) {
            let mut out = BytesMut::new();
            topic_event(&mut out, &"1-2-3", &event_type, b"{\n\"a\":\r1}");
            let events = read(std::str::from_utf8(&out).expect("text in, text out"));
            assert_eq!(events.len(), 1, "{event_type:?}");
            let event = events.first().cloned().unwrap_or_default();
            assert!(event.name == event_type || event.name == "message", "{event_type:?}");
            assert_ne!(event.name, GAP);
            assert_eq!((event.id.as_str(), event.data.as_str()), ("1-2-3", "{ \"a\": 1}"));
        }
        let mut out = BytesMut::new();
        place(&mut out, &"1-2-0");
        assert_eq!(out, "id: 1-2-0\n\n");
    }

    #[test]
    fn the_bytes_of_each_kind() {
        let mut out = BytesMut::new();
        retry(&mut out, 2000);
        own_event(&mut out, None, "queued", format_args!("{{\"a\":1}}"));
        own_event(&mut out, Some(&"7-1"), "done", format_args!("{{}}"));
        comment(&mut out, "keep-alive");
        let expected = "retry: 2000\n\nevent: queued\ndata: {\"a\":1}\n\nid: 7-1\nevent: done\ndata: {}\n\n: keep-alive\n\n";
        assert_eq!(out, expected);
        assert_eq!(encoded(None, "{\"a\": 1}"), "id: 1-2\nevent: message\ndata: {\"a\": 1}\n\n");
        assert_eq!(encoded(None, "{\r\n \"a\": 1\n}"), "id: 1-2\nevent: message\ndata: {   \"a\": 1 }\n\n");
    }
}

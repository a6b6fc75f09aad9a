//! Server-sent events, framing only, on bytes (WHATWG HTML, section 9.2.6).
//!
//! Takes CR, LF and CRLF, a byte order mark, and input split anywhere. Knows
//! nothing of what the data means.

use bytes::Bytes;
use thiserror::Error;

/// One event that had data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// Its `event:` field, if it had a non-empty one.
    pub name: Option<String>,
    /// Its `data:` fields, joined by LF.
    pub data: Bytes,
}

/// One event, or one unfinished line, is larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an event of the stream is larger than {bytes_max} bytes")]
pub struct EventTooLarge {
    /// The limit.
    pub bytes_max: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Turns bytes into events, as they come.
#[derive(Debug)]
pub struct SseParser {
    bytes_max: usize,
    /// The beginning of a line that is not finished.
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
}

impl SseParser {
    /// A parser that holds at most about `bytes_max` bytes of one event.
    #[must_use]
    pub fn new(bytes_max: usize) -> SseParser {
        SseParser {
            bytes_max,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes the next bytes and adds the events they complete to `events`.
    /// After an error the parser is of no more use.
    pub fn push(&mut self, mut chunk: &[u8], events: &mut Vec<SseEvent>) -> Result<(), EventTooLarge> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, tail) = chunk.split_at(end);
            self.take_line(head, events)?;
            chunk = match tail {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.check(chunk.len())?;
        self.line.extend_from_slice(chunk);
        Ok(())
    }

    /// The stream ended in order. The standard drops an event without its
    /// blank line; agents that forget the last one are common, so it counts.
    pub fn finish(mut self, events: &mut Vec<SseEvent>) -> Result<(), EventTooLarge> {
        if !self.line.is_empty() {
            self.take_line(&[], events)?;
        }
        self.dispatch(events);
        Ok(())
    }

    fn take_line(&mut self, tail: &[u8], events: &mut Vec<SseEvent>) -> Result<(), EventTooLarge> {
        self.check(tail.len())?;
        if self.line.is_empty() {
            self.field(tail, events);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(tail);
            self.field(&line, events);
            line.clear();
            self.line = line;
        }
        Ok(())
    }

    fn field(&mut self, mut line: &[u8], events: &mut Vec<SseEvent>) {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(events);
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // Comments, `id`, `retry` and unknown fields carry nothing on.
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<SseEvent>) {
        if std::mem::take(&mut self.has_data) {
            let name = (!self.name.is_empty()).then(|| String::from_utf8_lossy(&self.name).into_owned());
            events.push(SseEvent { name, data: std::mem::take(&mut self.data).into() });
        }
        self.name.clear();
    }

    fn check(&self, more: usize) -> Result<(), EventTooLarge> {
        let held = self.line.len() + self.data.len() + self.name.len();
        if held.saturating_add(more) > self.bytes_max {
            return Err(EventTooLarge { bytes_max: self.bytes_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Option<String>, String)> {
        let mut parser = SseParser::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk, &mut events).expect("small");
        }
        parser.finish(&mut events).expect("small");
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        events.into_iter().map(|event| (event.name, text(&event.data))).collect()
    }

    fn check(input: &str, expected: &[(Option<&str>, &str)]) {
        let expected: Vec<(Option<String>, String)> =
            expected.iter().map(|(name, data)| (name.map(str::to_owned), (*data).to_owned())).collect();
        assert_eq!(parse([input.as_bytes()]), expected, "{input:?}");
        assert_eq!(parse(input.as_bytes().chunks(1)), expected, "byte by byte: {input:?}");
    }

    #[test]
    fn events_are_framed_as_the_standard_says() {
        check("data: a\n\n", &[(None, "a")]);
        check("\u{feff}data: a\r\n\r\ndata:b\r\rdata:  c\n\n", &[(None, "a"), (None, "b"), (None, " c")]);
        check("data: a\ndata\ndata: b\n\n", &[(None, "a\n\nb")]);
        check("event: x\nid: 1\nretry: 5\n: note\ndata: a\n\n", &[(Some("x"), "a")]);
        check("event: x\n\ndata: a\n\n", &[(None, "a")]);
        check("event: x\nevent: y\ndata\n\n", &[(Some("y"), "")]);
        check("\n\r\n\r: only comments\n\nunknown: a\n\n", &[]);
        check("data: a\n\ndata: unfinished", &[(None, "a"), (None, "unfinished")]);
        check("data: \u{feff}é\n\n", &[(None, "\u{feff}é")]);
    }

    #[test]
    fn the_limit_holds_for_lines_and_for_events() {
        let mut events = Vec::new();
        let error = EventTooLarge { bytes_max: 10 };
        assert_eq!(SseParser::new(10).push(&[b'a'; 11], &mut events), Err(error));
        assert_eq!(SseParser::new(10).push(b"data:123\ndata:456\ndata:789\n", &mut events), Err(error));
        let mut parser = SseParser::new(10);
        for _ in 0..100 {
            parser.push(b"data:123\n\n", &mut events).expect("each is small");
        }
        assert_eq!(events.len(), 100);
    }

    /// A slow and obvious reading of the standard, to compare with.
    fn oracle(input: &str) -> Vec<(Option<String>, String)> {
        let text = input.strip_prefix('\u{feff}').unwrap_or(input).replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let (mut name, mut data) = (String::new(), None::<String>);
        for line in text.split('\n').chain([""]) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            if line.is_empty() {
                if let Some(data) = data.take() {
                    events.push(((!name.is_empty()).then(|| name.clone()), data));
                }
                name.clear();
            } else if field == "data" {
                data = Some(data.map_or(value.clone(), |data| data + "\n" + &value));
            } else if field == "event" {
                name = value;
            }
        }
        events
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle_however_it_is_split(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("data: "), Just("data:"), Just("data"), Just("event: "), Just(":"), Just(" "), Just("\n"),
                    Just("\r"), Just("\r\n"), Just("\n\n"), Just("x"), Just("é"), Just("\u{feff}"), Just("id: 1"),
                ],
                0..60,
            ),
            cuts in proptest::collection::vec(0usize..200, 0..10),
        ) {
            let input = pieces.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.push(0);
            cuts.push(input.len());
            cuts.sort_unstable();
            let chunks = cuts.windows(2).filter_map(|pair| match pair {
                [from, to] => input.as_bytes().get(*from..*to),
                _ => None,
            });
            prop_assert_eq!(parse(chunks), oracle(&input));
        }

        #[test]
        fn never_panics(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut parser = SseParser::new(64);
            let mut events = Vec::new();
            for chunk in &chunks {
                if parser.push(chunk, &mut events).is_err() {
                    return Ok(());
                }
            }
            let _ = parser.finish(&mut events);
        }
    }
}

//! The rules for single values from outside, and a list of what broke them.

use crate::error::Failure;
use crate::limits::{
    AUDIO_BYTES_MAX, CLIENT_ID_BYTES_MAX, EVENT_BYTES_MAX, EVENT_TYPE_BYTES_MAX, ID_BYTES_MAX,
    LABEL_BYTES_MAX, TEXT_BYTES_MAX, TOPIC_NAME_BYTES_MAX,
};
use crate::sse::encoder::GAP;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use turnwise_api::{Code, Field, FieldError};

/// Collects what is wrong with a request, so that one answer names all of it.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn add(
        &mut self,
        pointer: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Ends a request that something is wrong with.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::invalid(Code::InvalidContent, self.0)) }
    }

    /// A string that may be missing.
    pub(crate) fn optional<'f>(&mut self, pointer: &'static str, field: &'f Field<'_>) -> Option<&'f str> {
        let found = match field {
            Field::Absent => return None,
            Field::Text(text) => return Some(text),
            Field::Bool(_) => "true or false",
            Field::Other(found) => found,
        };
        self.add(pointer, format!("must be a string, not {found}"));
        None
    }

    /// A string under a rule that may be missing.
    pub(crate) fn checked<'f>(
        &mut self,
        pointer: &'static str,
        field: &'f Field<'_>,
        rule: fn(&str) -> Option<Cow<'static, str>>,
    ) -> Option<&'f str> {
        let text = self.optional(pointer, field)?;
        if let Some(detail) = rule(text) {
            self.add(pointer, detail);
        }
        Some(text)
    }

    /// A string under a rule that must be there.
    pub(crate) fn required<'f>(
        &mut self,
        pointer: &'static str,
        field: &'f Field<'_>,
        rule: fn(&str) -> Option<Cow<'static, str>>,
    ) -> &'f str {
        if *field == Field::Absent {
            self.add(pointer, "is required");
        }
        self.checked(pointer, field, rule).unwrap_or_default()
    }

    /// true or false, or missing.
    pub(crate) fn boolean(&mut self, pointer: &'static str, field: &Field<'_>) -> Option<bool> {
        match field {
            Field::Absent => return None,
            Field::Bool(value) => return Some(*value),
            Field::Text(_) | Field::Other(_) => self.add(pointer, "must be true or false"),
        }
        None
    }
}

/// A message's text.
pub(crate) fn text(text: &str) -> Option<Cow<'static, str>> {
    (text.len() > TEXT_BYTES_MAX).then(|| format!("must have at most {TEXT_BYTES_MAX} bytes").into())
}

/// Ids from outside are opaque, within bounds.
pub(crate) fn id(text: &str) -> Option<Cow<'static, str>> {
    let ok = (1..=ID_BYTES_MAX).contains(&text.len()) && !has_control(text);
    (!ok).then(|| format!("must have 1 to {ID_BYTES_MAX} bytes and no control characters").into())
}

/// Client ids are a closed alphabet.
pub(crate) fn client_id(text: &str) -> Option<Cow<'static, str>> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ok = (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
    (!ok).then(|| format!("must be 1 to {CLIENT_ID_BYTES_MAX} of a-z, 0-9 and -").into())
}

/// Formats, names and languages.
pub(crate) fn label(text: &str) -> Option<Cow<'static, str>> {
    let ok = (1..=LABEL_BYTES_MAX).contains(&text.len()) && !has_control(text);
    (!ok).then(|| format!("must have 1 to {LABEL_BYTES_MAX} bytes and no control characters").into())
}

/// Names of topics are a closed alphabet.
pub(crate) fn topic(text: &str) -> Option<Cow<'static, str>> {
    let ok = (1..=TOPIC_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name);
    (!ok).then(|| format!("must be 1 to {TOPIC_NAME_BYTES_MAX} of A-Z, a-z, 0-9 and _.:-").into())
}

/// A name, or one with `*` in the place of tokens, or with `>` in the place of the last ones.
pub(crate) fn topic_pattern(text: &str) -> Option<Cow<'static, str>> {
    let mut tokens = text.split(['.', ':']).peekable();
    let mut fits = (1..=TOPIC_NAME_BYTES_MAX).contains(&text.len());
    while let Some(token) = tokens.next() {
        let is_rest = token == ">" && tokens.peek().is_none();
        fits &= is_rest || token == "*" || token.bytes().all(is_of_name);
    }
    (!fits).then(|| {
        format!(
            "must be a topic of at most {TOPIC_NAME_BYTES_MAX} bytes; * stands for one part between . or :, \
             and > at the end for the rest"
        )
        .into()
    })
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-')
}

/// An event's type becomes the name of a server-sent event: one line, and none of the names that are ours.
pub(crate) fn event_type(text: &str) -> Option<Cow<'static, str>> {
    let ok = (1..=EVENT_TYPE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && text != GAP;
    (!ok).then(|| {
        format!("must be 1 to {EVENT_TYPE_BYTES_MAX} visible ASCII characters without spaces, and not {GAP}")
            .into()
    })
}

/// The size of an event.
pub(crate) fn event_bytes(bytes: usize) -> Option<Cow<'static, str>> {
    (bytes > EVENT_BYTES_MAX).then(|| format!("must have at most {EVENT_BYTES_MAX} bytes").into())
}

/// Anything.
pub(crate) fn any(_: &str) -> Option<Cow<'static, str>> {
    None
}

/// Standard base64 with padding (RFC 4648 section 4) within the limit.
pub(crate) fn audio(text: &str) -> Option<Cow<'static, str>> {
    const CHUNK_BYTES: usize = 4096;
    if text.is_empty() {
        return Some("must not be empty".into());
    }
    let mut decoded = [0_u8; CHUNK_BYTES / 4 * 3];
    let (mut bytes, mut whole) = (0, true);
    for chunk in text.as_bytes().chunks(CHUNK_BYTES) {
        let valid = whole.then(|| STANDARD.decode_slice(chunk, &mut decoded).ok()).flatten();
        let Some(length) = valid else {
            return Some("must be standard base64 with padding and without line breaks".into());
        };
        bytes += length;
        // Padding may only stand at the very end.
        whole = length == decoded.len();
    }
    (bytes > AUDIO_BYTES_MAX)
        .then(|| format!("must have at most {AUDIO_BYTES_MAX} bytes once decoded, not {bytes}").into())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Option<Cow<'static, str>>, text: &str, ok: bool) {
        assert_eq!(rule(text).is_none(), ok, "{:?}", text.get(..text.len().min(40)));
    }

    #[test]
    fn ids_are_opaque_within_bounds() {
        for good in ["a", "group:+/=", "a b", "日本", "US.abc", &"x".repeat(256)] {
            check(id, good, true);
        }
        for bad in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(257), &"é".repeat(129)] {
            check(id, bad, false);
        }
    }

    #[test]
    fn client_ids_have_an_alphabet() {
        check(client_id, "telegram-gateway", true);
        check(client_id, &"x".repeat(64), true);
        for bad in ["", "Web", "a_b", "a b", &"x".repeat(65)] {
            check(client_id, bad, false);
        }
    }

    #[test]
    fn topics_patterns_and_types_have_an_alphabet() {
        for good in ["a", "orders.eu:2_x-Y", &"x".repeat(128)] {
            check(topic, good, true);
            check(topic_pattern, good, true);
        }
        for bad in ["", "a b", "a/b", "é", "a\n", "a*", ">", &"x".repeat(129)] {
            check(topic, bad, false);
        }
        for good in ["*", ">", "a.*.c", "a:*", "a.>", "*.*"] {
            check(topic_pattern, good, true);
        }
        for bad in ["", "a*", "a.b*", ">.a", "a.>.b", "a>", "a,b", "**", &"x".repeat(129)] {
            check(topic_pattern, bad, false);
        }
        for good in ["order.created", "com.example/é".trim_end_matches('é'), "message", "x+y=z"] {
            check(event_type, good, true);
        }
        for bad in ["", "gap", "a b", "a\nb", "a\rdata: x", "\u{0}", "é", &"x".repeat(121)] {
            check(event_type, bad, false);
        }
    }

    #[test]
    fn audio_is_base64_of_bounded_size() {
        for size in [1, 2, 3, 3071, 3072, 3073, 6144, 100_000] {
            check(audio, &STANDARD.encode(vec![7; size]), true);
        }
        for bad in ["", "a", "ab", "ab=", "ab==ab==", "a-_b", "YWJj\n", "äbcd"] {
            check(audio, bad, false);
        }
        let padded_inside = format!("{}{}", STANDARD.encode(vec![7; 3071]), "YWJj");
        check(audio, &padded_inside, false);
        check(audio, &STANDARD.encode(vec![7; AUDIO_BYTES_MAX]), true);
        check(audio, &STANDARD.encode(vec![7; AUDIO_BYTES_MAX + 1]), false);
    }
}

//! Streams of JSON values: kept as the values with commas between them, so
//! that any stretch of them is a list but for its brackets.

use super::StreamRefusal;
use bytes::{Bytes, BytesMut};
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A media type without its parameters, in small letters.
pub(super) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn is_json(content_type: &str) -> bool {
    media_type(content_type) == "application/json"
}

/// What is kept of a body: the values of a list, or the one value. Nothing of an empty list.
pub(super) fn values(body: &Bytes) -> Result<Bytes, StreamRefusal> {
    serde_json::from_slice::<IgnoredAny>(body).map_err(|_| StreamRefusal::NotJson)?;
    std::str::from_utf8(body).map_err(|_| StreamRefusal::NotJson)?;
    let value = trimmed(body);
    let list = value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    Ok(body.slice_ref(trimmed(list.unwrap_or(value))))
}

fn trimmed(json: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = json.iter().position(|byte| !is_space(byte)).unwrap_or(json.len());
    let end = json.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    json.get(start..end).unwrap_or_default()
}

/// The first so many of the values; `None` if there are fewer.
pub(super) fn first(values: &Bytes, count: u64) -> Option<Bytes> {
    let mut list = BytesMut::with_capacity(values.len() + 2);
    list.extend_from_slice(b"[");
    list.extend_from_slice(values);
    list.extend_from_slice(b"]");
    let mut json = serde_json::Deserializer::from_slice(&list);
    let found = json.deserialize_seq(First { count });
    found.ok().flatten()
}

/// Puts them behind one another.
pub(super) fn joined(values: Bytes, more: &Bytes) -> Bytes {
    match (values.is_empty(), more.is_empty()) {
        (_, true) => values,
        (true, false) => more.clone(),
        (false, false) => [&values[..], &more[..]].join(&b","[..]).into(),
    }
}

struct First {
    count: u64,
}

impl<'de> Visitor<'de> for First {
    type Value = Option<Bytes>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Bytes>, A::Error> {
        let mut found = BytesMut::new();
        let mut is_all = true;
        for nth in 0..self.count {
            let Some(value) = list.next_element::<&RawValue>()? else {
                is_all = false;
                break;
            };
            if nth > 0 {
                found.extend_from_slice(b",");
            }
            found.extend_from_slice(value.get().as_bytes());
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(is_all.then(|| found.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &'static str, expected: Result<&str, StreamRefusal>) {
        let got = values(&Bytes::from_static(body.as_bytes()));
        assert_eq!(got, expected.map(|text| Bytes::copy_from_slice(text.as_bytes())), "{body}");
    }

    #[test]
    fn one_level_of_a_list_is_taken_apart() {
        check("{\"a\": 1}", Ok("{\"a\": 1}"));
        check(" [1, [2], \"]\"]\r\n", Ok("1, [2], \"]\""));
        check("[[1,2]]", Ok("[1,2]"));
        check("[ ]", Ok(""));
        check("\"[x]\"", Ok("\"[x]\""));
        for wrong in ["", " ", "{", "[1,]", "1 2", "nul"] {
            check(wrong, Err(StreamRefusal::NotJson));
        }
    }

    #[test]
    fn the_first_values_of_a_list() {
        let values = Bytes::from_static(b"1, {\"b\":[2,3]} ,\"x,y\"");
        let check = |count, expected: Option<&'static str>| {
            assert_eq!(first(&values, count), expected.map(|text| Bytes::from_static(text.as_bytes())));
        };
        check(0, Some(""));
        check(2, Some("1,{\"b\":[2,3]}"));
        check(3, Some("1,{\"b\":[2,3]},\"x,y\""));
        check(4, None);
    }
}

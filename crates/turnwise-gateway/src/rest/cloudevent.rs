//! CloudEvents 1.0 as they come over HTTP: structured, batched and binary
//! (CloudEvents HTTP Protocol Binding 1.0.2, JSON Event Format 1.0.2). Whatever
//! the mode, what is kept is the event in its JSON format.

use super::publication::are_as_many_as_may_be;
use super::rules::{self, Errors};
use super::strict;
use crate::error::Failure;
use crate::limits::{CLOUDEVENT_ATTRIBUTES_MAX, CLOUDEVENT_SOURCE_BYTES_MAX, ID_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use turnwise_api::{Code, Shallow};

const PREFIX: &str = "ce-";
const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";
const CONTENT: &str = "datacontenttype";
/// Longest name of an attribute.
const NAME_BYTES_MAX: usize = 64;

/// Attributes and data by their names.
type Members = BTreeMap<String, Box<RawValue>>;

/// A sound event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloudEvent {
    pub(crate) event_type: String,
    pub(crate) source: String,
    pub(crate) id: String,
    /// The whole of it.
    pub(crate) json: Vec<u8>,
}

/// Whether a request without a media type of CloudEvents carries one all the same.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// One event in the JSON format.
pub(crate) fn structured(body: &[u8], errors: &mut Errors) -> Result<Option<CloudEvent>, Failure> {
    sound(body)?;
    Ok(read(body, "", errors))
}

/// Several.
pub(crate) fn batch(body: &[u8], errors: &mut Errors) -> Result<Vec<CloudEvent>, Failure> {
    sound(body)?;
    let all: Vec<IgnoredAny> = strict(body, "must be an array of CloudEvents in their JSON format")?;
    if !are_as_many_as_may_be(all.len(), "", errors) {
        return Ok(Vec::new());
    }
    let all: Vec<&RawValue> = strict(body, "must be an array of CloudEvents in their JSON format")?;
    let each = all.into_iter().enumerate();
    Ok(each.filter_map(|(at, raw)| read(raw.get().as_bytes(), &format!("/{at}"), errors)).collect())
}

/// One event of sound JSON.
fn read(json: &[u8], at: &str, errors: &mut Errors) -> Option<CloudEvent> {
    if let Some(detail) = rules::event_bytes(json.len()) {
        errors.add(at.to_owned(), detail);
        return None;
    }
    match serde_json::from_slice(json) {
        Ok(members) => checked(members, at, errors),
        Err(_) => {
            errors.add(at.to_owned(), "must be a CloudEvent in its JSON format: an object");
            None
        }
    }
}

/// One whose attributes are headers, and whose data is the body.
pub(crate) fn binary(
    headers: &HeaderMap,
    body: &[u8],
    errors: &mut Errors,
) -> Result<Option<CloudEvent>, Failure> {
    let mut members = Members::new();
    if let Some(detail) = rules::event_bytes(body.len()) {
        errors.add("", detail);
        return Ok(None);
    }
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        match decoded(value.as_bytes()) {
            Some(text) if name != DATA && name != CONTENT => {
                members.insert(name.to_owned(), text_json(&text));
            }
            Some(_) => errors.add(format!("{PREFIX}{name}"), "belongs into the body, or into Content-Type"),
            None => errors.add(format!("{PREFIX}{name}"), "must be UTF-8, percent-encoded"),
        }
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(media) = media {
        members.insert(CONTENT.to_owned(), text_json(media));
    }
    if !body.is_empty() {
        let (name, data) = data(media, body)?;
        members.insert(name.to_owned(), data);
    }
    Ok(checked(members, "", errors))
}

/// The body as a member of the JSON format.
fn data(media: Option<&str>, body: &[u8]) -> Result<(&'static str, Box<RawValue>), Failure> {
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media.ends_with("/json") || media.ends_with("+json");
    let json = std::str::from_utf8(body).ok().filter(|text| serde_json::from_str::<Shallow>(text).is_ok());
    match (json, std::str::from_utf8(body)) {
        (Some(json), _) if is_json || media.is_empty() => {
            let raw = RawValue::from_string(json.trim().to_owned());
            raw.map(|raw| (DATA, raw)).map_err(|_| not_json())
        }
        _ if is_json => Err(not_json()),
        (_, Ok(text)) if media.starts_with("text/") => Ok((DATA, text_json(text))),
        _ => Ok((DATA_BASE64, text_json(&STANDARD.encode(body)))),
    }
}

fn not_json() -> Failure {
    Failure::new(Code::NotJson, "The body is not JSON")
}

/// JSON that no reader behind us trips over.
fn sound(body: &[u8]) -> Result<(), Failure> {
    serde_json::from_slice::<Shallow>(body).map(|_| ()).map_err(|_| not_json())
}

fn text_json(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("a text is JSON")
}

/// The text of a header (section 3.1.3.2): perhaps quoted, and percent-encoded.
fn decoded(value: &[u8]) -> Option<String> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let value: Cow<'_, [u8]> = match inner {
        None => value.into(),
        Some(inner) => {
            let mut escaped = false;
            let keep = |byte: &&u8| {
                escaped = **byte == b'\\' && !escaped;
                !escaped
            };
            inner.iter().filter(keep).copied().collect::<Vec<u8>>().into()
        }
    };
    percent_decoded(&value)
}

/// What stands for itself, and bytes as `%` and two digits.
pub(crate) fn percent_decoded(value: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|two| *first == b'%' && two.iter().all(u8::is_ascii_hexdigit));
        let hex = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                text.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(text).ok()
}

/// The event, if everything about it is as it must be.
fn checked(mut members: Members, at: &str, errors: &mut Errors) -> Option<CloudEvent> {
    let before = errors.0.len();
    members.retain(|name, value| value.get() != "null" || name == DATA);
    if members.len() > CLOUDEVENT_ATTRIBUTES_MAX {
        errors.add(at.to_owned(), format!("must have at most {CLOUDEVENT_ATTRIBUTES_MAX} attributes"));
        return None;
    }
    let mut required = |name: &str, rule: fn(&str) -> Option<Cow<'static, str>>| {
        let Some(raw) = members.get(name) else {
            errors.add(format!("{at}/{name}"), "is required");
            return String::new();
        };
        let text = text_of(raw).unwrap_or_default();
        if let Some(detail) = rule(&text) {
            errors.add(format!("{at}/{name}"), detail);
        }
        text
    };
    required("specversion", version);
    let event_type = required("type", rules::event_type);
    let (source, id) = (required("source", source), required("id", rules::id));
    for (name, raw) in &members {
        if let Some(detail) = wrong(name, raw) {
            let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
            errors.add(format!("{at}/{shown}"), detail);
        }
    }
    if members.contains_key(DATA) && members.contains_key(DATA_BASE64) {
        errors.add(format!("{at}/{DATA_BASE64}"), "must not be there beside data");
    }
    let json = serde_json::to_vec(&members).ok()?;
    if let Some(detail) = rules::event_bytes(json.len()) {
        errors.add(at.to_owned(), detail);
    }
    (errors.0.len() == before).then_some(CloudEvent { event_type, source, id, json })
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn version(text: &str) -> Option<Cow<'static, str>> {
    (text != "1.0").then_some("must be \"1.0\"".into())
}

fn source(text: &str) -> Option<Cow<'static, str>> {
    let ok = (1..=CLOUDEVENT_SOURCE_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    (!ok).then(|| format!("must be a URI reference of at most {CLOUDEVENT_SOURCE_BYTES_MAX} bytes").into())
}

/// What is wrong with a member that may be missing.
fn wrong(name: &str, raw: &RawValue) -> Option<Cow<'static, str>> {
    let text = text_of(raw);
    match name {
        DATA | "specversion" | "type" | "source" | "id" => None,
        DATA_BASE64 => {
            let ok = text.is_some_and(|text| STANDARD.decode(text).is_ok());
            (!ok).then_some("must be standard base64 with padding".into())
        }
        "time" => {
            let ok = text.is_some_and(|text| is_rfc3339(text.as_bytes()));
            (!ok).then_some("must be a time by RFC 3339".into())
        }
        "subject" | "dataschema" | CONTENT => {
            let ok = text.is_some_and(|text| (1..=CLOUDEVENT_SOURCE_BYTES_MAX).contains(&text.len()));
            (!ok).then(|| format!("must be a string of 1 to {CLOUDEVENT_SOURCE_BYTES_MAX} bytes").into())
        }
        _ => {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
                return Some("is no name of an attribute: a-z and 0-9".into());
            }
            let is_number = raw.get().parse::<i32>().is_ok();
            let ok = text.is_some_and(|text| text.len() <= ID_BYTES_MAX * 4)
                || is_number
                || matches!(raw.get(), "true" | "false");
            (!ok).then(|| {
                format!(
                    "must be a string of at most {} bytes, true, false or a whole number",
                    ID_BYTES_MAX * 4
                )
                .into()
            })
        }
    }
}

/// Whether it has the form of RFC 3339, section 5.6; the days of a month are not counted.
fn is_rfc3339(text: &[u8]) -> bool {
    let Some((date, rest)) = text.split_at_checked("2026-11-21T12:00:00".len()) else { return false };
    let form = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        form => byte == form,
    };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            fraction.get(digits..).unwrap_or_default()
        }
    };
    let is_zone = match rest {
        b"Z" | b"z" => true,
        [b'+' | b'-', zone @ ..] => zone.len() == 5 && zone.iter().zip(b"dd:dd").all(fits),
        _ => false,
    };
    date.iter().zip(form).all(fits) && is_zone
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it fails")]
    use super::*;
    use http::{HeaderName, HeaderValue};

    const EVENT: &str = r#"{"specversion":"1.0","type":"t","source":"/s","id":"1"}"#;

    /// The event of this JSON, or where it is wrong.
    fn parsed(json: &str) -> Result<CloudEvent, Vec<String>> {
        let mut errors = Errors::default();
        let event = structured(json.as_bytes(), &mut errors).unwrap();
        event.ok_or_else(|| errors.0.into_iter().map(|error| error.pointer.into_owned()).collect())
    }

    /// The event with one member more.
    fn with(member: &str) -> String {
        EVENT.replace('}', &format!(",{member}}}"))
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_structured_event_comes_back_whole() {
        let json = with(r#""data":{"a":[1,null]},"subject":"x","comexample":7,"gone":null"#);
        let event = parsed(&json).unwrap();
        assert_eq!((event.event_type.as_str(), event.source.as_str(), event.id.as_str()), ("t", "/s", "1"));
        let kept: serde_json::Value = serde_json::from_slice(&event.json).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(&json).unwrap();
        expected.as_object_mut().unwrap().remove("gone");
        assert_eq!(kept, expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (member, pointer) in [
            (r#""data":1,"data_base64":"AA==""#, "/data_base64"),
            (r#""data_base64":"?""#, "/data_base64"),
            (r#""time":"yesterday""#, "/time"),
            (r#""time":"2026-11-21T12:00:00""#, "/time"),
            (r#""subject":"""#, "/subject"),
            (r#""camelCase":"x""#, "/camelCase"),
            (r#""list":[1]"#, "/list"),
            (r#""float":1.5"#, "/float"),
        ] {
            assert_eq!(parsed(&with(member)), Err(vec![pointer.to_owned()]), "{member}");
        }
        for name in ["specversion", "type", "source", "id"] {
            let without: serde_json::Value = {
                let mut event: serde_json::Value = serde_json::from_str(EVENT).unwrap();
                event.as_object_mut().unwrap().remove(name);
                event
            };
            assert_eq!(parsed(&without.to_string()), Err(vec![format!("/{name}")]));
        }
        assert_eq!(parsed(&EVENT.replace("1.0", "0.3")), Err(vec!["/specversion".to_owned()]));
        assert_eq!(parsed(&EVENT.replace("\"t\"", "\"a\\nb\"")), Err(vec!["/type".to_owned()]));
        for fine in ["2026-11-21T12:00:00Z", "2026-11-21T12:00:00.123456789+01:00", "2026-11-21t12:00:00z"] {
            assert!(parsed(&with(&format!(r#""time":"{fine}""#))).is_ok(), "{fine}");
        }
        let mut errors = Errors::default();
        assert!(structured(b"[1", &mut errors).is_err());
        assert!(structured(b"[]", &mut errors).unwrap().is_none());
        assert_eq!(errors.0.len(), 1);
    }

    #[test]
    fn a_binary_event_is_the_same_event() {
        let common = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "/s"), ("ce-id", "1")];
        let read = |more: &[(&str, &str)], body: &[u8]| {
            let mut errors = Errors::default();
            let event = binary(&headers(&[&common[..], more].concat()), body, &mut errors).unwrap();
            let event = event.unwrap_or_else(|| panic!("{:?}", errors.0));
            serde_json::from_slice::<serde_json::Value>(&event.json).unwrap()
        };
        let json = read(&[("content-type", "application/json; charset=utf-8")], b" {\"a\":1}\n");
        assert_eq!((json["data"]["a"].as_u64(), json["datacontenttype"].is_string()), (Some(1), true));
        let text = read(&[("content-type", "text/plain")], "hé\n".as_bytes());
        assert_eq!(text["data"], "hé\n");
        let bytes = read(&[("content-type", "application/octet-stream")], &[0, 255]);
        assert_eq!((bytes["data_base64"].as_str(), bytes.get("data")), (Some("AP8="), None));
        let named = read(&[("ce-subject", "Euro%20%E2%82%AC%25"), ("ce-ext", "\"a \\\"b\\\"\"")], b"");
        assert_eq!((named["subject"].as_str(), named["ext"].as_str()), (Some("Euro €%"), Some("a \"b\"")));
        assert!(named.get("data").is_none());
        let mut errors = Errors::default();
        let broken = headers(&[&common[..], &[("content-type", "application/json")]].concat());
        assert!(binary(&broken, b"{", &mut errors).is_err());
        assert!(binary(&headers(&common[..3]), b"", &mut errors).unwrap().is_none());
        assert!(errors.0.iter().any(|error| error.pointer == "/id"));
    }
}

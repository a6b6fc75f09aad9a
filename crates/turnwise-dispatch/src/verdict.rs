//! What an agent's answer means for its turn. Pure: bytes and statuses in,
//! outcomes out (clause C4).

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use turnwise_broker::{AgentEvent, TurnError, TurnOutcome};
use turnwise_core::Timestamp;

use crate::limits::{
    EVENT_NAME_BYTES_MAX, REFUSAL_CHARS_MAX, RETRY_AFTER_DEFAULT, RETRY_AFTER_MAX, RETRY_AFTER_MIN,
};
use crate::sse::SseEvent;

/// The agent answered with something else than it promises.
pub(crate) fn agent_error(detail: impl Into<String>) -> TurnError {
    TurnError::new("agent_error", 502, detail)
}

/// The agent did not answer in time.
pub(crate) fn agent_timeout(limit: Duration) -> TurnError {
    TurnError::new(
        "agent_timeout",
        504,
        format!("The agent did not answer within {} s.", limit.as_secs_f64()),
    )
}

/// No connection to the agent.
pub(crate) fn agent_unreachable() -> TurnError {
    TurnError::new("agent_unreachable", 503, "The agent could not be reached.")
}

/// A whole answer as one line of JSON, or why it is none.
pub(crate) fn answer(body: Bytes) -> Result<Bytes, TurnError> {
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(json) if json.get().starts_with('{') => Ok(one_line(body.slice_ref(json.get().as_bytes()))),
        Ok(_) => Err(agent_error("The agent's answer is not a JSON object.")),
        Err(_) => Err(agent_error("The agent's answer is not JSON.")),
    }
}

/// JSON has line breaks only between its tokens: there a blank does the same.
fn one_line(json: Bytes) -> Bytes {
    if !json.contains(&b'\n') && !json.contains(&b'\r') {
        return json;
    }
    let blank = |byte: &u8| {
        if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }
    };
    json.iter().map(blank).collect()
}

#[derive(Default, Deserialize)]
struct RefusalJson<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    retry_after_ms: Option<&'a RawValue>,
}

/// What an answer other than 2xx means. A date in it is told from `now`.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> TurnOutcome {
    let json: RefusalJson<'_> = serde_json::from_slice(body).unwrap_or_default();
    let patience = retry_after(headers, &json, now);
    match status {
        StatusCode::TOO_MANY_REQUESTS => TurnOutcome::RetryAfter(patience.unwrap_or(RETRY_AFTER_DEFAULT)),
        StatusCode::SERVICE_UNAVAILABLE if patience.is_some() => {
            TurnOutcome::RetryAfter(patience.unwrap_or(RETRY_AFTER_DEFAULT))
        }
        status if status.is_client_error() => {
            let words = [json.message, json.detail, json.error].into_iter().flatten().find_map(words_of);
            let code = status.as_u16();
            let detail = match words {
                Some(words) => format!("The agent refused the message with status {code}: {words}"),
                None => format!("The agent refused the message with status {code}."),
            };
            TurnOutcome::Failed(TurnError::new("agent_rejected", code, detail))
        }
        status => {
            TurnOutcome::Failed(agent_error(format!("The agent answered with status {}.", status.as_u16())))
        }
    }
}

fn words_of(value: &RawValue) -> Option<String> {
    let words: String = serde_json::from_str(value.get()).ok()?;
    let words: String = words.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARS_MAX).collect();
    (!words.trim().is_empty()).then_some(words)
}

/// Either form of the header: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn delay(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let now = Duration::from_micros(u64::try_from(now.0).unwrap_or(0));
    Some(date.duration_since(SystemTime::UNIX_EPOCH + now).unwrap_or_default())
}

fn retry_after(headers: &HeaderMap, json: &RefusalJson<'_>, now: Timestamp) -> Option<Duration> {
    let ms = json.retry_after_ms.and_then(|value| serde_json::from_str::<f64>(value.get()).ok());
    let asked = match (ms, headers.get(header::RETRY_AFTER)) {
        (Some(ms), _) => Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(RETRY_AFTER_DEFAULT),
        (None, Some(value)) => {
            value.to_str().ok().and_then(|text| delay(text.trim(), now)).unwrap_or(RETRY_AFTER_DEFAULT)
        }
        (None, None) => return None,
    };
    Some(asked.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

/// What one event of a stream means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Part of the answer.
    Part(AgentEvent),
    /// The end, with the event to store and the whole answer, where there are any.
    Complete { event: Option<AgentEvent>, answer: Option<Bytes> },
    /// The agent gave up.
    Failed(TurnError),
}

#[derive(Default, Deserialize)]
struct EventJson<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    responses: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

/// Names that mean something else to our own readers.
const OWN_NAMES: [&str; 8] =
    ["message", "queued", "processing", "done", "error", "cancelled", "position", "gap"];

/// Reads one event of a stream: its `type`, its name, or `[DONE]` tell the end.
pub(crate) fn meaning(event: SseEvent) -> Meaning {
    if event.data.trim_ascii() == b"[DONE]" {
        return Meaning::Complete { event: None, answer: None };
    }
    let parsed = serde_json::from_slice::<EventJson<'_>>(&event.data);
    let is_json = parsed.is_ok();
    let json = parsed.unwrap_or_default();
    match (event.name.as_deref(), json.kind.as_deref()) {
        (Some("error"), _) | (_, Some("error")) => {
            let words = [json.error, json.message].into_iter().flatten().find_map(words_of);
            Meaning::Failed(agent_error(match words {
                Some(words) => format!("The agent failed: {words}"),
                None => "The agent failed.".to_owned(),
            }))
        }
        (Some("complete" | "done"), _) | (_, Some("complete")) => {
            let answer = match (json.response, json.responses) {
                (Some(response), _) => Some(event.data.slice_ref(response.get().as_bytes())),
                (None, Some(_)) => Some(event.data.clone()),
                (None, None) => None,
            };
            let answer = answer.filter(|answer| answer.starts_with(b"{")).map(one_line);
            let bare = event.name.as_deref() == Some("done") && answer.is_none();
            let stored = (!bare).then(|| stored(event, is_json));
            Meaning::Complete { event: stored, answer }
        }
        (_, _) => Meaning::Part(stored(event, is_json)),
    }
}

fn stored(event: SseEvent, is_json: bool) -> AgentEvent {
    let usable = |name: &String| {
        name.len() <= EVENT_NAME_BYTES_MAX
            && !name.chars().any(char::is_control)
            && !OWN_NAMES.contains(&name.as_str())
    };
    let data = match (is_json, std::str::from_utf8(&event.data)) {
        (true, _) => one_line(event.data),
        (false, Ok(_)) => event.data,
        (false, Err(_)) => String::from_utf8_lossy(&event.data).into_owned().into(),
    };
    AgentEvent { name: event.name.filter(usable), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: Option<&str>, data: &'static str) -> Meaning {
        meaning(SseEvent { name: name.map(str::to_owned), data: Bytes::from_static(data.as_bytes()) })
    }

    fn part(name: Option<&str>, data: &'static str) -> AgentEvent {
        AgentEvent { name: name.map(str::to_owned), data: Bytes::from_static(data.as_bytes()) }
    }

    fn refused(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> TurnOutcome {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
            })
            .collect();
        refusal(StatusCode::from_u16(status).expect("valid"), &headers, body.as_bytes(), Timestamp(0))
    }

    fn error(outcome: TurnOutcome) -> (String, u16) {
        match outcome {
            TurnOutcome::Failed(error) => (error.code, error.status),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_a_stream_is_told_in_several_ways() {
        let complete = r#"{"type":"complete","response":{"responses":["x"]}}"#;
        let whole = Some(Bytes::from_static(br#"{"responses":["x"]}"#));
        assert_eq!(
            read(None, complete),
            Meaning::Complete { event: Some(part(None, complete)), answer: whole.clone() }
        );
        let named = r#"{"responses":["x"]}"#;
        let event = Some(part(Some("complete"), named));
        assert_eq!(read(Some("complete"), named), Meaning::Complete { event, answer: whole });
        assert_eq!(read(Some("done"), "{}"), Meaning::Complete { event: None, answer: None });
        assert_eq!(read(None, "[DONE]"), Meaning::Complete { event: None, answer: None });
        let Meaning::Failed(failed) = read(None, r#"{"type":"error","error":"no model"}"#) else { panic!() };
        assert_eq!((failed.status, failed.detail.as_str()), (502, "The agent failed: no model"));
        assert!(matches!(read(Some("error"), "plain"), Meaning::Failed(_)));
    }

    #[test]
    fn parts_keep_their_data_and_their_harmless_names() {
        for data in [r#"{"type":"progress","text":"complete"}"#, "plain text", r#"{"type":7}"#, "[1]"] {
            assert_eq!(read(None, data), Meaning::Part(part(None, data)));
        }
        assert_eq!(read(Some("token"), "{}"), Meaning::Part(part(Some("token"), "{}")));
        assert_eq!(read(Some("queued"), "{}"), Meaning::Part(part(None, "{}")));
        assert_eq!(read(None, "{\"a\":\n1}"), Meaning::Part(part(None, "{\"a\": 1}")));
    }

    #[test]
    fn answers_must_be_json_objects() {
        assert_eq!(answer(Bytes::from_static(b" {\"a\":\r\n[1]}\n")).expect("fine"), "{\"a\":  [1]}");
        for wrong in ["", "<html>", "{\"a\":", "[]", "\"x\"", "{} {}"] {
            assert_eq!(answer(Bytes::from_static(wrong.as_bytes())).expect_err(wrong).status, 502);
        }
        assert!(answer(Bytes::from_static(b"{\"a\":\"\xff\"}")).is_err());
    }

    #[test]
    fn refusals_map_as_the_contract_says() {
        assert_eq!(error(refused(400, &[], "")), ("agent_rejected".to_owned(), 400));
        assert_eq!(error(refused(404, &[("retry-after", "1")], "")), ("agent_rejected".to_owned(), 404));
        assert_eq!(error(refused(500, &[], "")), ("agent_error".to_owned(), 502));
        assert_eq!(error(refused(503, &[], "")), ("agent_error".to_owned(), 502));
        assert_eq!(error(refused(302, &[], "")), ("agent_error".to_owned(), 502));
        let wait = |ms| TurnOutcome::RetryAfter(Duration::from_millis(ms));
        assert_eq!(refused(503, &[("retry-after", "2")], ""), wait(2_000));
        assert_eq!(refused(429, &[], ""), wait(5_000));
        assert_eq!(refused(429, &[], r#"{"retry_after_ms":250}"#), wait(250));
        assert_eq!(refused(429, &[("retry-after", "0")], ""), wait(50));
        assert_eq!(refused(429, &[("retry-after", "999999999")], ""), wait(600_000));
        // `refused` is asked at this date.
        assert_eq!(refused(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")], ""), wait(50));
        assert_eq!(refused(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:07 GMT")], ""), wait(7_000));
        assert_eq!(refused(503, &[("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")], ""), wait(600_000));
        assert_eq!(refused(503, &[("retry-after", "tomorrow")], ""), wait(5_000));
        let TurnOutcome::Failed(told) = refused(400, &[], r#"{"error":"Bad","message":"No text"}"#) else {
            panic!()
        };
        assert_eq!(told.detail, "The agent refused the message with status 400: No text");
    }
}

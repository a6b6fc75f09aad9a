//! What the fake agent puts on the wire: JSON answers and stream scripts.
//!
//! A script is a plain list of steps, so that what a stream will do can be
//! read before it is played.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use serde::Serialize;

use crate::fault::{Ending, Plan, Strike};
use crate::journal::{CallOutcome, OpenCall};

/// A body that is either whole or played from a script.
pub(crate) type AgentBody = Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

#[derive(Serialize)]
struct AnswerJson<'a> {
    message_id: &'a str,
    responses: [&'a str; 1],
    response_language: &'a str,
    voice_audio_base64: Option<&'a str>,
}

/// The text the agent answers with.
pub(crate) fn text_of(message: &str, plan: &Plan) -> String {
    let mut text = format!("You said: {message}");
    while text.len() < plan.answer_bytes {
        text.push('.');
    }
    text
}

/// The agent's JSON answer.
pub(crate) fn answer_json(message_id: &str, text: &str) -> Bytes {
    json_bytes(&AnswerJson {
        message_id,
        responses: [text],
        response_language: "en",
        voice_audio_base64: None,
    })
}

pub(crate) fn json_bytes<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("plain structs always serialise").into()
}

/// A whole JSON response.
pub(crate) fn json_response(status: StatusCode, body: Bytes) -> Response<AgentBody> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal as the worker words it, with whatever asks for patience.
pub(crate) fn refusal(status: StatusCode, code: &str, plan: &Plan) -> Response<AgentBody> {
    let mut body = serde_json::json!({ "error": code, "code": code, "message": "refused by the fake agent" });
    if let (Some(ms), Some(object)) = (plan.retry_after_ms, body.as_object_mut()) {
        object.insert("retry_after_ms".to_owned(), ms.into());
    }
    let mut response = json_response(status, json_bytes(&body));
    if let Some(seconds) = plan.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A 200 response whose body breaks off after its first bytes.
pub(crate) fn broken_json() -> Response<AgentBody> {
    let steps = VecDeque::from([Step::Chunk(Bytes::from_static(b"{\"responses\":[")), Step::Break]);
    let mut response = Response::new(Either::Right(play(steps, None)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// One thing a stream does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, for so long.
    Wait(Duration),
    /// Sends bytes.
    Chunk(Bytes),
    /// Notes in the journal how the call ended.
    End(CallOutcome),
    /// Breaks the connection.
    Break,
    /// Says nothing more and keeps the connection.
    Hang,
}

/// Everything a stream will do.
pub(crate) fn script(plan: &Plan, message_id: &str, text: &str) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    if plan.delay_ms > 0 {
        steps.push_back(Step::Wait(Duration::from_millis(plan.delay_ms)));
    }
    let mut pending = BytesMut::new();
    for number in 1..=plan.events {
        put_event(
            &mut pending,
            None,
            &serde_json::json!({"type": "progress", "text": format!("part {number} ")}),
        );
        if plan.gap_ms > 0 {
            steps.push_back(Step::Chunk(pending.split().freeze()));
            steps.push_back(Step::Wait(Duration::from_millis(plan.gap_ms)));
        }
    }
    push_end(&mut steps, pending, plan, message_id, text);
    steps
}

fn push_end(steps: &mut VecDeque<Step>, mut pending: BytesMut, plan: &Plan, message_id: &str, text: &str) {
    let outcome = match plan.strike {
        Strike::Hang => None,
        Strike::Cut | Strike::Garbage => Some(CallOutcome::Broken),
        Strike::Error | Strike::Status(_) => Some(CallOutcome::Refused),
        Strike::None if plan.ending == Ending::None => Some(CallOutcome::Broken),
        Strike::None => Some(CallOutcome::Answered),
    };
    match plan.strike {
        Strike::Error | Strike::Status(_) => {
            put_event(
                &mut pending,
                None,
                &serde_json::json!({"type": "error", "error": "the fake agent failed"}),
            );
        }
        Strike::Garbage => pending.put_slice(b"<html>not a stream</html>"),
        Strike::None => put_ending(&mut pending, plan.ending, &answer_json(message_id, text)),
        Strike::Hang | Strike::Cut => {}
    }
    // A break may race with the bytes before it: only its end is noted after them.
    if plan.strike != Strike::Cut
        && let Some(outcome) = outcome
    {
        steps.push_back(Step::End(outcome));
    }
    if !pending.is_empty() {
        steps.push_back(Step::Chunk(pending.freeze()));
    }
    match plan.strike {
        Strike::Hang => steps.push_back(Step::Hang),
        Strike::Cut => steps.extend([Step::End(CallOutcome::Broken), Step::Break]),
        Strike::None | Strike::Error | Strike::Status(_) | Strike::Garbage => {}
    }
}

fn put_event(out: &mut BytesMut, name: Option<&str>, data: &impl Serialize) {
    put_raw_event(out, name, &json_bytes(data));
}

fn put_raw_event(out: &mut BytesMut, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(b"data: ");
    out.put_slice(data);
    out.put_slice(b"\n\n");
}

fn put_ending(out: &mut BytesMut, ending: Ending, answer: &[u8]) {
    match ending {
        Ending::Complete => {
            out.put_slice(b"data: {\"type\":\"complete\",\"response\":");
            out.put_slice(answer);
            out.put_slice(b"}\n\n");
        }
        Ending::Named => put_raw_event(out, Some("complete"), answer),
        Ending::Done => put_raw_event(out, Some("done"), b"{}"),
        Ending::Marker => put_raw_event(out, None, b"[DONE]"),
        Ending::None => {}
    }
}

/// The response that plays a script. One that needs no time and breaks
/// nothing is sent whole.
pub(crate) fn stream_response(steps: VecDeque<Step>, call: OpenCall) -> Response<AgentBody> {
    let body = match immediate(&steps) {
        Some((bytes, outcome)) => {
            call.end(outcome);
            Either::Left(Full::new(bytes))
        }
        None => Either::Right(play(steps, Some(call))),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn immediate(steps: &VecDeque<Step>) -> Option<(Bytes, CallOutcome)> {
    let mut both = steps.iter();
    match (both.next(), both.next(), both.next()) {
        (Some(Step::End(outcome)), Some(Step::Chunk(bytes)), None) => Some((bytes.clone(), *outcome)),
        (Some(Step::End(outcome)), None, None) => Some((Bytes::new(), *outcome)),
        _ => None,
    }
}

fn play(steps: VecDeque<Step>, call: Option<OpenCall>) -> UnsyncBoxBody<Bytes, io::Error> {
    let frames = stream::unfold((steps, call), |(mut steps, mut call)| async move {
        loop {
            match steps.pop_front()? {
                Step::Wait(pause) => tokio::time::sleep(pause).await,
                Step::Chunk(bytes) => return Some((Ok(Frame::data(bytes)), (steps, call))),
                Step::End(outcome) => {
                    if let Some(call) = call.take() {
                        call.end(outcome);
                    }
                }
                Step::Break => {
                    // Lets what was sent before reach the wire first.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    return Some((Err(io::Error::other("cut on purpose")), (VecDeque::new(), call)));
                }
                Step::Hang => std::future::pending().await,
            }
        }
    });
    UnsyncBoxBody::new(StreamBody::new(frames)).boxed_unsync()
}

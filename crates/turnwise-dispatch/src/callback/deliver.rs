//! One try of a callback: what is sent, and what the answer means.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use turnwise_api::{CallbackBody, CallbackStatus, ChatAnswer};
use turnwise_broker::{BrokerError, Callback, CallbackAnswer, CallbackOutcome, CallbackTarget, TurnState};
use turnwise_core::{StoreError, Timestamp};

use super::Context;
use super::connect::{Trouble, open};
use super::sign::sign;
use crate::limits::{
    CALLBACK_ANSWER_BYTES_MAX, CALLBACK_BODY_TIME_MAX, CALLBACK_HEAD_BYTES_MAX, CALLBACK_HEADERS_MAX,
    CALLBACK_JITTER_PART, CALLBACK_RETRY_FACTOR, CALLBACK_RETRY_FIRST, CALLBACK_RETRY_MAX, DESCRIPTORS_WAIT,
};
use crate::verdict::delay;

/// How an exchange went.
enum Exchange {
    Answered(StatusCode, HeaderMap),
    Trouble(Trouble),
    /// The connection broke, or what came was not HTTP.
    Broken,
}

/// How a try ended, and the word it is counted by.
pub(super) type Tried = (CallbackOutcome, &'static str);

fn dead(class: &'static str, reason: String) -> Tried {
    (CallbackOutcome::Dead { status: None, reason }, class)
}

/// A request that may go out.
struct Ready<'a> {
    request: Request<Full<Bytes>>,
    /// For its body.
    _room: Option<SemaphorePermit<'a>>,
}

/// Tries a callback once; answers also how long the host took, if it was asked. Waits of our own are not counted.
pub(super) async fn deliver(
    context: &Context,
    callback: &Callback,
    target: &CallbackTarget,
) -> (Tried, Option<Duration>) {
    let ready = match prepare(context, callback, target).await {
        Ok(ready) => ready,
        Err(untried) => return (untried, None),
    };
    let limit = context.config.timeout;
    let asked = Instant::now();
    let answer = tokio::time::timeout(limit, exchange(context, target, ready.request)).await;
    let took = asked.elapsed();
    let tried = match answer {
        Ok(Exchange::Answered(status, headers)) => {
            verdict(context, callback.attempt, status, &headers, context.broker.now())
        }
        Ok(Exchange::Trouble(trouble @ Trouble::NoDescriptors)) => {
            tracing::warn!("no callback can be posted: {}; `ulimit -n` is too low", trouble.reason());
            return (later(DESCRIPTORS_WAIT), None);
        }
        Ok(Exchange::Trouble(trouble)) if trouble.is_final() => {
            dead(trouble.class(), trouble.reason().to_owned())
        }
        Ok(Exchange::Trouble(trouble)) => {
            failed(context, callback.attempt, (trouble.class(), trouble.reason()))
        }
        Ok(Exchange::Broken) => {
            failed(context, callback.attempt, ("broken", "the connection broke before an answer"))
        }
        Err(_) => {
            let reason = format!("the host did not answer within {} s", limit.as_secs_f64());
            failed(context, callback.attempt, ("timeout", &reason))
        }
    };
    (tried, Some(took))
}

/// Makes the request, as soon as there is room for its body.
///
/// # Errors
/// What becomes of a callback that cannot be tried.
async fn prepare<'a>(
    context: &'a Context,
    callback: &Callback,
    target: &CallbackTarget,
) -> Result<Ready<'a>, Tried> {
    let reading = context.bodies.read().await;
    let answer = match context.broker.callback_answer(callback).await {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            return Err(dead("answer_gone", "answer_gone: the turn's end is not kept any longer".to_owned()));
        }
        Err(error @ BrokerError::Store(StoreError::Corrupt(_))) => {
            tracing::error!(callback_id = %callback.id, %error, "a turn's end is damaged: its callback is given up");
            return Err(dead("other", "answer_damaged: the turn's end cannot be read".to_owned()));
        }
        Err(error) => {
            tracing::warn!(callback_id = %callback.id, %error, "a turn's end could not be read for its callback");
            return Err(later(CALLBACK_RETRY_FIRST));
        }
    };
    let room = context.bodies.room_for(&answer).await;
    drop(reading);
    let request = request(context, callback, target, body(callback, &answer))
        .ok_or_else(|| url_refused("cannot be asked for"))?;
    if callback.lease_left(context.broker.now()) < context.config.timeout {
        // It would still be on its way when the next try may begin.
        return Err(later(CALLBACK_RETRY_FIRST));
    }
    Ok(Ready { request, _room: room })
}

/// Its URL may not be asked for: never tried. `why` is the rest of a sentence.
pub(super) fn url_refused(why: &str) -> Tried {
    dead("url_refused", format!("url_refused: the URL {why}"))
}

/// Goes back without a try.
pub(super) fn later(delay: Duration) -> Tried {
    (CallbackOutcome::Deferred { delay }, "deferred")
}

fn failed(context: &Context, attempt: u32, (class, reason): (&'static str, &str)) -> Tried {
    let delay = retry_delay(attempt, (context.random)());
    (CallbackOutcome::Failed { status: None, reason: reason.to_owned(), delay }, class)
}

/// What an answer means: 2xx is the end, a 4xx that says "not like this" too, all others may pass.
fn verdict(
    context: &Context,
    attempt: u32,
    status: StatusCode,
    headers: &HeaderMap,
    now: Timestamp,
) -> Tried {
    let code = status.as_u16();
    if status.is_success() {
        return (CallbackOutcome::Delivered { status: code }, "delivered");
    }
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !may_pass.contains(&status) {
        let reason = format!("refused: the host answered {code}");
        return (CallbackOutcome::Dead { status: Some(code), reason }, "refused");
    }
    let reason = if status.is_redirection() {
        format!("the host answered {code}; redirects are not followed")
    } else {
        format!("the host answered {code}")
    };
    let asked = headers.get(header::RETRY_AFTER).and_then(|value| delay(value.to_str().ok()?.trim(), now));
    let delay =
        retry_delay(attempt, (context.random)()).max(asked.unwrap_or_default()).min(CALLBACK_RETRY_MAX);
    (CallbackOutcome::Failed { status: Some(code), reason, delay }, class_of(status))
}

/// The word by which an answer that may pass is counted.
fn class_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "busy",
        status if status.is_redirection() => "redirect",
        status if status.is_server_error() => "status_5xx",
        _ => "other",
    }
}

/// 1 s × 4 with each try, up to 10 minutes, give or take a quarter.
fn retry_delay(attempt: u32, random: u64) -> Duration {
    let factor = CALLBACK_RETRY_FACTOR.saturating_pow(attempt.saturating_sub(1));
    let curve = CALLBACK_RETRY_FIRST.saturating_mul(factor).min(CALLBACK_RETRY_MAX);
    // The upper half of the bits, from 0 to 1.
    let unit = (random >> 32) as f64 / f64::from(u32::MAX);
    curve.mul_f64(1.0 + CALLBACK_JITTER_PART * (2.0 * unit - 1.0)).min(CALLBACK_RETRY_MAX)
}

/// What is told. The same bytes each time.
fn body(callback: &Callback, answer: &CallbackAnswer) -> Bytes {
    let id = callback.turn.to_string();
    let end = &answer.end;
    let chat: ChatAnswer<'_> =
        end.answer.as_ref().and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let completed = end.state == TurnState::Completed;
    // A streamed answer may have no whole one: then its text is the answer.
    let text = answer.text.as_ref().filter(|_| completed && chat.responses.is_none()).map(|text| [text]);
    let text = text.and_then(|text| serde_json::value::to_raw_value(&text).ok());
    let (code, error) = match (end.state, &end.error) {
        (TurnState::Completed, _) => (None, None),
        (_, Some(error)) => (Some(error.code.as_str()), Some(error.detail.as_str())),
        (TurnState::Cancelled, None) => (Some("cancelled"), Some("The message was cancelled.")),
        (TurnState::Failed | TurnState::Queued | TurnState::Processing, None) => {
            (Some("agent_error"), Some("The agent failed."))
        }
    };
    let body = CallbackBody {
        message_id: &id,
        user_id: &callback.user,
        client_message_id: callback.client_message_id.as_deref(),
        status: if completed { CallbackStatus::Completed } else { CallbackStatus::Error },
        responses: completed.then(|| chat.responses.or(text.as_deref())),
        response_language: completed.then_some(chat.response_language),
        voice_audio_base64: completed.then_some(chat.voice_audio_base64),
        error,
        code,
    };
    Bytes::from(serde_json::to_vec(&body).expect("texts and checked JSON always serialise"))
}

fn request(
    context: &Context,
    callback: &Callback,
    target: &CallbackTarget,
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let id = callback.id.to_string();
    let signed = sign(&context.config.secrets, &id, context.broker.now(), &body);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path.parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(target.authority()).ok()?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("turnwise/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert("webhook-id", HeaderValue::try_from(id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::try_from(signed.timestamp).ok()?);
    if !signed.signature.is_empty() {
        headers.insert("webhook-signature", HeaderValue::try_from(signed.signature).ok()?);
    }
    if let Some((name, value)) = &context.config.token {
        headers.insert(name.clone(), value.clone());
    }
    Some(request)
}

async fn exchange(context: &Context, target: &CallbackTarget, request: Request<Full<Bytes>>) -> Exchange {
    let rules = &context.broker.config().callbacks;
    let wire = match open(target, rules, context.resolver.as_ref(), context.tls.as_ref()).await {
        Ok(wire) => wire,
        Err(trouble) => return Exchange::Trouble(trouble),
    };
    let mut builder = http1::Builder::new();
    builder.max_headers(CALLBACK_HEADERS_MAX).max_buf_size(CALLBACK_HEAD_BYTES_MAX);
    let Ok((mut sender, connection)) = builder.handshake(wire).await else { return Exchange::Broken };
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let Ok(response) = sender.send_request(request).await else { return Exchange::Broken };
        let (head, body) = response.into_parts();
        // Read for politeness: some servers take a closed connection for a change of mind.
        let body = Limited::new(body, CALLBACK_ANSWER_BYTES_MAX).collect();
        let _ = tokio::time::timeout(CALLBACK_BODY_TIME_MAX, body).await;
        Exchange::Answered(head.status, head.headers)
    });
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            exchange = exchange.as_mut() => return exchange,
            // What it had read is still in the exchange's hands.
            _ended = connection.as_mut(), if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_ten_minutes_with_jitter() {
        let waits =
            |random| (1..=12).map(|attempt| retry_delay(attempt, random).as_millis()).collect::<Vec<_>>();
        let (shortest, longest) = (waits(0), waits(u64::MAX));
        assert_eq!(shortest.get(..6), Some(&[750, 3_000, 12_000, 48_000, 192_000, 450_000][..]));
        assert_eq!(longest.get(..6), Some(&[1_250, 5_000, 20_000, 80_000, 320_000, 600_000][..]));
        assert_eq!(longest.last(), Some(&600_000));
    }
}

//! The fake agent's server: routes, keys, slots, faults.
//!
//! `POST /api/v1/chat`, `POST /api/v1/chat/stream`, `GET /health`,
//! `GET /stats`, `GET /log`, `DELETE /log` (starts the journal afresh).

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept::accept;
use crate::answer::{
    AgentBody, answer_json, broken_json, json_bytes, json_response, refusal, script, stream_response, text_of,
};
use crate::config::AgentConfig;
use crate::fault::{Plan, Strike};
use crate::journal::{CallOutcome, Journal, OpenCall, conversation_of_group, conversation_of_user};

/// A running fake agent. Dropping it stops it as abruptly as a crash would.
pub struct FakeAgent {
    address: SocketAddr,
    journal: Arc<Journal>,
    shutdown: CancellationToken,
    server: JoinSet<()>,
}

struct Shared {
    config: AgentConfig,
    journal: Arc<Journal>,
}

impl FakeAgent {
    /// Listens on `address` (port 0 picks one) and serves until stopped.
    /// Refuses a configuration whose fault words are unknown.
    pub async fn start(address: SocketAddr, config: AgentConfig) -> io::Result<FakeAgent> {
        for rule in &config.faults {
            Plan::default()
                .apply(&rule.fault)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let journal = Journal::new(config.journal_calls_max);
        let shared = Arc::new(Shared { config, journal: Arc::clone(&journal) });
        let shutdown = CancellationToken::new();
        let mut server = JoinSet::new();
        let serve = move |socket| serve(socket, Arc::clone(&shared));
        server.spawn(accept(listener, shutdown.clone(), serve));
        Ok(FakeAgent { address, journal, shutdown, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a base URL without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has seen so far.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Stops listening and breaks every connection.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.server.join_next().await.is_some() {}
    }

    /// Serves until `shutdown` is cancelled, then stops.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop().await;
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| route(Arc::clone(&shared), request));
    // A connection that breaks is the caller's business or a planned fault.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn route(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<AgentBody>> {
    let method = request.method();
    match request.uri().path() {
        "/api/v1/chat" if method == Method::POST => chat(shared, request, false).await,
        "/api/v1/chat/stream" if method == Method::POST => chat(shared, request, true).await,
        "/health" => Ok(json_response(
            StatusCode::OK,
            Bytes::from_static(b"{\"status\":\"healthy\",\"version\":\"mock\"}"),
        )),
        "/stats" => Ok(json_response(StatusCode::OK, json_bytes(&shared.journal.stats()))),
        "/log" if method == Method::DELETE => {
            shared.journal.reset();
            Ok(json_response(StatusCode::OK, Bytes::from_static(b"{}")))
        }
        "/log" => Ok(json_response(StatusCode::OK, json_bytes(&shared.journal.log()))),
        _ => Ok(failure(StatusCode::NOT_FOUND, "Not found")),
    }
}

/// The fields of a chat request that the agent looks at.
#[derive(Deserialize)]
struct ChatRequest<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    org: Cow<'a, str>,
    #[serde(borrow, default)]
    message_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    chat_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    chat_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thread_id: Option<Cow<'a, str>>,
}

impl ChatRequest<'_> {
    fn conversation(&self) -> String {
        match (self.chat_type.as_deref(), &self.chat_id) {
            (Some("group" | "supergroup"), Some(chat)) => {
                conversation_of_group(&self.org, chat, self.thread_id.as_deref())
            }
            _ => conversation_of_user(&self.org, &self.user_id),
        }
    }
}

async fn chat(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    stream: bool,
) -> io::Result<Response<AgentBody>> {
    let (parts, body) = request.into_parts();
    if let Some(response) = wrong_key(&shared.config, &parts.headers) {
        return Ok(response);
    }
    let Ok(body) = Limited::new(body, shared.config.body_bytes_max).collect().await else {
        return Ok(failure(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large or was cut"));
    };
    let body = body.to_bytes();
    let Ok(chat) = serde_json::from_slice::<ChatRequest<'_>>(&body) else {
        return Ok(failure(StatusCode::BAD_REQUEST, "The body is not a chat request"));
    };
    if chat.message.trim().is_empty() && chat.message_type.as_deref().unwrap_or("text") == "text" {
        return Ok(failure(StatusCode::BAD_REQUEST, "message is required"));
    }
    let message_id = header_text(&parts.headers, "idempotency-key");
    let attempt = header_text(&parts.headers, "x-turnwise-attempt").parse().unwrap_or(0);
    let call = shared.journal.start(chat.conversation(), message_id, attempt, stream);
    let plan = plan_of(&shared, &call, &chat.message, message_id);
    if let Some(response) = over_limits(&shared.config, &call) {
        call.end(CallOutcome::Refused);
        return Ok(response);
    }
    let text = text_of(&chat.message, &plan);
    perform(plan, call, message_id, &text, stream).await
}

/// Does what the plan says, on either route.
async fn perform(
    plan: Plan,
    call: OpenCall,
    message_id: &str,
    text: &str,
    stream: bool,
) -> io::Result<Response<AgentBody>> {
    let refuses = matches!(plan.strike, Strike::Status(_));
    if plan.delay_ms > 0 && (refuses || !stream) {
        tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
    }
    if let Strike::Status(status) = plan.strike {
        call.end(CallOutcome::Refused);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Ok(refusal(status, "PLANNED_FAULT", &plan));
    }
    if stream {
        return Ok(stream_response(script(&plan, message_id, text), call));
    }
    match plan.strike {
        Strike::None => {
            let answer = answer_json(message_id, text);
            call.end(CallOutcome::Answered);
            Ok(json_response(StatusCode::OK, answer))
        }
        Strike::Garbage => {
            call.end(CallOutcome::Broken);
            Ok(json_response(StatusCode::OK, Bytes::from_static(b"<html>not json</html>")))
        }
        Strike::Error | Strike::Status(_) => {
            call.end(CallOutcome::Refused);
            Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", &plan))
        }
        Strike::Cut if plan.events > 0 => {
            call.end(CallOutcome::Broken);
            Ok(broken_json())
        }
        Strike::Cut => {
            call.end(CallOutcome::Broken);
            Err(io::Error::other("cut on purpose"))
        }
        Strike::Hang => std::future::pending().await,
    }
}

fn plan_of(shared: &Shared, call: &OpenCall, message: &str, message_id: &str) -> Plan {
    let mut plan = Plan::of(&shared.config, call.number());
    for rule in &shared.config.faults {
        if rule.every > 0 && call.number().is_multiple_of(rule.every) {
            // Checked at start.
            let _ = plan.apply(&rule.fault);
        }
    }
    if shared.config.markers && message.contains("[[") {
        plan.apply_text(message);
    }
    if let Some(times) = plan.times
        && shared.journal.count_attempt(message_id) > times
    {
        plan.spare();
    }
    plan
}

fn over_limits(config: &AgentConfig, call: &OpenCall) -> Option<Response<AgentBody>> {
    let patience = Plan {
        retry_after_seconds: Some(config.retry_after_seconds),
        retry_after_ms: Some(config.retry_after_seconds.saturating_mul(1000)),
        ..Plan::default()
    };
    if config.slots.is_some_and(|slots| call.in_flight() > u64::from(slots)) {
        return Some(refusal(StatusCode::SERVICE_UNAVAILABLE, "NO_FREE_SLOT", &patience));
    }
    if config.refuse_overlap && call.overlaps() {
        return Some(refusal(StatusCode::TOO_MANY_REQUESTS, "CONCURRENT_REQUEST_REJECTED", &patience));
    }
    None
}

fn wrong_key(config: &AgentConfig, headers: &HeaderMap) -> Option<Response<AgentBody>> {
    let key = config.api_key.as_deref()?;
    match header_text(headers, header::AUTHORIZATION.as_str()).strip_prefix("Bearer ") {
        None => Some(failure(StatusCode::UNAUTHORIZED, "Authorization header with Bearer token required")),
        Some(sent) if sent == key => None,
        Some(_) => Some(failure(StatusCode::FORBIDDEN, "Invalid API key")),
    }
}

fn failure(status: StatusCode, error: &str) -> Response<AgentBody> {
    json_response(status, json_bytes(&serde_json::json!({ "error": error })))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

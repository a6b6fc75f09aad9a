//! `GET /ws/connect`: from a request to a connection (RFC 6455, section 4.2).
//! Whoever shows a key is refused by an HTTP answer. A ticket is a browser's,
//! which cannot see one: it is let in and closed with a code.

use super::connections::Identity;
use super::framing::CloseCode;
use super::session::{self, About, Manner};
use crate::access::TicketRefused;
use crate::app::App;
use crate::auth::Caller;
use crate::error::Failure;
use crate::guard;
use crate::rest::query::{self, Parameters};
use crate::rest::rules::{self, Errors};
use crate::scope::Access;
use crate::sse::stream::crowding;
use crate::stall::Stalling;
use crate::wire::strict::Strict;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use tokio::net::TcpStream;
use turnwise_api::Code;
use turnwise_broker::Sharing;

/// RFC 6455, section 1.3.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Where a handler leaves the connection it has accepted, for who serves the socket.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Option<Accepted>>>);

impl Handover {
    /// What was left, once.
    pub(crate) fn take(&self) -> Option<Accepted> {
        self.0.lock().take()
    }
}

/// A connection that was accepted and waits for its socket.
pub(crate) struct Accepted {
    about: About,
    refused: Option<(CloseCode, &'static str)>,
    on_upgrade: OnUpgrade,
}

impl Accepted {
    /// Serves it until it ends. Call it when HTTP is over on its socket.
    pub(crate) async fn run(self) {
        let upgraded = match self.on_upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a WebSocket handshake was not finished"),
        };
        match socket(upgraded) {
            Some((stream, early)) => session::run(self.about, stream, early, self.refused).await,
            None => tracing::debug!("what came behind a WebSocket handshake was no frame"),
        }
    }
}

/// The bare socket, and what was read from it behind the handshake.
fn socket(upgraded: Upgraded) -> Option<(TcpStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Strict<Stalling<TcpStream>>>>().ok()?;
    let (stream, held) = parts.io.into_inner().into_inner()?;
    let early = if held.is_empty() {
        parts.read_buf
    } else {
        let mut whole = BytesMut::from(&*parts.read_buf);
        whole.extend_from_slice(&held);
        whole.freeze()
    };
    Some((stream.into_inner(), early))
}

pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut request: Request,
) -> Result<Response, Failure> {
    let accept = accept_key(&request)?;
    app.require_serving()?;
    let is_browser = caller.ticket().is_some();
    let refused =
        request.extensions().get::<TicketRefused>().map(|_| (CloseCode::Unauthorized, "invalid_ticket"));
    let nobody = || (Identity::default(), Manner::default());
    let ((identity, manner), refused) = match (refused, admitted(&app, &caller, &request)) {
        (Some(refused), _) => (nobody(), Some(refused)),
        (None, Ok(admitted)) => (admitted, None),
        (None, Err(_)) if is_browser => (nobody(), Some((CloseCode::Forbidden, "forbidden"))),
        (None, Err(failure)) => return Err(failure),
    };
    let (handover, on_upgrade) =
        (request.extensions_mut().remove::<Handover>(), request.extensions_mut().remove::<OnUpgrade>());
    let (Some(handover), Some(on_upgrade)) = (handover, on_upgrade) else {
        return Err(Failure::new(Code::Internal, "The connection cannot be upgraded"));
    };
    // Taken first, then compared: of those that come at once none is overlooked.
    let entry = app.sockets.enter(&caller, identity, app.broker.now());
    let refused = refused.or(crowding(&app, &caller).map(|_| (CloseCode::Full, "full")));
    let about = About { app, caller, entry, manner };
    *handover.0.lock() = Some(Accepted { about, refused, on_upgrade });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Whether the page that asks may, and who the connection is to be.
fn admitted(app: &App, caller: &Caller, request: &Request) -> Result<(Identity, Manner), Failure> {
    guard::require_known_origin(app, request)?;
    let parameters = Parameters::of(request.uri())?;
    if let Some(identity) = request.extensions().get::<Identity>() {
        // The ticket says who it is; the address may say the same.
        let named =
            |name: &str, own: Option<&str>| parameters.get(name).is_none_or(|named| Some(named) == own);
        let same = named("org_id", Some(&identity.org))
            && named("user_id", identity.user.as_deref())
            && named("workspace_id", identity.workspace.as_deref())
            && named("agent_id", identity.agent.as_deref());
        let refused = || Failure::new(Code::InvalidTicket, "The ticket is for another connection");
        let manner = manner(&parameters)?;
        return same.then(|| (identity.clone(), manner)).ok_or_else(refused);
    }
    let mut errors = Errors::default();
    let mut named = |name: &'static str| {
        let value = parameters.get(name)?;
        if let Some(detail) = rules::id(value) {
            errors.add(format!("?{name}"), detail);
        }
        Some(value.to_owned())
    };
    let (user, workspace, agent) = (named("user_id"), named("workspace_id"), named("agent_id"));
    errors.into_result()?;
    let identity = Identity { org: query::org(caller, &parameters)?, user, workspace, agent };
    match &identity.agent {
        Some(agent) => require_agent(caller, agent)?,
        // Without an agent there is nothing to do but to follow topics.
        None => caller.require(Access::TopicsRead)?,
    }
    Ok((identity, manner(&parameters)?))
}

/// Refuses to be an agent on the bus that the key is not for.
pub(crate) fn require_agent(caller: &Caller, agent: &str) -> Result<(), Failure> {
    caller.require(Access::Bus)?;
    caller.must_be(agent)
}

/// How an agent takes part: whether its connections compete, and whether it is told who comes and goes.
fn manner(parameters: &Parameters) -> Result<Manner, Failure> {
    let mut errors = Errors::default();
    let is_compete = match parameters.get("sharing") {
        None | Some("all") => false,
        Some("compete") => true,
        Some(_) => {
            errors.add("?sharing", "must be all or compete");
            false
        }
    };
    let presence = match parameters.get("presence") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            errors.add("?presence", "must be true or false");
            false
        }
    };
    let sharing = if is_compete { Sharing::Compete } else { Sharing::All };
    errors.into_result()?;
    Ok(Manner { sharing, presence })
}

/// What the handshake is answered with, if it is one.
fn accept_key(request: &Request) -> Result<HeaderValue, Failure> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && lists(headers, &UPGRADE, "websocket")
        && lists(headers, &CONNECTION, "upgrade");
    if !is_upgrade {
        return Err(Failure::new(
            Code::UpgradeRequired,
            "This is a WebSocket: ask for an upgrade (RFC 6455)",
        ));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(Failure::new(Code::UpgradeRequired, "Sec-WebSocket-Version must be 13"));
    }
    if !http_body::Body::is_end_stream(request.body()) {
        return Err(Failure::new(Code::BadRequest, "A WebSocket handshake has no body").last());
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.as_bytes(),
        _ => return Err(Failure::new(Code::BadRequest, "Sec-WebSocket-Key must be there once")),
    };
    if STANDARD.decode(key).ok().is_none_or(|nonce| nonce.len() != 16) {
        return Err(Failure::new(Code::BadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
    Ok(HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is a header value"))
}

/// Whether a field's list holds this word, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_specification() {
        let request = http::Request::get("/ws/connect")
            .header("Upgrade", "h2c, WebSocket")
            .header("Connection", "keep-alive, Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .expect("a request");
        // RFC 6455, section 1.3.
        assert_eq!(accept_key(&request).ok(), Some(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    }
}

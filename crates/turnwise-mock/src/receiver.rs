//! A receiver of callbacks that notes each one, and answers as it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use ring::hmac;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept::accept;

/// Bytes of a callback that is read.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Signatures older or newer than this are not good.
const SKEW_SECONDS_MAX: u64 = 300;

/// One callback as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `webhook-id`.
    pub webhook_id: String,
    /// One of the signatures is good, and the time is now.
    pub signed: bool,
    /// The path and query it came to.
    pub path: String,
    /// Its headers, by name.
    pub headers: Vec<(String, String)>,
    /// `message_id` of the body.
    pub message_id: String,
    /// `user_id` of the body.
    pub user_id: String,
    /// `status` of the body.
    pub status: String,
    /// The body.
    pub body: Bytes,
    /// What it was answered.
    pub answered: u16,
}

/// What to answer, by what came before and what comes.
pub type Answering = Arc<dyn Fn(&[Received], &Received) -> StatusCode + Send + Sync>;

/// A running receiver. Dropping it stops it as abruptly as a crash would.
pub struct CallbackReceiver {
    address: SocketAddr,
    journal: Arc<Mutex<Vec<Received>>>,
    shutdown: CancellationToken,
    server: JoinSet<()>,
}

struct Shared {
    secret: Option<hmac::Key>,
    answering: Answering,
    journal: Arc<Mutex<Vec<Received>>>,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    message_id: String,
    #[serde(default)]
    user_id: String,
    #[serde(default)]
    status: String,
}

impl CallbackReceiver {
    /// Listens on `address` (port 0 picks one). `secret` is `whsec_…`.
    ///
    /// # Errors
    /// When the port is taken, or the secret cannot be read.
    pub async fn start(
        address: SocketAddr,
        secret: Option<&str>,
        answering: Answering,
    ) -> io::Result<CallbackReceiver> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a whsec_ secret");
        let key = |text: &str| {
            let bytes = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
            bytes.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes)).ok_or_else(wrong)
        };
        let secret = secret.map(key).transpose()?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let journal: Arc<Mutex<Vec<Received>>> = Arc::default();
        let shared = Arc::new(Shared { secret, answering, journal: Arc::clone(&journal) });
        let shutdown = CancellationToken::new();
        let mut server = JoinSet::new();
        let serve = move |socket| serve(socket, Arc::clone(&shared));
        server.spawn(accept(listener, shutdown.clone(), serve));
        Ok(CallbackReceiver { address, journal, shutdown, server })
    }

    /// One that takes everything.
    ///
    /// # Errors
    /// As [`CallbackReceiver::start`].
    pub async fn willing(secret: Option<&str>) -> io::Result<CallbackReceiver> {
        let answering: Answering = Arc::new(|_, _| StatusCode::OK);
        CallbackReceiver::start(([127, 0, 0, 1], 0).into(), secret, answering).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything so far, in the order of the answers.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.journal.lock().clone()
    }

    /// Stops listening and breaks every connection.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.server.join_next().await.is_some() {}
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| take(Arc::clone(&shared), request));
    // A sender that was killed breaks its connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn take(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let known: Body = serde_json::from_slice(&body).unwrap_or_default();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut received = Received {
        webhook_id: head.headers.get("webhook-id").map(text).unwrap_or_default(),
        signed: shared.secret.as_ref().is_some_and(|secret| is_signed(secret, &head.headers, &body)),
        path: head.uri.to_string(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        message_id: known.message_id,
        user_id: known.user_id,
        status: known.status,
        body,
        answered: 0,
    };
    let mut journal = shared.journal.lock();
    let status = (shared.answering)(&journal, &received);
    received.answered = status.as_u16();
    journal.push(received);
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

fn is_signed(secret: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let fresh = timestamp.parse::<u64>().is_ok_and(|at| at.abs_diff(now) <= SKEW_SECONDS_MAX);
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let good = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        tag.is_some_and(|tag| hmac::verify(secret, &content, &tag).is_ok())
    };
    !id.is_empty() && fresh && text("webhook-signature").split(' ').any(good)
}

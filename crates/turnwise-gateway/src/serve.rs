//! The serving loop: accepts, bounds and drains connections.

use crate::app::{self, App};
use crate::auth::KeyRing;
use crate::config::GatewayConfig;
use crate::counters::Counters;
use crate::crowd::{Crowd, Share};
use crate::drain::Drain;
use crate::limits::{
    ACCEPT_PAUSE, CROWDED_TIME_MAX, CROWDED_TOLD_MAX, FIELD_LINES_MAX, LAST_WORD, READ_BUFFER_BYTES_MAX,
    UNSENT_BYTES_MAX,
};
use crate::router;
use crate::stall::Stalling;
use crate::wire::refusal::Refusal;
use crate::wire::strict::Strict;
use crate::ws::{Accepted, Handover};
use axum::Router;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::iter::once;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;
use turnwise_broker::Broker;

/// The inbound side, ready to serve.
pub struct Gateway {
    broker: Broker,
    keys: KeyRing,
    config: GatewayConfig,
    counters: Arc<Counters>,
}

impl Gateway {
    /// Joins a broker and settings.
    #[must_use]
    pub fn new(broker: Broker, mut config: GatewayConfig) -> Gateway {
        let keys = KeyRing::new(std::mem::take(&mut config.keys));
        Gateway { broker, keys, config, counters: Arc::default() }
    }

    /// The keys that are let in, to be exchanged while it serves.
    #[must_use]
    pub fn keys(&self) -> KeyRing {
        self.keys.clone()
    }

    /// What it counts, also while it serves.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until the drain closes, then lets requests in progress end within
    /// what is left of its time. While it drains, new work is refused and the
    /// rest is answered. Failures to accept are waited out, never fatal.
    pub async fn serve(self, listener: TcpListener, drain: Drain) {
        let config = &self.config;
        let crowd = Crowd::new(config.connections_max, config.connections_per_address_max, CROWDED_TOLD_MAX);
        let tasks = TaskTracker::new();
        let app = App::new(self.broker, self.keys, self.config, self.counters, drain.clone(), tasks.clone());
        let router = router::router(Arc::clone(&app));
        bound_unsent_bytes(&listener);
        let accept = async {
            loop {
                let (stream, from) = next_connection(&listener).await;
                let share = crowd.enter(from.ip());
                if !share.as_ref().is_some_and(Share::is_seat) {
                    app.counters.crowded.one();
                    tracing::debug!("a connection was turned away: there are too many");
                }
                if let Some(share) = share {
                    tasks.spawn(guarded(Arc::clone(&app), router.clone(), stream, share));
                }
            }
        };
        tokio::select! {
            () = drain.is_closing() => {}
            () = accept => {}
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }
}

/// Lets only so much wait in the kernel for a client that does not read; what
/// is on its way to one that does is not bounded by it. Connections inherit it.
fn bound_unsent_bytes(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        tracing::warn!(%error, "what waits in the kernel for slow clients is not bounded");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (listener, UNSENT_BYTES_MAX);
}

async fn next_connection(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A panic outside of a handler, for example in a body, ends its connection only.
async fn guarded(app: Arc<App>, router: Router, stream: TcpStream, share: Share) {
    let open = app.counters.open();
    let connection = connection(Arc::clone(&app), router, stream, share.is_seat());
    let Some(accepted) = unless_it_panics(&app, connection).await.flatten() else { return };
    // In a task of its own: what HTTP needed is given back.
    app.tasks.clone().spawn(async move {
        let _kept = (share, open);
        unless_it_panics(&app, accepted.run()).await;
    });
}

async fn unless_it_panics<T>(app: &App, connection: impl Future<Output = T>) -> Option<T> {
    let ended = AssertUnwindSafe(connection).catch_unwind().await;
    if ended.is_err() {
        app.counters.panics.one();
        tracing::error!("a connection panicked");
    }
    ended.ok()
}

/// Serves one connection; ends at the latest when the drain is over, or when it goes on as something else.
async fn connection(app: Arc<App>, router: Router, stream: TcpStream, is_seat: bool) -> Option<Accepted> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off send delays");
    }
    let drain = app.drain.clone();
    // Asked each time the connection is woken: in a set of its own it is looked at when it happens, and not before.
    let mut closing: FuturesUnordered<_> = once(drain.closing().cancelled_owned()).collect();
    let keep_alive_max = app.config.keep_alive_max;
    let stream = Stalling::new(stream, app.config.write_stall_max, Arc::clone(&app.counters));
    let stream = match is_seat {
        true => Strict::new(stream, app.config.head_time_max),
        false => Strict::refusing(stream, CROWDED_TIME_MAX, Refusal::Crowded),
    };
    let handover = Handover::default();
    let left = handover.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(left.clone());
        app::handle(Arc::clone(&app), router.clone(), request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(keep_alive_max)
        .max_headers(FIELD_LINES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        Some(()) = closing.next() => {
            serving.as_mut().graceful_shutdown();
            let end = drain.ends_at().max(Instant::now()) + LAST_WORD;
            timeout_at(end, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    handover.take()
}

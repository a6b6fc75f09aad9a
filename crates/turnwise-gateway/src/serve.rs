//! The serving loop: accepts, bounds and drains connections.

use crate::app::{self, App};
use crate::auth::KeyRing;
use crate::config::GatewayConfig;
use crate::drain::Drain;
use crate::limits::{ACCEPT_PAUSE, HEADER_READ_MAX, HEADERS_MAX, LAST_WORD, READ_BUFFER_BYTES_MAX};
use crate::router;
use crate::stall::Stalling;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;
use turnwise_broker::Broker;

/// The inbound side, ready to serve.
pub struct Gateway {
    broker: Broker,
    keys: KeyRing,
    config: GatewayConfig,
}

impl Gateway {
    /// Joins a broker and settings.
    #[must_use]
    pub fn new(broker: Broker, mut config: GatewayConfig) -> Gateway {
        let keys = KeyRing::new(std::mem::take(&mut config.keys));
        Gateway { broker, keys, config }
    }

    /// The keys that are let in, to be exchanged while it serves.
    #[must_use]
    pub fn keys(&self) -> KeyRing {
        self.keys.clone()
    }

    /// Serves until the drain closes, then lets requests in progress end within
    /// what is left of its time. While it drains, new work is refused and the
    /// rest is answered. Failures to accept are waited out, never fatal.
    pub async fn serve(self, listener: TcpListener, drain: Drain) {
        let connections_max = self.config.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(connections_max));
        let app = App::new(self.broker, self.keys, self.config, drain.clone());
        let router = router::router(Arc::clone(&app));
        let tasks = TaskTracker::new();
        let accept = async {
            loop {
                let (stream, slot) = next_connection(&listener, &slots).await;
                tasks.spawn(connection(Arc::clone(&app), router.clone(), stream, slot));
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

async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
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

/// Serves one connection; ends at the latest when the drain is over.
async fn connection(app: Arc<App>, router: Router, stream: TcpStream, _slot: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off send delays");
    }
    let drain = app.drain.clone();
    let stream = Stalling::new(stream, app.config.write_stall_max);
    let service = service_fn(move |request| app::handle(Arc::clone(&app), router.clone(), request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = drain.is_closing() => {
            serving.as_mut().graceful_shutdown();
            let end = drain.ends_at().max(Instant::now()) + LAST_WORD;
            timeout_at(end, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

//! What every request passes: an id, the guards, a route, and the rendering
//! of what went wrong.

use crate::auth::{KeyRing, refuse_key_in_query};
use crate::body::UNIT_BYTES;
use crate::config::GatewayConfig;
use crate::counters::Counters;
use crate::counts::HttpCounts;
use crate::drain::{Drain, Phase};
use crate::error::Failure;
use crate::held::Room;
use crate::limits::{CLOSING_LOOK, LARGE_BODIES_BYTES_MAX, ONLOOKERS_MAX};
use crate::note::Arrived;
use crate::rate::Rates;
use crate::request_id::{RequestIds, X_REQUEST_ID};
use crate::ticket::Tickets;
use crate::wire::refusal::{REFUSED, Refusal};
use crate::ws::Connections;
use crate::{error, guard, note};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::Service;
use turnwise_api::Code;
use turnwise_broker::Broker;
use turnwise_metrics::Source;

/// Shared by all requests.
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) keys: KeyRing,
    pub(crate) config: GatewayConfig,
    pub(crate) drain: Drain,
    pub(crate) large_bodies: Semaphore,
    pub(crate) answers: Room,
    pub(crate) rates: Rates,
    pub(crate) tickets: Option<Tickets>,
    pub(crate) counters: Arc<Counters>,
    /// Places for readers of `/api/v1/tail`.
    pub(crate) onlookers: Arc<Semaphore>,
    pub(crate) counts: Arc<HttpCounts>,
    /// WebSocket connections.
    pub(crate) sockets: Arc<Connections>,
    /// What goes on when a request is given up; `serve` waits for it.
    pub(crate) tasks: TaskTracker,
    /// All that `/metrics` tells.
    pub(crate) sources: Vec<Arc<dyn Source>>,
    request_ids: RequestIds,
}

impl App {
    /// Refuses what would begin something new while the node stops.
    pub(crate) fn require_serving(&self) -> Result<(), Failure> {
        match self.drain.phase() {
            Phase::Serving => Ok(()),
            _ => Err(Failure::new(Code::Draining, "The server is shutting down")),
        }
    }

    pub(crate) fn new(
        broker: Broker,
        keys: KeyRing,
        mut config: GatewayConfig,
        counters: Arc<Counters>,
        drain: Drain,
        tasks: TaskTracker,
    ) -> Arc<App> {
        let counts: Arc<HttpCounts> = Arc::default();
        let mut sources = std::mem::take(&mut config.metrics);
        sources.push(broker.metrics());
        sources.push(Arc::clone(&counts) as Arc<dyn Source>);
        let sockets = Arc::new(Connections::new(config.request_id_seed));
        sources.push(Arc::clone(&sockets) as Arc<dyn Source>);
        sources.push(Arc::clone(&counters) as Arc<dyn Source>);
        Arc::new(App {
            broker,
            keys,
            request_ids: RequestIds::new(config.request_id_seed),
            large_bodies: Semaphore::new(LARGE_BODIES_BYTES_MAX / UNIT_BYTES),
            answers: Room::new(config.answers_bytes_max),
            rates: Rates::new(config.key_rate, config.conversation_rate, config.ws_frame_rate),
            tickets: config.ticket_secret.map(Tickets::new),
            counters,
            onlookers: Arc::new(Semaphore::new(ONLOOKERS_MAX)),
            counts,
            sockets,
            tasks,
            sources,
            config,
            drain,
        })
    }

    /// Ends when requests that wait for a turn should stop waiting: the last
    /// call is over, and its end had a moment to be read.
    pub(crate) async fn drained(&self) {
        self.drain.is_closing().await;
        tokio::time::sleep(CLOSING_LOOK).await;
    }
}

/// One request, from head to response.
pub(crate) async fn handle(
    app: Arc<App>,
    router: Router,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let request_id = app.request_ids.for_request(request.headers());
    let arrived = Arrived::now(&app, &mut request);
    let origin = guard::listed_origin(&app, &request);
    // What panicked is dropped; no lock here is held across code that could panic with its data half changed.
    let answered = AssertUnwindSafe(answer(&app, router, request)).catch_unwind().await;
    let mut response = match answered {
        Ok(response) => response,
        Err(_) => {
            app.counters.panics.one();
            tracing::error!(
                request_id = request_id.to_str().unwrap_or_default(),
                "a request's handler panicked"
            );
            Failure::new(Code::Internal, "The request met a fault of this server").into_response()
        }
    };
    let told = error::render(&mut response, &request_id);
    note::answered(&app, &arrived, &request_id, &mut response, told.as_ref());
    if let Some(origin) = origin {
        guard::expose(&mut response, origin);
    }
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    if app.drain.phase() > Phase::Serving {
        // Its next request finds a node that takes it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(app: &App, mut router: Router, request: Request<Incoming>) -> Response {
    if request.method().as_str() == REFUSED {
        app.counters.refused.one();
        let refusal = Refusal::of_path(request.uri().path()).unwrap_or(Refusal::RequestLine);
        return refusal.failure().into_response();
    }
    if let Err(failure) = guard::check(app, &request).and_then(|()| refuse_key_in_query(request.uri())) {
        return failure.into_response();
    }
    if let Some(response) = guard::preflight(app, &request) {
        return response;
    }
    match router.call(request.map(Body::new)).await {
        Ok(response) => app.answers.hold_answer(response).await,
        Err(never) => match never {},
    }
}

//! The HTTP client of the agent: one request, one response. Connections are
//! pooled and kept alive. What a response means is told in `verdict`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error, ResponseFuture};
use hyper_util::rt::TokioTimer;
use tokio_util::task::TaskTracker;
use turnwise_broker::Turn;

use crate::config::{ConfigError, DispatchConfig, Target};
use crate::limits::{CONNECT_TIME_MAX, IDLE_CONNECTION_TIME_MAX};
use crate::tracked::Tracked;

/// The way to the agent.
pub(crate) struct Agent {
    client: Box<dyn Transport>,
    target: Target,
    tasks: TaskTracker,
}

/// Sends a request, however connections are made.
trait Transport: Send + Sync {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture;
}

impl<C: Connect + Clone + Send + Sync + 'static> Transport for Client<C, Full<Bytes>> {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.request(request)
    }
}

/// The connector for http addresses.
pub(crate) fn tcp(config: &DispatchConfig) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.timeout.min(CONNECT_TIME_MAX)));
    connector
}

impl Agent {
    pub(crate) fn new<C>(config: &DispatchConfig, connector: C) -> Result<Agent, ConfigError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let target = config.target()?;
        let tasks = TaskTracker::new();
        let client = Client::builder(Tracked(tasks.clone()))
            .pool_idle_timeout(IDLE_CONNECTION_TIME_MAX)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(usize::try_from(config.concurrency).unwrap_or(usize::MAX))
            .build(connector);
        Ok(Agent { client: Box::new(client), target, tasks })
    }

    /// Sends a turn to one of the two routes. Returns when the headers are there.
    pub(crate) async fn call(&self, turn: &Turn, stream: bool) -> Result<Response<Incoming>, Error> {
        let (uri, accept) = if stream {
            (&self.target.stream, "text/event-stream")
        } else {
            (&self.target.chat, "application/json")
        };
        let mut request = self.request(Method::POST, uri, turn.request.clone());
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Ok(id) = HeaderValue::try_from(turn.id.to_string()) {
            headers.insert("idempotency-key", id);
        }
        headers.insert("x-turnwise-attempt", HeaderValue::from(turn.attempt));
        if let Some(context) = turn.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert("traceparent", context);
        }
        self.client.send(request).await
    }

    /// Whether the agent answers at all. Any status below 500 counts: not
    /// every agent has this route. So does 501, which some servers answer
    /// where they know no GET.
    pub(crate) async fn is_up(&self, limit: Duration) -> bool {
        let request = self.request(Method::GET, &self.target.health, Bytes::new());
        match tokio::time::timeout(limit, self.client.send(request)).await {
            Ok(Ok(response)) => {
                let status = response.status();
                !status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Closes all connections and waits until they are gone, or `limit` is over.
    pub(crate) async fn close(self, limit: Duration) {
        drop(self.client);
        self.tasks.close();
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
    }

    fn request(&self, method: Method, uri: &Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("turnwise/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(authorization) = &self.target.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }
}

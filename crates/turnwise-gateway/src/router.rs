//! Every route on one page, each with what it asks of whoever uses it.

use crate::access;
use crate::app::App;
use crate::asyncapi;
use crate::docs;
use crate::error::Failure;
use crate::openapi;
use crate::rest::bus::{inbox, look, send as bus};
use crate::rest::queues::{claim, inspect, mend, policy, send, settle};
use crate::rest::{callbacks, health, message, metrics, queue, retention, status, tickets, topics};
use crate::scope::Access::{
    self, Admin, Bus, BusRead, Callbacks, Connect, Metrics, Open, Queues, QueuesRead, Read, Stream,
    Subscribe, Tickets, TopicsRead, TopicsWrite, Write,
};
use crate::sse::{stream, subscribe, tail};
use crate::streams::{read, write};
use crate::ws::{admin, handshake};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use std::sync::Arc;
use turnwise_api::Code;

/// A route as tests and descriptions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Its method.
    pub method: Method,
    /// Its path, with `{names}` for what varies.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
}

struct Route {
    info: RouteInfo,
    handler: MethodRouter<Arc<App>>,
}

#[rustfmt::skip]
fn table() -> Vec<Route> {
    vec![
        route(Method::POST, "/api/v1/message", Write, message::submit),
        route(Method::GET, "/api/v1/message/{message_id}", Read, message::show),
        route(Method::DELETE, "/api/v1/message/{message_id}", Write, message::cancel),
        route(Method::POST, "/api/v1/message/{message_id}/redrive", Write, message::redrive),
        route(Method::GET, "/api/v1/stream", Stream, stream::follow),
        route(Method::GET, "/api/v1/queue/{user_id}", Read, queue::show),
        route(Method::POST, "/api/v1/tickets", Tickets, tickets::issue),
        route(Method::GET, "/api/v1/callbacks", Callbacks, callbacks::list),
        route(Method::GET, "/api/v1/callbacks/{callback_id}", Callbacks, callbacks::show),
        route(Method::DELETE, "/api/v1/callbacks/{callback_id}", Callbacks, callbacks::discard),
        route(Method::POST, "/api/v1/callbacks/redrive", Callbacks, callbacks::redrive),
        route(Method::GET, "/api/v1/topics", TopicsRead, topics::list),
        route(Method::GET, "/api/v1/topics/{topic}", TopicsRead, topics::show),
        route(Method::POST, "/api/v1/topics/{topic}/events", TopicsWrite, topics::publish),
        route(Method::GET, "/api/v1/topics/{topic}/events", TopicsRead, topics::history),
        route(Method::GET, "/api/v1/topics/{topic}/retention", TopicsRead, retention::show),
        route(Method::PUT, "/api/v1/topics/{topic}/retention", TopicsWrite, retention::set),
        route(Method::GET, "/api/v1/subscribe", Subscribe, subscribe::follow),
        route(Method::GET, "/api/v1/queues", QueuesRead, inspect::list),
        route(Method::GET, "/api/v1/queues/{queue}", QueuesRead, inspect::show),
        route(Method::POST, "/api/v1/queues/{queue}/messages", Queues, send::send),
        route(Method::GET, "/api/v1/queues/{queue}/messages", QueuesRead, inspect::messages),
        route(Method::GET, "/api/v1/queues/{queue}/messages/{id}", QueuesRead, inspect::message),
        route(Method::DELETE, "/api/v1/queues/{queue}/messages/{id}", Queues, mend::remove),
        route(Method::POST, "/api/v1/queues/{queue}/claim", Queues, claim::claim),
        route(Method::POST, "/api/v1/queues/{queue}/settle", Queues, settle::settle),
        route(Method::POST, "/api/v1/queues/{queue}/extend", Queues, settle::extend),
        route(Method::POST, "/api/v1/queues/{queue}/redrive", Queues, mend::redrive),
        route(Method::POST, "/api/v1/queues/{queue}/purge", Queues, mend::purge),
        route(Method::POST, "/api/v1/queues/{queue}/pause", Queues, policy::pause),
        route(Method::POST, "/api/v1/queues/{queue}/resume", Queues, policy::resume),
        route(Method::PUT, "/api/v1/queues/{queue}/policy", Queues, policy::put),
        route(Method::GET, "/ws/connect", Connect, handshake::connect),
        route(Method::GET, "/ws/connections", Admin, admin::list),
        route(Method::GET, "/ws/connections/{connection_id}", Admin, admin::show),
        route(Method::GET, "/ws/stats", Admin, admin::stats),
        route(Method::GET, "/api/v1/bus/agents", BusRead, look::list),
        route(Method::GET, "/api/v1/bus/agents/{agent_id}", BusRead, look::show),
        route(Method::POST, "/api/v1/bus/agents/{agent_id}/messages", Bus, bus::direct),
        route(Method::GET, "/api/v1/bus/agents/{agent_id}/inbox", Bus, inbox::take),
        route(Method::POST, "/api/v1/bus/agents/{agent_id}/inbox/settle", Bus, inbox::settle),
        route(Method::POST, "/api/v1/bus/workspaces/{workspace_id}/broadcast", Bus, bus::broadcast),
        route(Method::POST, "/api/v1/bus/topics/{topic}/messages", Bus, bus::to_topic),
        route(Method::GET, "/api/v1/bus/receipts/{bus_message_id}", BusRead, look::receipt),
        route(Method::PUT, "/streams/{*path}", TopicsWrite, write::create),
        route(Method::POST, "/streams/{*path}", TopicsWrite, write::append),
        route(Method::DELETE, "/streams/{*path}", TopicsWrite, write::delete),
        route(Method::GET, "/streams/{*path}", TopicsRead, read::read),
        route(Method::GET, "/api/v1/status", Metrics, status::show),
        route(Method::GET, "/api/v1/tail", Read, tail::follow),
        route(Method::GET, "/health", Open, health::health),
        route(Method::GET, "/livez", Open, health::livez),
        route(Method::GET, "/readyz", Open, health::readyz),
        route(Method::GET, "/metrics", Metrics, metrics::show),
        route(Method::GET, "/openapi.json", Open, openapi::show),
        route(Method::GET, "/asyncapi.json", Open, asyncapi::show),
        route(Method::GET, "/docs", Open, docs::page),
        route(Method::GET, "/docs/docs.js", Open, docs::script),
        route(Method::GET, "/docs/docs.css", Open, docs::style),
    ]
}

/// Every route there is.
#[must_use]
pub fn routes() -> Vec<RouteInfo> {
    table().into_iter().map(|route| route.info).collect()
}

fn route<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("the methods of the table are HTTP's own");
    Route { info: RouteInfo { method, path, access }, handler: on(filter, handler) }
}

/// What monitors ask of every node, whatever its roles.
fn is_for_monitors(info: &RouteInfo) -> bool {
    info.access == Metrics || matches!(info.path, "/health" | "/livez" | "/readyz")
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    let serves_conversations = app.config.serves_conversations;
    let served = |route: &Route| serves_conversations || is_for_monitors(&route.info);
    for Route { info, handler } in table().into_iter().filter(served) {
        let handler = match info.access {
            Open => handler,
            access => {
                let app = Arc::clone(&app);
                handler.route_layer(from_fn(move |request: Request, next: Next| {
                    access::admit(Arc::clone(&app), access, request, next)
                }))
            }
        };
        router = router.route(info.path, handler);
    }
    router
        .fallback(async move || match serves_conversations {
            true => Failure::not_found(),
            false => Failure::new(Code::NotFound, "this node has no role gateway: ask another node"),
        })
        .method_not_allowed_fallback(async || Failure::new(Code::MethodNotAllowed, "Method Not Allowed"))
        .layer(from_fn(name_route))
        .with_state(app)
}

/// Leaves the matched template with the response, for who counts.
async fn name_route(template: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(template) = template {
        response.extensions_mut().insert(template);
    }
    response
}

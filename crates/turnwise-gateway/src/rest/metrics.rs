//! `GET /metrics`: what this node counts, for Prometheus.

use crate::app::App;
use crate::error::Failure;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::sync::Arc;

/// From counters in memory only: as quick with many conversations as with none.
pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let mut response = Response::new(Body::from(turnwise_metrics::render(&app.sources)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(turnwise_metrics::CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

//! The way to the collector: one kept connection, one request at a time, each within its time.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use turnwise_dispatch::{Tracked, Trust, innermost, trusting};

/// Time for one batch to be taken.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);
/// What the collector may say to it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Time for its connection to close.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(200);
/// Below the endpoint, as OTLP has it.
const PATH: &str = "/v1/traces";

pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    connections: TaskTracker,
}

impl Collector {
    pub(super) fn new(endpoint: &str) -> Result<Collector, String> {
        let uri = uri(endpoint)
            .ok_or("it must look like http://host:4318 or https://host, without user, query or fragment")?;
        let trust = if uri.scheme_str() == Some("https") { Trust::System } else { Trust::Nobody };
        let tls = trusting(trust).map_err(|why| format!("its certificate cannot be checked: {why}"))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(SEND_TIME_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connections = TaskTracker::new();
        let client = Client::builder(Tracked(connections.clone())).pool_max_idle_per_host(1).build(connector);
        Ok(Collector { client, uri, connections })
    }

    /// Sends one batch; says why it could not, without naming where.
    pub(super) async fn send(&self, body: Bytes) -> Result<(), String> {
        match timeout(SEND_TIME_MAX, self.exchange(body)).await {
            Ok(sent) => sent,
            Err(_) => Err("the collector did not answer in time".into()),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let response = self.client.request(request).await.map_err(|error| innermost(&error))?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the collector answered {}", status.as_u16())),
        }
    }

    pub(super) async fn close(self) {
        drop(self.client);
        self.connections.close();
        let _ = timeout(CLOSE_TIME_MAX, self.connections.wait()).await;
    }
}

fn uri(endpoint: &str) -> Option<Uri> {
    let base = endpoint.trim_end_matches('/');
    let uri: Uri = format!("{base}{PATH}").parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let has_more = base.contains(['?', '#', '@']);
    (is_http && has_host && !has_more).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn endpoints_are_taken_or_refused() {
        let check = |text: &str| uri(text).map(|uri| uri.to_string());
        assert_eq!(check("http://a:4318").as_deref(), Some("http://a:4318/v1/traces"));
        assert_eq!(check("https://a/x/").as_deref(), Some("https://a/x/v1/traces"));
        for wrong in ["", "a:4318", "grpc://a", "http://u:p@a", "http://a?b", "http://a#b", "http://"] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }
}

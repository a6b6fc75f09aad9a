//! Who may read `/metrics`, and what problems count as.

use crate::client::{get, post};
use crate::node::{body, key, node};
use turnwise_gateway::{ApiKey, GatewayConfig, Scope};

fn locked(config: &mut GatewayConfig) {
    let watcher = ApiKey { scopes: vec![Scope::Metrics], ..key("w") };
    config.keys = vec![key("o"), watcher];
}

#[tokio::test]
async fn metrics_need_a_key_with_their_scope_once_there_are_keys() {
    let node = node(locked).await;
    let metrics = get("/metrics");
    node.send(&metrics).await.assert_problem(401, "missing_key");
    node.send(&metrics.clone().header("X-API-Key", "wrong")).await.assert_problem(403, "invalid_key");
    node.send(&metrics.clone().header("X-API-Key", "secret-o")).await.assert_problem(403, "scope_missing");
    let reply = node.send(&metrics.header("X-API-Key", "secret-w")).await;
    assert_eq!(reply.status, 200);
    // That key sees numbers and nothing else.
    let submit = post(&body("x")).header("X-API-Key", "secret-w");
    node.send(&submit).await.assert_problem(403, "scope_missing");
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_code() {
    let node = node(|_| {}).await;
    node.send(&post("{")).await.assert_problem(400, "not_json");
    node.send(&get("/nowhere")).await.assert_problem(404, "not_found");
    let page = node.send(&get("/metrics")).await;
    let has = |line: &str| assert!(page.text().lines().any(|it| it == line), "{line}: {}", page.text());
    has(r#"turnwise_http_problems_total{code="not_json"} 1"#);
    has(r#"turnwise_http_problems_total{code="not_found"} 1"#);
    has(r#"turnwise_http_requests_total{route="/api/v1/message",method="POST",status="4xx"} 1"#);
    has(r#"turnwise_http_requests_total{route="none",method="GET",status="4xx"} 1"#);
}

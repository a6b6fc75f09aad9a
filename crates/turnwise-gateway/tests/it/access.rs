//! Keys, orgs, and what stands in for them on loopback.

use crate::client::{Call, call, delete, get, post};
use crate::node::{body, key, node};
use turnwise_gateway::GatewayConfig;

fn locked(config: &mut GatewayConfig) {
    config.keys = vec![key("o"), key("p")];
}

#[tokio::test]
async fn a_key_is_asked_for_before_the_body_is_read() {
    let node = node(locked).await;
    // The body announced never comes: the answer does not wait for it.
    let check = async |name: &str, value: &str, status: u16, code: &str, detail: &str| {
        let call = post("").header("Content-Length", "100").header(name, value);
        let reply = node.send(&call).await;
        reply.assert_problem(status, code);
        assert_eq!(reply.json()["detail"], detail);
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
    };
    check("X-Other", "x", 401, "missing_key", "Missing X-API-Key header").await;
    check("Authorization", "Basic eDp5", 401, "missing_key", "Missing X-API-Key header").await;
    check("X-API-Key", "wrong", 403, "invalid_key", "Invalid API key").await;
    check("Authorization", "Bearer wrong", 403, "invalid_key", "Invalid API key").await;
}

#[tokio::test]
async fn every_conversation_route_needs_a_key_and_the_probes_none() {
    let node = node(locked).await;
    let id = "00000000-0000-8000-8000-000000000000";
    for path in [
        format!("/api/v1/message/{id}"),
        format!("/api/v1/stream?user_id=u&message_id={id}"),
        "/api/v1/queue/u".to_owned(),
    ] {
        node.send(&get(&path)).await.assert_problem(401, "missing_key");
    }
    node.send(&delete(&format!("/api/v1/message/{id}"))).await.assert_problem(401, "missing_key");
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(node.send(&get(path)).await.status, 200);
    }
}

#[tokio::test]
async fn what_belongs_to_another_org_does_not_exist() {
    let node = node(locked).await;
    let own = |call: Call| call.header("X-API-Key", "secret-o");
    let foreign = |call: Call| call.header("Authorization", "Bearer secret-p");
    let submit = post(&body("x")).header("Prefer", "respond-async");
    node.send(&foreign(submit.clone())).await.assert_problem(403, "org_forbidden");
    let id = node.send(&own(submit)).await.json()["message_id"].as_str().unwrap().to_owned();
    let message = format!("/api/v1/message/{id}");
    let stream = format!("/api/v1/stream?user_id=u&message_id={id}");
    assert_eq!(node.send(&own(get(&message))).await.status, 200);
    node.send(&foreign(get(&message))).await.assert_problem(404, "not_found");
    node.send(&foreign(delete(&message))).await.assert_problem(404, "not_found");
    node.send(&foreign(get(&stream))).await.assert_problem(404, "not_found");
    node.send(&own(get(&stream.replace("user_id=u", "user_id=v")))).await.assert_problem(404, "not_found");
    let length = async |call: Call| node.send(&call).await.json()["queue_length"].as_u64().unwrap();
    assert_eq!(length(own(get("/api/v1/queue/u"))).await, 1);
    assert_eq!(length(own(get("/api/v1/queue/u?org_id=o"))).await, 1);
    assert_eq!(length(foreign(get("/api/v1/queue/u"))).await, 0);
    assert_eq!(length(foreign(get("/api/v1/queue/u?org_id=o"))).await, 0);
}

#[tokio::test]
async fn a_key_for_something_else_does_not_open_conversations() {
    let node = node(|config| {
        locked(config);
        config.keys[0].scopes = vec!["metrics".to_owned()];
    })
    .await;
    let call = get("/api/v1/queue/u").header("X-API-Key", "secret-o");
    node.send(&call).await.assert_problem(403, "scope_missing");
}

#[tokio::test]
async fn without_keys_only_loopback_names_and_known_origins_are_served() {
    let node = node(|config| config.cors_origins = vec!["https://chat.example.org".to_owned()]).await;
    let check = async |name: &str, value: &str, refused: Option<&str>| {
        let reply = node.send(&get("/health").header(name, value)).await;
        match refused {
            Some(code) => reply.assert_problem(403, code),
            None => assert_eq!(reply.status, 200, "{name}: {value}: {}", reply.text()),
        }
    };
    for good in ["localhost", "localhost:8000", "127.0.0.1", "127.8.9.1:80", "[::1]:8000", "LocalHost"] {
        check("Host", good, None).await;
    }
    for bad in ["example.org", "192.168.1.1", "localhost.example.org", "a b", "127.0.0.1.example.org:80"] {
        check("Host", bad, Some("host_forbidden")).await;
    }
    check("Origin", &format!("http://{}", node.address), None).await;
    check("Origin", "https://chat.example.org", None).await;
    check("Origin", "http://localhost:1", Some("origin_forbidden")).await;
    check("Origin", "https://evil.example.org", Some("origin_forbidden")).await;
    check("Origin", "null", Some("origin_forbidden")).await;
    let absolute = call("GET", "http://example.org/health");
    node.send(&absolute).await.assert_problem(403, "host_forbidden");
}

#[tokio::test]
async fn listed_origins_may_read_answers() {
    let node = node(|config| config.cors_origins = vec!["https://chat.example.org".to_owned()]).await;
    let from = |call: Call| call.header("Origin", "https://chat.example.org");
    let reply = node.send(&from(get("/health"))).await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://chat.example.org"));
    let asks = call("OPTIONS", "/api/v1/message").header("Access-Control-Request-Method", "POST");
    let reply = node.send(&from(asks)).await;
    assert_eq!(reply.status, 204);
    assert!(reply.header("access-control-allow-headers").unwrap().contains("X-API-Key"));
}

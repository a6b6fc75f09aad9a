//! Keys, orgs, and what stands in for them on loopback.

use crate::client::{Call, call, delete, get, post};
use crate::node::{answered, body, key, node, sample};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;
use turnwise_broker::AgentEvent;
use turnwise_gateway::{Access, ApiKey, GatewayConfig, Scope, routes};

/// Far less than the five seconds that are promised, far more than it takes.
const ENDED_AT_ONCE: Duration = Duration::from_secs(4);

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
async fn every_route_that_is_not_open_needs_a_key() {
    let node = node(locked).await;
    for route in routes() {
        let path = sample(route.path);
        let reply = node.send(&call(route.method.as_str(), &path)).await;
        match route.access {
            Access::Open => assert!(reply.status != 401 && reply.status != 403, "{path}: {}", reply.text()),
            _ => {
                reply.assert_problem(401, "missing_key");
                let schemes = reply.header("www-authenticate");
                assert_eq!(schemes, Some("ApiKey header=\"X-API-Key\", Bearer"), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn wrong_keys_of_every_kind_get_the_same_answer() {
    let node = node(locked).await;
    node.keys.exchange(vec![key("p")]);
    let ask = async |shown: &str| {
        let call = get("/api/v1/queue/u").header("X-API-Key", shown).header("X-Request-Id", "same");
        node.send(&call).await
    };
    let unknown = ask("secret-q").await;
    unknown.assert_problem(403, "invalid_key");
    // Revoked just now; only the beginning is right; not of the form of a key; long; not even text.
    for wrong in ["secret-o", "secret-", "secret-p ext", "x", "\u{e9}", &"x".repeat(8_000)] {
        let reply = ask(wrong).await;
        assert_eq!((reply.status, reply.text()), (unknown.status, unknown.text()), "{wrong}");
        assert_eq!(reply.header_names(), unknown.header_names(), "{wrong}");
    }
    assert_eq!(ask("secret-p").await.status, 200);
}

#[tokio::test]
async fn a_key_does_what_its_scopes_name_on_every_route() {
    let key_with = |name: &str, scopes: &[Scope]| ApiKey { scopes: scopes.to_vec(), ..key(name) };
    let mut keys: Vec<ApiKey> = Scope::ALL.iter().map(|scope| key_with(scope.name(), &[*scope])).collect();
    keys.push(key_with("none", &[]));
    let node = node(|config| config.keys = keys.clone()).await;
    for route in routes() {
        for key in &keys {
            let secret = format!("secret-{}", key.id);
            let call = call(route.method.as_str(), &sample(route.path)).header("X-API-Key", &secret);
            let reply = node.send(&call).await;
            match route.access.is_granted_by(&key.scopes) {
                true => {
                    let lacks = reply.status == 403 && reply.text().contains("scope_missing");
                    assert!(reply.status != 401 && !lacks, "{call:?}");
                }
                false => reply.assert_problem(403, "scope_missing"),
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_may_only_read_writes_nothing() {
    let node = node(|config| {
        config.keys = vec![key("o"), ApiKey { scopes: vec![Scope::ConversationsRead], ..key("r") }];
        config.keys[1].orgs = vec!["o".to_owned()];
    })
    .await;
    let reader = |call: Call| call.header("X-API-Key", "secret-r");
    let submit = post(&body("x")).header("Prefer", "respond-async");
    node.send(&reader(submit.clone())).await.assert_problem(403, "scope_missing");
    let reply = node.send(&submit.header("X-API-Key", "secret-o")).await;
    let id = reply.json()["message_id"].as_str().unwrap().to_owned();
    let message = format!("/api/v1/message/{id}");
    node.send(&reader(delete(&message))).await.assert_problem(403, "scope_missing");
    assert_eq!(node.send(&reader(get(&message))).await.json()["status"], "queued");
    assert_eq!(node.send(&reader(get("/api/v1/queue/u"))).await.json()["queue_length"], 1);
    let stream = reader(get(&format!("/api/v1/stream?user_id=u&message_id={id}"))).open(node.address).await;
    assert_eq!(stream.head.status, 200);
}

#[tokio::test]
async fn a_revoked_key_loses_its_streams_and_the_next_one_resumes_them() {
    let node = node(locked).await;
    let next = ApiKey { orgs: vec!["o".to_owned()], ..key("next") };
    // Both are valid for a while.
    node.keys.exchange(vec![key("o"), key("p"), next.clone()]);
    let own = |call: Call| call.header("X-API-Key", "secret-o");
    let submitted = node.send(&own(post(&body("x")).header("Prefer", "respond-async"))).await;
    let id = submitted.json()["message_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/stream?user_id=u&message_id={id}");
    let mut old = own(get(&path)).open(node.address).await;
    let mut new = get(&path).header("X-API-Key", "secret-next").open(node.address).await;
    let turn = node.claim().await;
    let say = |data: &'static str| AgentEvent { name: None, data: Bytes::from_static(data.as_bytes()) };
    node.broker.append(&turn, vec![say("one")]).await.unwrap();
    let first = loop {
        let event = old.event().await.unwrap();
        if event.name == "message" {
            break event;
        }
    };
    node.keys.exchange(vec![key("p"), next]);
    assert_eq!(timeout(ENDED_AT_ONCE, old.event()).await.unwrap(), None);
    assert!(old.comments.last().unwrap().contains("reconnect with a valid one"), "{:?}", old.comments);
    node.send(&own(get(&path))).await.assert_problem(403, "invalid_key");
    node.finish(&turn, answered("two")).await;
    let resumed = get(&path).header("X-API-Key", "secret-next").header("Last-Event-ID", &first.id.unwrap());
    let rest = resumed.open(node.address).await.events().await;
    assert_eq!(rest.last().unwrap().name, "done");
    assert!(!rest.iter().any(|event| event.data == "one"));
    // Whoever read with the other key was not disturbed.
    let whole = new.events().await;
    assert!(whole.iter().any(|event| event.data == "one"));
    assert_eq!(whole.last().unwrap().name, "done");
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
    for bad in ["example.org", "192.168.1.1", "localhost.example.org", "127.0.0.1.example.org:80"] {
        check("Host", bad, Some("host_forbidden")).await;
    }
    check("Origin", &format!("http://{}", node.address), None).await;
    check("Origin", "https://chat.example.org", None).await;
    check("Origin", "http://localhost:1", Some("origin_forbidden")).await;
    check("Origin", "https://evil.example.org", Some("origin_forbidden")).await;
    check("Origin", "null", Some("origin_forbidden")).await;
    let absolute = call("GET", "http://example.org/health").header("Host", "example.org");
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

#[tokio::test]
async fn other_origins_get_no_cors_header_whatever_they_send() {
    let listed = "https://chat.example.org";
    for keys in [vec![], vec![key("o")]] {
        for origins in [vec![], vec![listed.to_owned()]] {
            let node =
                node(|config| (config.keys, config.cors_origins) = (keys.clone(), origins.clone())).await;
            for origin in [
                "null",
                "*",
                "https://evil.example.org",
                "https://chat.example.org.evil.example",
                "https://evilchat.example.org",
                "http://chat.example.org",
                "https://chat.example.org:444",
                "https://chat.example.org/",
                "HTTPS://CHAT.EXAMPLE.ORG",
            ] {
                let asks = call("OPTIONS", "/api/v1/message").header("Access-Control-Request-Method", "POST");
                for call in [get("/health"), get("/api/v1/queue/u"), asks] {
                    let reply = node.send(&call.header("Origin", origin).header("Cookie", "a=b")).await;
                    assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
                    assert_eq!(reply.header("access-control-allow-credentials"), None, "{origin}");
                    assert!(reply.status != 204, "{origin}");
                }
            }
        }
    }
}

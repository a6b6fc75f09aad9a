//! `/openapi.json` and `/docs`: the committed document is the one that is
//! served, it names every route and no other, and both are open to all.

use crate::client::{call, get};
use crate::node::{key, node};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Set to renew the committed document instead of comparing with it.
const RENEW: &str = "TURNWISE_RENEW";

/// The file in `docs` holds what is served.
fn is_committed(name: &str, now: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&file, now).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = committed.lines().zip(now.lines()).position(|(was, is)| was != is);
    let line = differs.unwrap_or(committed.lines().count().min(now.lines().count())) + 1;
    assert!(committed == now, "docs/{name} differs from line {line} on; {RENEW}=1 renews it");
}

#[test]
fn the_committed_documents_are_those_that_are_served() {
    is_committed("openapi.json", &turnwise_gateway::openapi_text());
    is_committed("asyncapi.json", &turnwise_gateway::asyncapi_text());
}

fn document() -> Value {
    serde_json::from_str(&turnwise_gateway::openapi_text()).unwrap()
}

/// Method and path of every operation in the document.
fn described() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        found.extend(item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    found
}

/// Method and path of every route.
fn routed() -> BTreeSet<(String, String)> {
    let routes = turnwise_gateway::routes().into_iter();
    routes.map(|route| (route.method.as_str().to_lowercase(), route.path.replace("{*", "{"))).collect()
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    assert_eq!(described(), routed());
}

#[tokio::test]
async fn every_described_operation_is_there_and_other_methods_are_not() {
    let node = node(|_| {}).await;
    let described = described();
    let paths: BTreeSet<_> = described.iter().map(|(_, path)| path).collect();
    for path in paths {
        let mut asked = path.replace(['{', '}'], "");
        if asked == "/api/v1/tail" {
            // Without a mistake it would have no end.
            asked += "?user_id=%0A";
        }
        for method in ["get", "post", "put", "patch", "delete"] {
            let reply = node.send(&call(&method.to_uppercase(), &asked)).await;
            let there = described.contains(&(method.to_owned(), path.clone()));
            assert_eq!(reply.status == 405, !there, "{method} {path}: {}", reply.status);
            if there && !path.contains('{') {
                assert_ne!(reply.status, 404, "{method} {path}");
            }
            if !there {
                assert!(reply.header("allow").is_some(), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn the_description_is_open_without_a_key_and_the_page_is_strict() {
    let node = node(|config| config.keys = vec![key("o")]).await;
    let reply = node.send(&get("/openapi.json")).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.text(), turnwise_gateway::openapi_text());
    for (path, media_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
    ] {
        let reply = node.send(&get(path)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = reply.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {rule}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        // All that is loaded comes from here, and nothing stands inline.
        let text = reply.text();
        for inline in ["http://", "https://", "<style", " style=", " onclick=", "innerHTML", "eval("] {
            assert!(!text.contains(inline), "{path}: {inline}");
        }
    }
}

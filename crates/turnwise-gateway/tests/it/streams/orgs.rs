//! Whose stream it is.

use super::{TEXT, ask};
use crate::client::{Reply, call};
use crate::node::{Node, key, node};
use turnwise_gateway::{ApiKey, Scope};

async fn as_org(node: &Node, org: &str, method: &str, path: &str, body: &str) -> Reply {
    let ask = ask(method, path, &[TEXT], body);
    node.send(&ask.header("X-API-Key", &format!("secret-{org}"))).await
}

#[tokio::test]
async fn the_same_name_of_two_orgs_is_two_streams() {
    let may = |org: &str| ApiKey { scopes: vec![Scope::Topics], ..key(org) };
    let all = ApiKey { orgs: Vec::new(), ..may("all") };
    let reader = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::TopicsRead], ..key("r") };
    let node = node(|config| config.keys = vec![may("o"), may("p"), all, reader]).await;
    assert_eq!(as_org(&node, "o", "PUT", "s", "of o").await.status, 201);
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        assert_eq!(as_org(&node, "p", method, "s", "x").await.status, 404, "{method}");
        let foreign = as_org(&node, "p", method, "s?org_id=o", "x").await;
        assert_eq!(foreign.status, 403, "{method}");
    }
    assert_eq!(as_org(&node, "p", "PUT", "s", "of p").await.status, 201);
    let fork = ask("PUT", "f", &[("Stream-Forked-From", "only-o"), ("X-API-Key", "secret-p")], "");
    assert_eq!(as_org(&node, "o", "PUT", "only-o", "").await.status, 201);
    assert_eq!(node.send(&fork).await.status, 404, "nothing is forked from another's");
    assert_eq!(as_org(&node, "o", "GET", "s", "").await.text(), "of o");
    assert_eq!(as_org(&node, "all", "GET", "s?org_id=p", "").await.text(), "of p");
    as_org(&node, "all", "GET", "s", "").await.assert_problem(422, "invalid_content");
    assert_eq!(as_org(&node, "r", "GET", "s", "").await.status, 200);
    for method in ["PUT", "POST", "DELETE"] {
        as_org(&node, "r", method, "s", "x").await.assert_problem(403, "scope_missing");
    }
    assert_eq!(as_org(&node, "o", "GET", "s", "").await.text(), "of o");
}

#[tokio::test]
async fn without_keys_there_is_one_org_unless_another_is_named() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "usual").await;
    node.put("s?org_id=acme", &[TEXT], "acme's").await;
    assert_eq!(node.read("s").await.text(), "usual");
    assert_eq!(node.read("s?org_id=default").await.text(), "usual");
    assert_eq!(node.read("s?org_id=acme").await.text(), "acme's");
}

#[tokio::test]
async fn pages_of_listed_origins_may_use_it() {
    let node = node(|config| config.cors_origins = vec!["https://chat.example.org".to_owned()]).await;
    let origin = ("Origin", "https://chat.example.org");
    let asks = call("OPTIONS", "/streams/s").header(origin.0, origin.1);
    let told = node.send(&asks.header("Access-Control-Request-Method", "PUT")).await;
    let allowed = told.header("access-control-allow-headers").unwrap().to_lowercase();
    for name in ["if-none-match", "stream-closed", "stream-ttl", "producer-id"] {
        assert!(allowed.contains(name), "{name}: {allowed}");
    }
    let told = node.put("s", &[TEXT, origin], "").await;
    let shown = told.header("access-control-expose-headers").unwrap().to_lowercase();
    for name in ["stream-next-offset", "stream-closed", "stream-up-to-date", "etag", "producer-epoch"] {
        assert!(shown.contains(name), "{name}: {shown}");
    }
    assert_eq!(told.header("x-content-type-options"), Some("nosniff"));
}

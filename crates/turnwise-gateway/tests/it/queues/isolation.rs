//! Another organisation's queues are not there.

use super::{node, payloads};
use crate::client::call;
use crate::node::{key, node as open_node};
use serde_json::{Value, json};
use turnwise_gateway::{ApiKey, Scope};

#[tokio::test]
async fn queues_of_the_same_name_are_each_organisations_own() {
    let node = node().await;
    let id = node.enqueue(json!({ "payload": "of o", "dedup_key": "d" })).await;
    let theirs =
        node.ask_as("p", "POST", "/jobs/messages", &json!({ "payload": "of p", "dedup_key": "d" })).await;
    assert_eq!(theirs.status, 201, "{}", theirs.text());
    let path = format!("/jobs/messages/{id}");
    let unknown = format!("{}{}", &path[..path.len() - 1], if path.ends_with('0') { '1' } else { '0' });
    for method in ["GET", "DELETE"] {
        let foreign = node.ask_as("p", method, &path, &Value::Null).await;
        let nobodys = node.ask_as("p", method, &unknown, &Value::Null).await;
        foreign.assert_problem(404, "not_found");
        let told = |reply: &crate::client::Reply| {
            let mut problem = reply.json();
            problem["request_id"] = Value::Null;
            problem
        };
        assert_eq!(told(&foreign), told(&nobodys));
    }
    let found = node.ask_as("p", "POST", "/jobs/claim", &json!({ "limit": 100 })).await.json();
    assert_eq!(payloads(found["deliveries"].as_array().unwrap()), ["of p"]);
    for body in [json!({ "all": true }), json!({ "ids": [id] })] {
        let reply = node.ask_as("p", "POST", "/jobs/redrive", &body).await;
        assert_eq!(reply.json()["redriven"], 0);
    }
    let purged = node.ask_as("p", "POST", "/jobs/purge", &json!({ "stage": "all" })).await;
    assert_eq!(purged.json()["removed"], 0);
    node.ask_as("p", "POST", "/jobs/pause", &Value::Null).await;
    assert_eq!(node.take_one().await["payload"], "of o");
}

#[tokio::test]
async fn a_receipt_opens_nothing_in_another_queue() {
    let node = node().await;
    node.enqueue(json!({ "payload": 1 })).await;
    let delivery = node.take_one().await;
    let receipt = delivery["receipt"].as_str().unwrap();
    let ack = json!({ "items": [{ "receipt": receipt, "outcome": "ack" }] });
    let extend = json!({ "items": [{ "receipt": receipt }], "lease_seconds": 1 });
    for (org, queue) in [("p", "jobs"), ("o", "other"), ("p", "other")] {
        for (route, body) in [("settle", &ack), ("extend", &extend)] {
            let reply = node.ask_as(org, "POST", &format!("/{queue}/{route}"), body).await;
            assert_eq!(reply.json()["results"][0]["status"], "lease_lost", "{org} {queue} {route}");
        }
    }
    // Nor does one that was made up from it.
    for at in [0, 20, 40, 55, 63] {
        let mut forged = receipt.to_owned().into_bytes();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).unwrap();
        let item = json!({ "receipt": forged, "outcome": "ack" });
        // The nonce has 62 bits: some texts are no receipts at all.
        let reply = node.ask("POST", "/jobs/settle", &item).await;
        assert!([409, 422].contains(&reply.status), "{at}: {}", reply.text());
    }
    assert_eq!(node.depth().await, [0, 0, 1, 0]);
    node.end(&delivery, "ack").await;
}

#[tokio::test]
async fn a_key_for_several_organisations_names_the_one_it_means() {
    let node = open_node(|config| {
        let several = vec!["o".to_owned(), "p".to_owned()];
        config.keys = vec![ApiKey { orgs: several, scopes: vec![Scope::Queues], ..key("both") }];
    })
    .await;
    let ask = async |path: &str| {
        node.send(&call("GET", &format!("/api/v1/queues{path}")).header("X-API-Key", "secret-both")).await
    };
    for path in ["", "/jobs", "/jobs/messages", "/jobs?org_id=", "/jobs?org_id=%0A"] {
        let reply = ask(path).await;
        reply.assert_problem(422, "invalid_content");
        assert_eq!(reply.json()["errors"][0]["pointer"], "?org_id", "{path}");
    }
    assert_eq!(ask("/jobs?org_id=p").await.json()["org_id"], "p");
    ask("/jobs?org_id=q").await.assert_problem(403, "org_forbidden");
}

#[tokio::test]
async fn without_keys_the_organisation_is_named_and_everything_works() {
    let node = open_node(|_| {}).await;
    let post = |path: &str, body: &Value| {
        crate::client::with_json("POST", &format!("/api/v1/queues/{path}?org_id=acme"), &body.to_string())
    };
    assert_eq!(node.send(&post("jobs/messages", &json!({ "payload": 1 }))).await.status, 201);
    let found = node.send(&post("jobs/claim", &json!({}))).await.json();
    assert_eq!(found["deliveries"][0]["payload"], 1);
    let ack = json!({ "receipt": found["deliveries"][0]["receipt"], "outcome": "ack" });
    assert_eq!(node.send(&post("jobs/settle", &ack)).await.json()["status"], "done");
}

#[tokio::test]
async fn a_key_that_may_only_look_changes_nothing() {
    let node = open_node(|config| {
        let reader = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::QueuesRead], ..key("r") };
        config.keys = vec![ApiKey { scopes: vec![Scope::Queues], ..key("o") }, reader];
    })
    .await;
    let id = node.enqueue(json!({ "payload": 1 })).await;
    for (path, body) in [
        ("/jobs/messages", json!({ "payload": 1 })),
        ("/jobs/claim", json!({})),
        ("/jobs/purge", json!({ "stage": "all" })),
        ("/jobs/pause", Value::Null),
    ] {
        node.ask_as("r", "POST", path, &body).await.assert_problem(403, "scope_missing");
    }
    let seen = node.ask_as("r", "GET", &format!("/jobs/messages/{id}"), &Value::Null).await;
    assert_eq!((seen.status, &seen.json()["stage"]), (200, &json!("ready")));
}

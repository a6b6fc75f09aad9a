//! A key is for the agents that it lists, and another organisation's agents are
//! not there.

use super::{asked, contents, node};
use crate::node::{key, node as open_node};
use serde_json::{Value, json};
use turnwise_gateway::{ApiKey, Scope};

#[tokio::test]
async fn flaw_26_a_key_is_only_the_agents_that_it_lists() {
    let node = open_node(|config| {
        let agents = vec!["bot-*".to_owned(), "ann".to_owned()];
        let own = ApiKey { agents, scopes: vec![Scope::Bus], ..key("o") };
        let mut boss = ApiKey { agents: vec!["boss".into()], scopes: vec![Scope::Bus], ..key("boss") };
        let mut eve = ApiKey { agents: vec!["eve".into()], scopes: vec![Scope::Bus], ..key("eve") };
        (boss.orgs, eve.orgs) = (vec!["o".into()], vec!["o".into()]);
        config.keys = vec![own, boss, eve];
    })
    .await;
    let forged = json!({ "from_agent": "boss", "content": 1 });
    for from in ["boss", "bot", "Ann", "ann ", "xbot-1"] {
        let mut forged = forged.clone();
        forged["from_agent"] = json!(from);
        for path in ["/agents/ann/messages", "/workspaces/w/broadcast", "/topics/t/messages"] {
            node.bus("POST", path, &forged).await.assert_problem(403, "agent_forbidden");
        }
    }
    let from_boss = node.send(&asked("boss", "POST", "/agents/bot-7/messages", &forged)).await;
    assert_eq!(from_boss.status, 202, "{}", from_boss.text());
    let from_boss = from_boss.json();
    for (org, path) in
        [("o", "/agents/boss/inbox"), ("boss", "/agents/bot-7/inbox"), ("eve", "/agents/bot-7/inbox")]
    {
        node.send(&asked(org, "GET", path, &Value::Null)).await.assert_problem(403, "agent_forbidden");
        let settle = json!({ "items": [{ "receipt": "0".repeat(64), "outcome": "ack" }] });
        let refused = node.send(&asked(org, "POST", &format!("{path}/settle"), &settle)).await;
        refused.assert_problem(403, "agent_forbidden");
    }
    // Who sent it and who gets it may ask what became of it, and nobody else.
    let receipt = format!("/receipts/{}", from_boss["message_id"].as_str().unwrap());
    for (org, status) in [("o", 200), ("boss", 200), ("eve", 404)] {
        assert_eq!(node.send(&asked(org, "GET", &receipt, &Value::Null)).await.status, status, "{org}");
    }
    let found = node.send(&asked("o", "GET", "/agents/bot-7/inbox", &Value::Null)).await.json();
    assert_eq!(contents(found["deliveries"].as_array().unwrap()), [1]);
}

#[tokio::test]
async fn agents_of_the_same_name_are_each_organisations_own() {
    let node = node().await;
    let id = node.say("of o", json!({ "dedup_key": "d" })).await;
    let theirs = json!({ "from_agent": "boss", "content": "of p", "dedup_key": "d" });
    let sent = node.send(&asked("p", "POST", "/agents/ann/messages", &theirs)).await;
    assert_eq!((sent.status, &sent.json()["duplicate"]), (202, &json!(false)));
    let foreign = node.send(&asked("p", "GET", &format!("/receipts/{id}"), &Value::Null)).await;
    foreign.assert_problem(404, "not_found");
    let ours = node.inbox("limit=10").await;
    assert_eq!(contents(&ours), ["of o"]);
    let ack = json!({ "items": [{ "receipt": ours[0]["receipt"], "outcome": "ack" }] });
    let stolen = node.send(&asked("p", "POST", "/agents/ann/inbox/settle", &ack)).await.json();
    assert_eq!(stolen["results"][0]["status"], "lease_lost");
    let other = node.bus("POST", "/agents/bob/inbox/settle", &ack).await.json();
    assert_eq!(other["results"][0]["status"], "lease_lost");
    let answer = json!({ "from_agent": "ann", "content": 1, "in_reply_to": id });
    let foreign = node.send(&asked("p", "POST", "/agents/boss/messages", &answer)).await;
    foreign.assert_problem(422, "invalid_content");
    for agent in ["nobody", "%0A"] {
        let unknown = node.bus("GET", &format!("/agents/{agent}"), &Value::Null).await;
        assert_eq!(unknown.status, if agent == "nobody" { 404 } else { 422 });
    }
    let named = node.bus("GET", "/agents?org_id=p", &Value::Null).await;
    named.assert_problem(403, "org_forbidden");
    assert_eq!(node.end_of_ann(&[super::ack(&ours[0])]).await, ["done"]);
}

#[tokio::test]
async fn a_key_that_may_only_look_changes_nothing() {
    let node = open_node(|config| {
        let reader = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::BusRead], ..key("r") };
        let other = ApiKey { scopes: vec![Scope::Queues], ..key("q") };
        config.keys = vec![ApiKey { scopes: vec![Scope::Bus], ..key("o") }, reader, other];
    })
    .await;
    let id = node.say(1, Value::Null).await;
    for (method, path, body) in [
        ("POST", "/agents/ann/messages", json!({ "from_agent": "boss", "content": 1 })),
        ("POST", "/workspaces/w/broadcast", json!({ "from_agent": "boss", "content": 1 })),
        ("POST", "/topics/t/messages", json!({ "from_agent": "boss", "content": 1 })),
        ("GET", "/agents/ann/inbox", Value::Null),
        ("POST", "/agents/ann/inbox/settle", json!({ "items": [] })),
    ] {
        for key in ["r", "q"] {
            node.send(&asked(key, method, path, &body)).await.assert_problem(403, "scope_missing");
        }
    }
    for path in ["/agents", "/agents/ann", &format!("/receipts/{id}")] {
        assert_eq!(node.send(&asked("r", "GET", path, &Value::Null)).await.status, 200, "{path}");
        node.send(&asked("q", "GET", path, &Value::Null)).await.assert_problem(403, "scope_missing");
    }
}

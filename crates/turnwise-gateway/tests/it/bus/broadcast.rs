//! Messages to many: the three modes, who is left out, and how many there
//! really were (clause I4).

use super::{ack_of, live, message, node};
use serde_json::{Value, json};
use turnwise_broker::{AgentHello, AgentLink};

async fn member(node: &crate::node::Node, agent: &str) -> AgentLink {
    node.link_as(AgentHello { workspace: Some("w".into()), ..AgentHello::new(agent) }).await
}

fn to_all(mode: &str, more: &Value) -> Value {
    let mut body = json!({ "from_agent": "ann", "content": { "mode": mode }, "delivery_mode": mode });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    body
}

#[tokio::test]
async fn i4_flaw_24_counts_are_true_and_exclusions_are_kept_in_each_mode() {
    let node = node().await;
    let mut ann = member(&node, "ann").await;
    let mut bob = member(&node, "bob").await;
    member(&node, "cid").await.close().await;
    let path = "/workspaces/w/broadcast";
    for (mode, more, recipients, queued) in [
        ("pubsub", json!({}), 1, 0),
        ("queue", json!({}), 2, 2),
        ("both", json!({}), 2, 1),
        ("pubsub", json!({ "exclude_sender": false }), 2, 0),
        ("queue", json!({ "exclude_agents": ["bob"] }), 1, 1),
        ("both", json!({ "exclude_agents": ["bob", "cid"] }), 0, 0),
    ] {
        let sent = node.bus_send(path, to_all(mode, &more)).await;
        let counted = (&sent["recipients"], &sent["queued"], &sent["state"]);
        assert_eq!(counted, (&json!(recipients), &json!(queued), &Value::Null), "{mode} {more}");
    }
    assert_eq!(live(&mut ann).await["mode"], "pubsub");
    // Bob: the first, the one out of his inbox, and once each of the others.
    assert_eq!(live(&mut bob).await["mode"], "pubsub");
    let of_queue = message(&mut bob).await;
    assert_eq!(of_queue.message.workspace.as_deref(), Some("w"));
    ack_of(&bob, &of_queue).await;
    bob.close().await;
    let reply = node.bus("GET", "/agents/bob/inbox?limit=10", &Value::Null).await.json();
    assert_eq!(reply["deliveries"], json!([]), "what was told live is not in the inbox too");
    // Cid was away and has all that was to wait for him.
    let reply = node.bus("GET", "/agents/cid/inbox?limit=10", &Value::Null).await.json();
    let modes: Vec<_> =
        reply["deliveries"].as_array().unwrap().iter().map(|it| &it["content"]["mode"]).collect();
    assert_eq!(modes, ["queue", "both", "queue"]);
}

#[tokio::test]
async fn i4_a_workspace_nobody_belongs_to_has_no_recipients() {
    let node = node().await;
    let sent = node.bus_send("/workspaces/none/broadcast", to_all("queue", &Value::Null)).await;
    assert_eq!((&sent["recipients"], &sent["queued"], &sent["bounced"]), (&json!(0), &json!(0), &json!(0)));
}

#[tokio::test]
async fn a_repeated_broadcast_reaches_each_recipient_of_the_first_time_once() {
    let node = node().await;
    let mut bob = member(&node, "bob").await;
    let body = to_all("both", &json!({ "dedup_key": "k" }));
    let first = node.bus_send("/workspaces/w/broadcast", body.clone()).await;
    let mut dan = member(&node, "dan").await;
    let again = node.bus_send("/workspaces/w/broadcast", body).await;
    for field in ["message_id", "recipients"] {
        assert_eq!(first[field], again[field]);
    }
    assert_eq!(again["duplicate"], true);
    node.bus_send("/workspaces/w/broadcast", to_all("pubsub", &Value::Null)).await;
    assert_eq!(live(&mut dan).await["mode"], "pubsub");
    assert_eq!(live(&mut bob).await["mode"], "both");
    assert_eq!(live(&mut bob).await["mode"], "pubsub", "not the first one again");
}

#[tokio::test]
async fn flaw_24_flaw_25_topics_reach_subscribers_in_each_mode_and_one_unsubscribing_stops_no_other() {
    let node = node().await;
    let (mut one, mut two) = (node.link("bob").await, node.link("bob").await);
    let cid = node.link("cid").await;
    let patterns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    one.handle().subscribe(&patterns(&["news.*", "news.eu"])).await.unwrap();
    two.handle().subscribe(&patterns(&["news.>"])).await.unwrap();
    cid.handle().subscribe(&patterns(&["other"])).await.unwrap();
    let send = async |mode: &str, number: u32| {
        let body = json!({ "from_agent": "ann", "content": number, "delivery_mode": mode });
        node.bus_send("/topics/news.eu/messages", body).await
    };
    assert_eq!(send("pubsub", 1).await["recipients"], 1);
    two.handle().unsubscribe(&patterns(&["news.>"])).await.unwrap();
    assert_eq!(send("both", 2).await["queued"], 0);
    assert_eq!((live(&mut one).await, live(&mut one).await), (json!(1), json!(2)), "once, though two match");
    assert_eq!(live(&mut two).await, 1);
    cid.handle().subscribe(&patterns(&["news.eu"])).await.unwrap();
    cid.close().await;
    let sent = send("both", 3).await;
    assert_eq!((&sent["recipients"], &sent["queued"]), (&json!(2), &json!(1)));
    let mut cid = node.link("cid").await;
    let waited = message(&mut cid).await;
    assert_eq!((&waited.message.content[..], waited.message.topic.as_deref()), (&b"3"[..], Some("news.eu")));
    let agent = node.bus("GET", "/agents/bob", &Value::Null).await.json();
    assert_eq!(agent["topics"], json!(["news.*", "news.eu"]));
}

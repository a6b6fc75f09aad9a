//! What a sender can find out (clause I2), and who is there.

use super::{ack, message, next_of, node};
use serde_json::{Value, json};
use turnwise_broker::{AgentHello, BusEvent, BusState};

#[tokio::test]
async fn i2_flaw_29_a_message_goes_through_its_states_with_a_time_for_each() {
    let node = node().await;
    let sent = node.bus_send("/agents/ann/messages", json!({ "from_agent": "boss", "content": 1 })).await;
    assert_eq!((&sent["state"], &sent["offline_since"]), (&json!("queued"), &Value::Null));
    let id = sent["message_id"].as_str().unwrap();
    assert_eq!(node.part(id, "ann").await["state"], "queued");
    let delivery = node.next_of_ann().await;
    let part = node.part(id, "ann").await;
    assert_eq!((&part["state"], &part["ended_at"]), (&json!("delivered"), &Value::Null));
    node.end_of_ann(&[ack(&delivery)]).await;
    let part = node.part(id, "ann").await;
    assert_eq!(part["state"], "acked");
    assert!(part["delivered_at"].as_str() <= part["ended_at"].as_str(), "{part}");
}

#[tokio::test]
async fn i2_queued_says_since_when_the_agent_is_offline() {
    let node = node().await;
    let ann = node.link("ann").await;
    ann.close().await;
    let since = node.bus("GET", "/agents/ann", &Value::Null).await.json()["since"].clone();
    let sent = node.bus_send("/agents/ann/messages", json!({ "from_agent": "boss", "content": 1 })).await;
    assert_eq!((&sent["state"], &sent["offline_since"]), (&json!("queued"), &since));
    let part = node.part(sent["message_id"].as_str().unwrap(), "ann").await;
    assert_eq!(part["offline_since"], since);
}

#[tokio::test]
async fn i2_a_sender_that_is_connected_is_told_each_step() {
    let node = node().await;
    let mut boss = node.link("boss").await;
    let id = node.say(1, Value::Null).await;
    let delivery = node.next_of_ann().await;
    node.end_of_ann(&[ack(&delivery)]).await;
    let mut states = Vec::new();
    while states.last() != Some(&BusState::Acked) {
        let told = next_of(&mut boss, |event| match event {
            BusEvent::Receipt(receipt) => Some(receipt),
            _ => None,
        })
        .await;
        assert_eq!((told.message_id.as_str(), told.agent.as_str()), (id.as_str(), "ann"));
        states.push(told.state);
    }
    assert_eq!(states, [BusState::Delivered, BusState::Acked]);
}

#[tokio::test]
async fn i2_what_nobody_could_take_is_bounced() {
    let node = node().await;
    let body = json!({ "from_agent": "boss", "content": 1, "delivery_mode": "pubsub" });
    let sent = node.bus_send("/agents/ann/messages", body).await;
    assert_eq!(
        (&sent["state"], &sent["recipients"], &sent["bounced"]),
        (&json!("bounced"), &json!(0), &json!(1))
    );
    let part = node.part(sent["message_id"].as_str().unwrap(), "ann").await;
    assert_eq!(part["state"], "bounced");
    assert!(node.inbox("limit=1").await.is_empty());
}

#[tokio::test]
async fn flaw_30_pages_of_recipients_and_agents_are_whole() {
    let node = node().await;
    let mut links = Vec::new();
    for number in 0..7 {
        let hello = AgentHello { workspace: Some("w".into()), ..AgentHello::new(format!("a{number}")) };
        links.push(node.link_as(hello).await);
    }
    let sent = node.bus_send("/workspaces/w/broadcast", json!({ "from_agent": "boss", "content": 1 })).await;
    assert_eq!(sent["recipients"], 7);
    let receipt = format!("/receipts/{}", sent["message_id"].as_str().unwrap());
    for (list, path, name) in [("recipients", receipt.as_str(), "agent_id"), ("items", "/agents", "agent_id")]
    {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.bus("GET", &format!("{path}?limit=2&after={after}"), &Value::Null).await.json();
            let found = page[list].as_array().unwrap();
            assert!((1..=2).contains(&found.len()), "{page}");
            seen.extend(found.iter().map(|one| one[name].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, (0..7).map(|number| format!("a{number}")).collect::<Vec<_>>(), "{path}");
    }
}

#[tokio::test]
async fn presence_is_told_to_those_of_the_same_workspace_that_asked_for_it() {
    let node = node().await;
    let from = |agent: &str, presence| AgentHello {
        workspace: Some("w".into()),
        presence,
        ..AgentHello::new(agent)
    };
    let mut watcher = node.link_as(from("watcher", true)).await;
    let seen = |event| match event {
        BusEvent::Presence(presence) => Some((presence.agent, presence.is_online)),
        _ => None,
    };
    let ann = node.link_as(from("ann", false)).await;
    assert_eq!(next_of(&mut watcher, seen).await, ("ann".to_owned(), true));
    let elsewhere = node.link("bob").await;
    ann.close().await;
    assert_eq!(next_of(&mut watcher, seen).await, ("ann".to_owned(), false));
    drop(elsewhere);
    // What is told to all who are connected still comes behind it.
    node.say(1, json!({ "from_agent": "watcher" })).await;
    let delivery = node.next_of_ann().await;
    assert_eq!(delivery["from_agent"], "watcher");
    node.end_of_ann(&[ack(&delivery)]).await;
    let mut told = Vec::new();
    while !told.contains(&"acked") {
        told.push(
            next_of(&mut watcher, |event| match event {
                BusEvent::Receipt(receipt) => Some(receipt.state.name()),
                BusEvent::Presence(presence) => panic!("not of the workspace: {presence:?}"),
                _ => None,
            })
            .await,
        );
    }
    let list = node.bus("GET", "/agents?workspace_id=w", &Value::Null).await.json();
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|one| &one["agent_id"]).collect();
    assert_eq!(names, ["ann", "watcher"]);
}

#[tokio::test]
async fn i6_a_connection_that_is_not_read_is_closed_with_a_reason_and_its_inbox_waits() {
    let node = node().await;
    let mut ann = node.link("ann").await;
    let kept = node.say("kept", Value::Null).await;
    let first = message(&mut ann).await;
    assert_eq!(first.message.id.as_str(), kept);
    let text = "x".repeat(200_000);
    for _ in 0..8 {
        node.say(text.as_str(), json!({ "delivery_mode": "pubsub" })).await;
    }
    let closed = async {
        loop {
            if let BusEvent::Closed(why) = ann.next().await {
                return why;
            }
            // Read as slowly as this, it falls behind again.
            node.say(text.as_str(), json!({ "delivery_mode": "pubsub" })).await;
            node.say(text.as_str(), json!({ "delivery_mode": "pubsub" })).await;
        }
    };
    let why = tokio::time::timeout(super::PATIENCE, closed).await.expect("it is closed");
    assert_eq!(why, turnwise_broker::BusClosed::TooSlow);
    let again = node.next_of_ann().await;
    assert_eq!((&again["message_id"], &again["attempt"]), (&json!(kept), &json!(2)));
}

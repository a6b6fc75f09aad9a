//! Direct messages: who is there gets them at once, who is not when it comes;
//! in order, under a lease, until they are settled (clause I1).

use super::{ack, ack_of, contents, message, node};
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_broker::{AgentHello, BusEvent, Sharing};

#[tokio::test]
async fn i1_flaw_16_an_agent_that_is_online_gets_a_message_at_once() {
    let node = node().await;
    let mut ann = node.link("ann").await;
    let sent = node
        .bus_send(
            "/agents/ann/messages",
            json!({ "from_agent": "boss", "content": { "n": 1 }, "priority": 7 }),
        )
        .await;
    assert_eq!((&sent["recipients"], &sent["offline_since"]), (&json!(1), &Value::Null));
    let delivery = message(&mut ann).await;
    assert_eq!(delivery.message.id.as_str(), sent["message_id"]);
    assert_eq!((&delivery.message.content[..], delivery.message.priority), (&br#"{"n":1}"#[..], 7));
    ack_of(&ann, &delivery).await;
    node.until_part_is(delivery.message.id.as_str(), "ann", "acked").await;
}

#[tokio::test]
async fn i1_flaw_17_what_is_acknowledged_never_comes_again_and_the_rest_does() {
    let node = node().await;
    for content in 1..=3 {
        node.say(content, Value::Null).await;
    }
    let mut first = node.link("ann").await;
    let (one, two) = (message(&mut first).await, message(&mut first).await);
    assert_eq!((&one.message.content[..], &two.message.content[..]), (&b"1"[..], &b"2"[..]));
    ack_of(&first, &one).await;
    first.close().await;
    let found = node.inbox("limit=10").await;
    assert_eq!(contents(&found), [2, 3]);
    assert_eq!((&found[0]["attempt"], &found[1]["attempt"]), (&json!(2), &json!(1)));
    assert_eq!(node.end_of_ann(&[ack(&found[0]), ack(&found[1])]).await, ["done", "done"]);
    assert_eq!(node.end_of_ann(&[ack(&found[0])]).await, ["lease_lost"]);
    assert!(node.inbox("limit=10").await.is_empty());
    let mut second = node.link("ann").await;
    node.say(4, Value::Null).await;
    assert_eq!(message(&mut second).await.message.content[..], b"4"[..]);
}

#[tokio::test]
async fn i1_flaw_20_inside_one_priority_the_first_is_first() {
    let node = node().await;
    let mut expected: Vec<(u8, u32)> = Vec::new();
    for number in 0..60_u32 {
        let priority = u8::try_from(number * 7 % 10).unwrap();
        node.say(number, json!({ "priority": priority })).await;
        expected.push((priority, number));
    }
    expected.sort_by_key(|(priority, number)| (9 - priority, *number));
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let found = node.inbox("limit=7").await;
        for delivery in &found {
            let number = delivery["content"].as_u64().unwrap();
            seen.push((
                u8::try_from(delivery["priority"].as_u64().unwrap()).unwrap(),
                u32::try_from(number).unwrap(),
            ));
        }
        let acks: Vec<Value> = found.iter().map(ack).collect();
        node.end_of_ann(&acks).await;
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn i1_flaw_22_a_lease_that_runs_out_brings_the_message_back() {
    let node = node().await;
    let id = node.say("x", Value::Null).await;
    let first = node.inbox("lease_seconds=0.05").await;
    assert_eq!(first[0]["attempt"], 1);
    let again = node.next_of_ann().await;
    assert_eq!((&again["message_id"], &again["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(node.end_of_ann(&[ack(&first[0]), ack(&again)]).await, ["lease_lost", "done"]);
}

#[tokio::test]
async fn flaw_19_attempts_are_counted_to_the_last_and_then_it_is_a_dead_letter() {
    let node = node().await;
    let id = node.say("poison", json!({ "max_attempts": 3 })).await;
    for attempt in 1..=3 {
        let delivery = node.next_of_ann().await;
        assert_eq!(delivery["attempt"], attempt);
        let retry =
            json!({ "receipt": delivery["receipt"], "outcome": "retry", "reason": format!("no {attempt}") });
        assert_eq!(node.end_of_ann(&[retry]).await, ["done"]);
    }
    let part = node.part(&id, "ann").await;
    assert_eq!((&part["state"], &part["reason"]), (&json!("failed"), &json!("no 3")));
    assert!(node.inbox("limit=10").await.is_empty());

    let id = node.say("refused", Value::Null).await;
    let delivery = node.next_of_ann().await;
    let dead = json!({ "receipt": delivery["receipt"], "outcome": "dead", "reason": "not mine" });
    assert_eq!(node.end_of_ann(&[dead]).await, ["done"]);
    assert_eq!(node.part(&id, "ann").await["reason"], "not mine");
}

#[tokio::test]
async fn flaw_19_a_delay_is_kept() {
    let node = node().await;
    let id = node.say("later", Value::Null).await;
    let delivery = node.next_of_ann().await;
    let retry = json!({ "receipt": delivery["receipt"], "outcome": "retry", "delay_seconds": 3600 });
    assert_eq!(node.end_of_ann(&[retry]).await, ["done"]);
    node.say("now", Value::Null).await;
    assert_eq!(contents(&node.inbox("limit=10").await), ["now"]);
    assert_eq!(node.part(&id, "ann").await["state"], "delivered");
}

#[tokio::test]
async fn flaw_21_one_message_that_expires_takes_no_other_with_it() {
    let node = node().await;
    node.say(1, Value::Null).await;
    let short = node.say(2, json!({ "ttl_seconds": 0.001 })).await;
    node.say(3, json!({ "ttl_seconds": 3600 })).await;
    node.until_part_is(&node.say("probe", json!({ "delivery_mode": "pubsub" })).await, "ann", "bounced")
        .await;
    assert_eq!(contents(&node.inbox("limit=10").await), [1, 3]);
    node.until_part_is(&short, "ann", "expired").await;
}

#[tokio::test]
async fn flaw_23_a_wait_lasts_until_something_comes() {
    let node = node().await;
    let waiting = async { node.next_of_ann().await };
    let sending = async {
        // The claim is on its way or waits already: either way it gets the message.
        node.say("at last", Value::Null).await
    };
    let (delivery, id) = tokio::join!(waiting, sending);
    assert_eq!(delivery["message_id"], json!(id));
    let none = node.inbox("wait_seconds=0.05").await;
    assert!(none.is_empty());
}

#[tokio::test]
async fn flaw_27_many_connections_of_one_agent_and_closing_one_detaches_no_other() {
    let node = node().await;
    let (mut one, mut two) = (node.link("ann").await, node.link("ann").await);
    node.say("for both", Value::Null).await;
    let (first, second) = (message(&mut one).await, message(&mut two).await);
    assert_eq!(first.message.id, second.message.id);
    ack_of(&two, &second).await;
    let agent = node.bus("GET", "/agents/ann", &Value::Null).await.json();
    assert_eq!((&agent["online"], &agent["connections"]), (&json!(true), &json!(2)));
    two.close().await;
    node.say("for one", Value::Null).await;
    assert_eq!(message(&mut one).await.message.content[..], br#""for one""#[..]);
    assert_eq!(node.bus("GET", "/agents/ann", &Value::Null).await.json()["connections"], 1);
    one.close().await;
    let agent = node.bus("GET", "/agents/ann", &Value::Null).await.json();
    assert_eq!((&agent["online"], &agent["connections"]), (&json!(false), &json!(0)));
    assert!(agent["since"].is_string());
}

#[tokio::test]
async fn connections_that_compete_share_the_messages_and_hold_no_more_than_their_window() {
    let node = node().await;
    let hello = AgentHello { sharing: Sharing::Compete, window: 2, ..AgentHello::new("ann") };
    let (mut one, mut two) = (node.link_as(hello.clone()).await, node.link_as(hello).await);
    for content in 0..6 {
        node.say(content, Value::Null).await;
    }
    let mut seen = Vec::new();
    for link in [&mut one, &mut two] {
        for _ in 0..2 {
            seen.push(message(link).await);
        }
    }
    // Their windows are full: the other two wait in the inbox, for whoever asks.
    for link in [&mut one, &mut two] {
        let more = tokio::time::timeout(Duration::from_millis(50), async {
            loop {
                if let BusEvent::Message(delivery) = link.next().await {
                    return delivery;
                }
            }
        });
        assert!(more.await.is_err(), "more than the window");
    }
    let rest = node.inbox("limit=10").await;
    assert_eq!(rest.len(), 2);
    let mut all: Vec<Value> =
        seen.iter().map(|it| serde_json::from_slice(&it.message.content).unwrap()).collect();
    all.extend(contents(&rest));
    all.sort_by_key(Value::as_u64);
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn flaw_18_a_repeat_under_its_key_is_one_message_and_other_content_is_refused() {
    let node = node().await;
    let body = json!({ "from_agent": "boss", "content": 1, "dedup_key": "k" });
    let first = node.bus_send("/agents/ann/messages", body.clone()).await;
    let again = node.bus_send("/agents/ann/messages", body.clone()).await;
    assert_eq!(first["message_id"], again["message_id"]);
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    let other = json!({ "from_agent": "boss", "content": 2, "dedup_key": "k" });
    node.bus("POST", "/agents/ann/messages", &other).await.assert_problem(422, "idempotency_conflict");
    let elsewhere = node.bus("POST", "/agents/bob/messages", &body).await;
    elsewhere.assert_problem(422, "idempotency_conflict");
    // Another sender's key is another key.
    let eve = json!({ "from_agent": "eve", "content": 2, "dedup_key": "k" });
    assert_ne!(node.bus_send("/agents/ann/messages", eve).await["message_id"], first["message_id"]);
    assert_eq!(contents(&node.inbox("limit=10").await), [1, 2]);
}

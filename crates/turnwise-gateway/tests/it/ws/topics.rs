//! Topics over a WebSocket: subscribe, resume, publish; I3 and I6.

use super::client::{Socket, connect, connect_as, handshake};
use crate::node::{Node, key, node, node_on};
use crate::topics::{publish, say};
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_broker::BrokerConfig;
use turnwise_core::{Kind, Name, Offset, TopicStore};
use turnwise_gateway::{ApiKey, Scope};
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;

async fn subscribe(socket: &mut Socket, topics: &[&str]) -> Value {
    let answer = socket.ask(&json!({ "type": "subscribe", "topics": topics })).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer
}

/// The next events; anything else is a mistake.
async fn take(socket: &mut Socket, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    for _ in 0..count {
        let event = socket.json().await;
        assert_eq!(event["type"], "message", "{event}");
        events.push(event);
    }
    events
}

fn data(events: &[Value]) -> Vec<Value> {
    events.iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test]
async fn an_event_comes_as_it_was_published() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    let subscribed = socket.ask(&json!({ "type": "subscribe", "topics": ["t"], "id": "a1" })).await;
    assert_eq!((&subscribed["topics"], &subscribed["id"]), (&json!(["t"]), &json!("a1")));
    let published = socket
        .ask(&json!({ "type": "publish", "topic": "t", "event_type": "x.y", "data": { "é": [1, null] }, "id": "a2" }))
        .await;
    let mut seen = vec![published, socket.json().await];
    seen.sort_by_key(|frame| frame["type"].as_str().unwrap().to_owned());
    let [event, published] = seen.try_into().unwrap();
    assert_eq!((&published["type"], &published["subscribers"]), (&json!("published"), &json!(1)));
    assert_eq!((&published["topic"], &published["id"]), (&json!("t"), &json!("a2")));
    assert_eq!((&event["type"], &event["topic"]), (&json!("message"), &json!("t")));
    assert_eq!((&event["event_type"], &event["data"]), (&json!("x.y"), &json!({ "é": [1, null] })));
    assert_eq!(event["position"], published["position"]);
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    let cloud = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "c.e", "data": 7 });
    let call = publish("t", &cloud).header("Content-Type", "application/cloudevents+json");
    assert_eq!(node.send(&call).await.status, 201);
    let event = socket.json().await;
    assert_eq!((&event["event_type"], &event["cloudevent"]["data"]), (&json!("c.e"), &json!(7)));
    assert_eq!(event.get("data"), None);
}

#[tokio::test]
async fn i3_overlapping_patterns_deliver_once_and_in_order() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    subscribe(&mut socket, &["a", "a", "b.*"]).await;
    subscribe(&mut socket, &["b.x", "c.*", "b.>"]).await;
    // A trailing `*` stands for the rest here.
    let published = ["a", "b.x", "b.x.y", "b", "b:q", "c", "c.1", "c.1:2.3", "d", "aa", "a"];
    for (n, topic) in published.into_iter().enumerate() {
        say(&node, topic, json!(n)).await;
    }
    assert_eq!(data(&take(&mut socket, 7).await), [0, 1, 2, 4, 6, 7, 10].map(|n| json!(n)));
}

/// Flaw 25 of the reference: one subscriber's unsubscribe stopped the channel for all, and patterns were mixed up.
#[tokio::test]
async fn i3_ending_one_subscription_touches_no_other() {
    let node = node(|_| {}).await;
    let (mut one, mut two) = (connect(&node).await, connect(&node).await);
    subscribe(&mut one, &["t.a", "t.*"]).await;
    subscribe(&mut two, &["t.*"]).await;
    let gone = one.ask(&json!({ "type": "unsubscribe", "topics": ["t.*"] })).await;
    assert_eq!((&gone["type"], &gone["topics"]), (&json!("unsubscribed"), &json!(["t.*"])));
    say(&node, "t.a", json!(1)).await;
    say(&node, "t.b", json!(2)).await;
    say(&node, "t.a", json!(3)).await;
    assert_eq!(data(&take(&mut one, 2).await), [1, 3], "its other subscription goes on");
    assert_eq!(data(&take(&mut two, 3).await), [1, 2, 3], "and so does everybody else's");
    let gone = one.ask(&json!({ "type": "unsubscribe", "id": "x" })).await;
    assert_eq!((&gone["topics"], &gone["id"]), (&json!("all"), &json!("x")));
    assert_eq!(say(&node, "t.a", json!(4)).await["subscribers"], 1);
    assert_eq!(data(&take(&mut two, 1).await), [4]);
    subscribe(&mut one, &["t.b"]).await;
    say(&node, "t.b", json!(5)).await;
    assert_eq!(data(&take(&mut one, 1).await), [5], "what came while it did not follow does not come");
    drop(one);
    say(&node, "t.b", json!(6)).await;
    assert_eq!(data(&take(&mut two, 2).await), [5, 6]);
}

#[tokio::test]
async fn cut_after_every_event_it_goes_on_without_a_hole_or_a_double() {
    const COUNT: usize = 24;
    let node = node(|_| {}).await;
    for n in 0..COUNT {
        say(&node, &format!("t.{}", n % 3), json!(n)).await;
    }
    let mut whole = connect(&node).await;
    let from_the_start = json!({ "type": "subscribe", "topics": ["t.*"], "after": "earliest" });
    assert_eq!(whole.ask(&from_the_start).await["type"], "subscribed");
    let whole = take(&mut whole, COUNT).await;
    assert_eq!(data(&whole), (0..COUNT).map(|n| json!(n)).collect::<Vec<_>>());
    for (at, event) in whole.iter().enumerate() {
        let mut socket = connect(&node).await;
        let resumed = json!({ "type": "resume", "topic": "t.*", "after": event["place"] });
        assert_eq!(socket.ask(&resumed).await["type"], "subscribed");
        assert_eq!(take(&mut socket, COUNT - at - 1).await, whole[at + 1..], "after {at}");
        let ping = json!({ "type": "ping" });
        assert_eq!(socket.ask(&ping).await["type"], "pong", "nothing comes behind the last");
    }
}

#[tokio::test]
async fn i3_a_replay_repeats_nothing_and_live_events_wait_behind_it() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    let begun = subscribe(&mut socket, &["t.a"]).await;
    for n in 0..6 {
        say(&node, ["t.a", "t.b"][n % 2], json!(n)).await;
    }
    assert_eq!(data(&take(&mut socket, 3).await), [0, 2, 4]);
    // Of what it now follows as well, it gets what it has not got.
    let again = json!({ "type": "subscribe", "topics": ["t.*"], "after": begun["place"] });
    assert_eq!(socket.ask(&again).await["place"], begun["place"]);
    say(&node, "t.a", json!(6)).await;
    assert_eq!(data(&take(&mut socket, 4).await), [1, 3, 5, 6]);
    say(&node, "t.b", json!(7)).await;
    assert_eq!(data(&take(&mut socket, 1).await), [7]);
}

#[tokio::test]
async fn a_trimmed_place_is_a_gap_and_goes_on_with_what_is_kept() {
    let store = MemoryStore::new(system_clock());
    let node = node_on(store.clone(), BrokerConfig::default(), |_| {}).await;
    let mut socket = connect(&node).await;
    subscribe(&mut socket, &["t"]).await;
    for n in 0..6 {
        say(&node, "t", json!(n)).await;
    }
    let whole = take(&mut socket, 6).await;
    drop(socket);
    node.until(|counters| counters.connections() == 0).await;
    store.trim(&Name::new("o", Kind::Public, "t").unwrap(), Offset(4)).await.unwrap();
    let mut again = connect(&node).await;
    let resume = json!({ "type": "resume", "topic": "t", "after": whole[0]["place"] });
    assert_eq!(again.ask(&resume).await["type"], "subscribed");
    let gap = again.json().await;
    assert_eq!(gap["type"], "gap", "{gap}");
    assert_eq!(take(&mut again, 3).await, whole[3..]);
    let mut behind = connect(&node).await;
    let resume = json!({ "type": "resume", "topic": "t", "after": gap["resume"] });
    assert_eq!(behind.ask(&resume).await["type"], "subscribed");
    let next = behind.json().await;
    let next = if next["type"] == "gap" { behind.json().await } else { next };
    assert_eq!(next, whole[3], "where the gap says, it goes on");
}

#[tokio::test]
async fn a_repeat_is_stored_once_and_other_content_under_its_key_not_at_all() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    let event =
        |data| json!({ "type": "publish", "topic": "t", "event_type": "x", "data": data, "dedup_key": "k" });
    let first = socket.ask(&event(1)).await;
    assert_eq!(socket.ask(&event(1)).await, first);
    let other = socket.ask(&event(2)).await;
    assert_eq!((&other["type"], &other["code"]), (&json!("error"), &json!("idempotency_conflict")));
}

/// Many publishes in one piece are stored in their order, each answered.
#[tokio::test]
async fn pipelined_publishes_keep_their_order() {
    const COUNT: usize = 200;
    let node = node(|_| {}).await;
    let mut reader = connect(&node).await;
    subscribe(&mut reader, &["t"]).await;
    let mut writer = connect(&node).await;
    let frames: Vec<u8> = (0..COUNT)
        .flat_map(|n| {
            let frame =
                json!({ "type": "publish", "topic": "t", "event_type": "x", "data": n, "id": n.to_string() });
            super::client::frame(0x81, frame.to_string().as_bytes())
        })
        .collect();
    writer.bytes(&frames).await;
    for n in 0..COUNT {
        let answer = writer.json().await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("published"), &json!(n.to_string())));
    }
    assert_eq!(data(&take(&mut reader, COUNT).await), (0..COUNT).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_followed_is_answered_and_changes_nothing() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    subscribe(&mut socket, &["t"]).await;
    let many: Vec<String> = (0..65).map(|n| format!("m.{n}")).collect();
    let cases = [
        (json!({ "type": "subscribe" }), "No topics specified"),
        (json!({ "type": "subscribe", "topics": [] }), "No topics specified"),
        (json!({ "type": "subscribe", "topics": ["a b"] }), "topics: must be a topic"),
        (json!({ "type": "subscribe", "topics": ["a*"] }), "topics: must be a topic"),
        (json!({ "type": "subscribe", "topics": [1] }), "A frame is a JSON object"),
        (json!({ "type": "subscribe", "topics": ["u"], "after": "x" }), "after: must be a place"),
        (json!({ "type": "subscribe", "topics": many }), "topics: must be at most 64"),
        (json!({ "type": "subscribe", "topics": many[1..] }), "A connection follows at most 64"),
        (json!({ "type": "resume", "topic": "u" }), "Missing after"),
        (json!({ "type": "resume", "after": "earliest" }), "No topics specified"),
        (json!({ "type": "publish", "topic": ">", "event_type": "x" }), "topic: must be"),
        (json!({ "type": "publish", "topic": "t", "event_type": "a\nb" }), "event_type: must be"),
        (json!({ "type": "publish", "topic": "t" }), "event_type: must be"),
        (json!({ "type": "ack" , "id": "" }), "id: must have"),
        (json!({ "type": "dance" }), "Unknown message type: dance"),
        (json!({ "topics": ["t"] }), "Missing type"),
        (json!([1]), "A frame is a JSON object"),
    ];
    for (frame, message) in cases {
        let answer = socket.ask(&frame).await;
        assert_eq!(answer["type"], "error", "{frame}: {answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(message), "{frame}: {answer}");
        assert_eq!(answer["code"], "invalid_content", "{frame}: {answer}");
    }
    // Text that is no JSON ended the original's connections.
    for text in ["", "hello", "{", "{\"type\":\"ping\"", "\u{0}"] {
        socket.text(text).await;
        let answer = socket.json().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("not_json")), "{text:?}");
    }
    say(&node, "t", json!("still here")).await;
    assert_eq!(data(&take(&mut socket, 1).await), ["still here"]);
}

#[tokio::test]
async fn a_key_follows_and_publishes_only_in_its_organisation_and_scope() {
    let reader = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::TopicsRead], ..key("r") };
    let writer = |org: &str| ApiKey { scopes: vec![Scope::Topics], ..key(org) };
    let node = node(|config| config.keys = vec![writer("o"), writer("p"), reader]).await;
    let with = |secret: &str, query: &str| handshake(query).header("X-API-Key", secret);
    let mut mine = connect_as(&node, &with("secret-o", "")).await;
    let mut read_only = connect_as(&node, &with("secret-r", "org_id=o")).await;
    let mut foreign = connect_as(&node, &with("secret-p", "")).await;
    for socket in [&mut mine, &mut read_only, &mut foreign] {
        subscribe(socket, &["*"]).await;
    }
    let event = |data: &str| json!({ "type": "publish", "topic": "t", "event_type": "x", "data": data });
    let refused = read_only.ask(&event("no")).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("scope_missing")));
    foreign.send(&event("p's")).await;
    mine.send(&event("o's")).await;
    assert_eq!(data(&take(&mut read_only, 1).await), ["o's"]);
    for (socket, own) in [(&mut mine, "o's"), (&mut foreign, "p's")] {
        let (one, two) = (socket.json().await, socket.json().await);
        let event = if one["type"] == "message" { one } else { two };
        assert_eq!(event["data"], own);
    }
}

async fn resume(node: &Node, after: &str) -> Socket {
    let mut socket = connect(node).await;
    let answer = socket.ask(&json!({ "type": "resume", "topic": "t", "after": after })).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    socket
}

#[tokio::test]
async fn i6_a_reader_that_stops_is_closed_with_its_place_and_delays_nobody() {
    const COUNT: u64 = 40;
    let node = node(|config| config.write_stall_max = Duration::from_secs(1)).await;
    let (mut stopped, mut reading) = (connect(&node).await, connect(&node).await);
    let begun = subscribe(&mut stopped, &["t"]).await;
    subscribe(&mut reading, &["t"]).await;
    let reading = tokio::spawn(async move { take(&mut reading, COUNT as usize).await });
    // More than the buffers of both sides hold.
    let filling = "x".repeat(900_000);
    let n_of = |event: &Value| event["data"]["n"].as_u64().unwrap();
    let publishing = async {
        for n in 0..COUNT {
            say(&node, "t", json!({ "n": n, "x": filling })).await;
        }
        let all = reading.await.unwrap();
        assert_eq!(
            all.iter().map(n_of).collect::<Vec<_>>(),
            (0..COUNT).collect::<Vec<_>>(),
            "who reads gets all"
        );
    };
    // It reads again at once: everything that was on its way comes, and then why it was closed.
    let stopping = async {
        node.until(|counters| counters.stalled() == 1).await;
        let mut seen = Vec::new();
        loop {
            let frame = stopped.frame().await.expect("the close frame comes before the end");
            if frame.opcode == super::client::CLOSE {
                let (code, reason) = frame.closed();
                assert_eq!(code, 4409);
                break (seen, reason.strip_prefix("too_slow resume=").unwrap().to_owned());
            }
            seen.push(frame.json());
        }
    };
    let ((), (mut seen, place)) = tokio::join!(publishing, stopping);
    let last = seen.last().map_or(begun["place"].clone(), |event| event["place"].clone());
    assert_eq!(place, last.as_str().unwrap());
    assert!((seen.len() as u64) < COUNT, "it was closed before the end");
    let mut again = resume(&node, &place).await;
    seen.extend(take(&mut again, COUNT as usize - seen.len()).await);
    assert_eq!(seen.iter().map(n_of).collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
}

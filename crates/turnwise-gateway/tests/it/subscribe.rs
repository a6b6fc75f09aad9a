//! `/api/v1/subscribe`: many topics as one stream, resumable anywhere.

use crate::client::{Event, Open, get};
use crate::node::{Node, node, node_on};
use crate::topics::{publish, say};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnwise_broker::BrokerConfig;
use turnwise_core::{Kind, Name, Offset, TopicStore};
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;

const PATIENCE: Duration = Duration::from_secs(60);

fn path(query: &str) -> String {
    format!("/api/v1/subscribe?org_id=o&{query}")
}

/// A subscription in org o that has begun: what is published from here on it gets.
pub(crate) async fn subscribe(node: &Node, query: &str) -> Open {
    let stream = get(&path(query)).open(node.address).await;
    assert_eq!(stream.head.status, 200);
    stream
}

async fn resume(node: &Node, query: &str, after: &str) -> Open {
    let stream = get(&path(query)).header("Last-Event-ID", after).open(node.address).await;
    assert_eq!(stream.head.status, 200);
    stream
}

/// The next event, which must come.
pub(crate) async fn next(stream: &mut Open) -> Event {
    timeout(PATIENCE, stream.event()).await.expect("an event comes").expect("the stream goes on")
}

async fn take(stream: &mut Open, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(next(stream).await);
    }
    events
}

fn id(event: &Event) -> &str {
    event.id.as_deref().unwrap()
}

/// Topic and data of an event.
fn said(event: &Event) -> (String, Value) {
    let event: Value = serde_json::from_str(&event.data).unwrap();
    (event["topic"].as_str().unwrap().to_owned(), event["data"].clone())
}

#[tokio::test]
async fn i3_topics_and_patterns_are_one_stream_in_order_and_overlaps_come_once() {
    let node = node(|_| {}).await;
    let mut stream = subscribe(&node, "topics=a,a,b.*,b.x,c.%3E,*:q").await;
    assert_eq!(stream.head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
    // A pattern's `*` is one token, tokens end at `.` and `:`, and `>` is one or more.
    let published = ["a", "b.x", "b.x.y", "b", "b:q", "c", "c.1", "c.1:2.3", "d", "z:q", "a.b", "aa", "a"];
    for (n, topic) in published.into_iter().enumerate() {
        say(&node, topic, json!(n)).await;
    }
    let seen: Vec<(String, Value)> = take(&mut stream, 7).await.iter().map(said).collect();
    let expected = [("a", 0), ("b.x", 1), ("b:q", 4), ("c.1", 6), ("c.1:2.3", 7), ("z:q", 9), ("a", 12)];
    assert_eq!(seen, expected.map(|(topic, n)| (topic.to_owned(), json!(n))));
}

/// Publishes this many events over four topics, some in batches that share a step.
async fn fill(node: &Node, count: usize) {
    let mut n = 0;
    while n < count {
        let size = (n % 5 + 1).min(count - n);
        let items: Vec<Value> = (n..n + size).map(|n| json!({ "type": "said", "data": n })).collect();
        let reply = node.send(&publish(&format!("t.{}", n % 4), &json!({ "items": items }))).await;
        assert_eq!(reply.status, 201);
        n += size;
    }
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| said(event).1.as_u64().unwrap()).collect()
}

#[tokio::test]
async fn cut_after_every_event_it_goes_on_without_a_hole_or_a_double() {
    const COUNT: usize = 40;
    let node = node(|_| {}).await;
    fill(&node, COUNT).await;
    let whole = take(&mut subscribe(&node, "topics=t.*&after=earliest").await, COUNT).await;
    assert_eq!(numbers(&whole), (0..COUNT as u64).collect::<Vec<_>>());
    for (at, event) in whole.iter().enumerate() {
        let mut stream = resume(&node, "topics=t.*", id(event)).await;
        assert_eq!(take(&mut stream, COUNT - at - 1).await, whole[at + 1..], "after {at}");
        // The place is good for other topics, too, and `after` in the address says the same.
        let others: Vec<Event> =
            whole[at + 1..].iter().filter(|event| said(event).0 == "t.1").cloned().collect();
        let mut stream = subscribe(&node, &format!("topics=t.1&after={}", id(event))).await;
        assert_eq!(take(&mut stream, others.len()).await, others, "t.1 after {at}");
    }
    let mut all = resume(&node, "topics=t.*", id(whole.last().unwrap())).await;
    say(&node, "t.0", json!("live")).await;
    assert_eq!(said(&next(&mut all).await).1, "live", "nothing came between");
}

#[tokio::test]
async fn history_and_live_meet_without_a_seam() {
    const COUNT: usize = 400;
    let node = node(|_| {}).await;
    let mut readers = JoinSet::new();
    for part in 0..8 {
        fill_from(&node, part * COUNT / 8, COUNT / 8).await;
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(subscribe(&node, "topics=t.%3E&after=earliest").await);
        }
        for (cut, mut stream) in (1..).zip(streams) {
            let address = node.address;
            readers.spawn(async move {
                // It leaves after a while and comes back with its last place.
                let mut events = take(&mut stream, cut * 7).await;
                drop(stream);
                let call = get(&path("topics=t.%3E")).header("Last-Event-ID", id(events.last().unwrap()));
                let mut stream = call.open(address).await;
                events.extend(take(&mut stream, COUNT - events.len()).await);
                events
            });
        }
    }
    for events in timeout(PATIENCE, readers.join_all()).await.expect("all of them get all") {
        assert_eq!(numbers(&events), (0..COUNT as u64).collect::<Vec<_>>());
    }
}

async fn fill_from(node: &Node, first: usize, count: usize) {
    for n in first..first + count {
        say(node, &format!("t.{}", n % 3), json!(n)).await;
    }
}

#[tokio::test]
async fn it_begins_with_now_and_even_a_reader_that_saw_nothing_can_resume() {
    let node = node(|_| {}).await;
    say(&node, "t", json!("before")).await;
    let mut stream = subscribe(&node, "topics=t").await;
    say(&node, "u", json!("not ours")).await;
    let mut other = subscribe(&node, "topics=u").await;
    say(&node, "t", json!(1)).await;
    assert_eq!(said(&next(&mut stream).await).1, 1);
    // The other has seen no event, but was told a place.
    let place = timeout(PATIENCE, other.place()).await.expect("a place comes");
    drop(other);
    for n in 2..5 {
        say(&node, "u", json!(n)).await;
    }
    let missed = take(&mut resume(&node, "topics=u", &place).await, 3).await;
    assert_eq!(numbers(&missed), [2, 3, 4]);
}

#[tokio::test]
async fn a_trimmed_place_is_a_gap_and_goes_on_with_what_is_kept() {
    let store = MemoryStore::new(system_clock());
    let node = node_on(store.clone(), BrokerConfig::default(), |_| {}).await;
    for n in 0..6 {
        say(&node, "t", json!(n)).await;
    }
    let whole = take(&mut subscribe(&node, "topics=t&after=earliest").await, 6).await;
    store.trim(&Name::new("o", Kind::Public, "t").unwrap(), Offset(4)).await.unwrap();
    let mut stream = resume(&node, "topics=t", id(&whole[0])).await;
    let gap = next(&mut stream).await;
    assert_eq!(gap.name, "gap");
    let resumes: Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!(resumes["resume"].as_str(), gap.id.as_deref());
    assert_eq!(take(&mut stream, 3).await, whole[3..]);
    // Where the gap says, it goes on, and behind what was trimmed there is none.
    let mut stream = resume(&node, "topics=t", id(&gap)).await;
    let kept = loop {
        let event = next(&mut stream).await;
        if event.name != "gap" {
            break event;
        }
    };
    assert_eq!(kept, whole[3]);
    assert_eq!(next(&mut resume(&node, "topics=t", id(&whole[3])).await).await, whole[4]);
    // What another topic lost is no gap of this one, and what was seen before it was trimmed is none either.
    say(&node, "u", json!("u")).await;
    let mut of_u = resume(&node, "topics=u,x.*", id(&whole[0])).await;
    assert_eq!(said(&next(&mut of_u).await).1, "u");
    assert_eq!(next(&mut resume(&node, "topics=t", id(&whole[2])).await).await, whole[3]);
    // A place of another history of this store, and one that was never given out.
    let epoch = id(&whole[5]).split_once('-').unwrap().0.to_owned();
    let foreign = format!("{}-5-7-1", epoch.parse::<u64>().unwrap() ^ 1);
    assert_eq!(next(&mut resume(&node, "topics=t", &foreign).await).await.name, "gap");
    let mut forged = resume(&node, "topics=t", &format!("{epoch}-999999999-7-1")).await;
    assert_eq!(next(&mut forged).await.name, "gap");
    say(&node, "t", json!("live")).await;
    assert_eq!(said(&next(&mut forged).await).1, "live");
}

#[tokio::test]
async fn i3_a_publish_tells_how_many_read_and_who_leaves_disturbs_nobody() {
    let node = node(|_| {}).await;
    let (one, mut two) = (subscribe(&node, "topics=a.*").await, subscribe(&node, "topics=a.%3E,a.b").await);
    let _other = subscribe(&node, "topics=b.*").await;
    assert_eq!(say(&node, "a.b", json!(1)).await["subscribers"], 2);
    assert_eq!(say(&node, "a.b.c", json!(1)).await["subscribers"], 1);
    assert_eq!(say(&node, "c", json!(1)).await["subscribers"], 0);
    let shown = node.send(&get("/api/v1/topics/a.b?org_id=o")).await.json();
    assert_eq!(shown["subscribers"], 2);
    drop(one);
    let until_one_left = async { while say(&node, "a.b", json!(2)).await["subscribers"] != 1 {} };
    timeout(PATIENCE, until_one_left).await.expect("who left is not counted");
    assert_eq!(said(&next(&mut two).await).1, 1, "who stays is not disturbed");
}

#[tokio::test]
async fn i6_a_reader_that_stops_is_dropped_delays_nobody_and_resumes_where_it_was() {
    const COUNT: u64 = 40;
    let node = node(|config| config.write_stall_max = Duration::from_secs(3)).await;
    let mut stopped = subscribe(&node, "topics=t").await;
    let mut reading = subscribe(&node, "topics=t").await;
    let mut others = JoinSet::new();
    others.spawn(async move { take(&mut reading, COUNT as usize).await });
    // More than the buffers of both sides hold.
    let filling = "x".repeat(900_000);
    for n in 0..COUNT {
        say(&node, "t", json!({ "n": n, "x": filling })).await;
    }
    let n_of = |event: &Event| said(event).1["n"].as_u64().unwrap();
    let all = timeout(PATIENCE, others.join_all()).await.expect("who reads gets everything");
    assert_eq!(all[0].iter().map(n_of).collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
    node.until(|counters| counters.stalled() == 1 && counters.connections() == 0).await;
    let mut events = timeout(PATIENCE, stopped.events()).await.expect("its connection has ended");
    let held = events.len() as u64;
    assert!(held < COUNT, "it was dropped before the end");
    let mut again = resume(&node, "topics=t", &stopped.last_id.unwrap()).await;
    events.extend(take(&mut again, (COUNT - held) as usize).await);
    assert_eq!(events.iter().map(n_of).collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_goes_away_says_so_and_leaves_a_place() {
    let node = node(|_| {}).await;
    let mut stream = subscribe(&node, "topics=t").await;
    say(&node, "t", json!(1)).await;
    assert_eq!(said(&next(&mut stream).await).1, 1);
    node.drain.begin();
    node.send(&publish("t", &json!({ "type": "x" }))).await.assert_problem(503, "draining");
    node.drain.close();
    assert_eq!(timeout(PATIENCE, stream.event()).await.expect("the stream ends"), None);
    assert!(stream.comments.last().unwrap().starts_with("going away"), "{:?}", stream.comments);
    assert!(stream.last_id.is_some());
}

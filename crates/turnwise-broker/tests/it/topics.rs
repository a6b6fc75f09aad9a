//! Public topics over a store whose wake-ups are all lost: what is followed
//! arrives, whoever falls behind gets everything, and what is kept has limits.

use crate::bench::Bench;
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_testkit::faulty::{Fault, Op};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn event(data: &str) -> Publication {
    Publication {
        event_type: "said".to_owned(),
        body: EventBody::Json(Bytes::copy_from_slice(data.as_bytes())),
        dedup_key: None,
    }
}

async fn publish(bench: &Bench, topic: &str, data: &str) {
    let published = bench.broker.publish("acme", topic, vec![event(data)]).await.unwrap();
    assert!(matches!(published.events.as_slice(), [PublishedEvent::At(_)]), "{published:?}");
}

async fn subscribe(bench: &Bench, patterns: &[&str], from: SubscribeFrom) -> Subscription {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    bench.broker.subscribe("acme", &patterns, from).await.unwrap()
}

fn data(event: &TopicEvent) -> String {
    let EventBody::Json(data) = &event.body else { panic!("{event:?}") };
    String::from_utf8(data.to_vec()).unwrap()
}

/// The data of the next events; places are passed over.
async fn take(stream: &mut Subscription, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match stream.next().await.unwrap().unwrap() {
            Subscribed::Event(event) => seen.push(data(&event)),
            Subscribed::Place(_) => {}
            Subscribed::Gap(place) => panic!("a gap before {place}"),
            other @ (Subscribed::Changed(_) | Subscribed::Refused) => {
                panic!("nothing was changed: {other:?}")
            }
        }
    }
    seen
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn without_a_single_hint_everything_arrives() {
    let bench = Bench::new().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(subscribe(&bench, &["t.*"], SubscribeFrom::Now).await);
    }
    for round in 0..5 {
        publish(&bench, "t.a", &(2 * round).to_string()).await;
        publish(&bench, "u", "not ours").await;
        publish(&bench, "t.b", &(2 * round + 1).to_string()).await;
        for stream in &mut streams {
            assert_eq!(take(stream, 2).await, texts(2 * round..2 * round + 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_far_behind_the_others_misses_nothing() {
    let bench = Bench::new().await;
    let mut quick = subscribe(&bench, &[">"], SubscribeFrom::Now).await;
    let mut slow = subscribe(&bench, &["t.*"], SubscribeFrom::Now).await;
    publish(&bench, "t.a", "0").await;
    assert_eq!(take(&mut slow, 1).await, ["0"]);
    // More than all read together is kept of.
    for n in 1..200 {
        publish(&bench, if n % 2 == 0 { "t.a" } else { "t.b" }, &n.to_string()).await;
        assert_eq!(take(&mut quick, 1).await, texts(n - 1..n));
    }
    assert_eq!(take(&mut slow, 199).await, texts(1..200));
    publish(&bench, "t.c", "200").await;
    assert_eq!(take(&mut slow, 1).await, ["200"]);
    assert_eq!(take(&mut quick, 2).await, texts(199..201));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_stream_and_its_last_place_goes_on() {
    let bench = Bench::new().await;
    let mut stream = subscribe(&bench, &["t"], SubscribeFrom::Now).await;
    publish(&bench, "t", "0").await;
    let place = loop {
        if let Subscribed::Event(event) = stream.next().await.unwrap().unwrap() {
            break event.place.unwrap();
        }
    };
    publish(&bench, "t", "1").await;
    bench.store.fail_next(Op::Look, &[Fault::Refused]);
    let failed = loop {
        match stream.next().await.unwrap() {
            Ok(Subscribed::Place(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(failed, Err(BrokerError::Store(_))), "{failed:?}");
    assert!(stream.next().await.is_none());
    let mut again = subscribe(&bench, &["t"], SubscribeFrom::After(place)).await;
    assert_eq!(take(&mut again, 1).await, ["1"]);
}

async fn keep_house(bench: &Bench) {
    let shutdown = CancellationToken::new();
    let stop = async {
        for _round in 0..3 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            bench.pass(Duration::from_secs(61));
        }
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
}

async fn kept(bench: &Bench, topic: &str) -> Vec<String> {
    let page = bench.broker.topic_events("acme", topic, None, 1_000).await.unwrap();
    page.events.iter().map(data).collect()
}

#[tokio::test(start_paused = true)]
async fn a_topic_keeps_as_much_as_was_said_by_age_number_and_bytes() {
    let mut bench = Bench::new().await;
    let none = Retention { age_max: None, events_max: None, bytes_max: None };
    let said = [
        ("age", Retention { age_max: Some(2 * DAY), ..none }),
        ("events", Retention { events_max: Some(3), ..none }),
        // Each event counts its type and its data.
        ("bytes", Retention { bytes_max: Some(30), ..none }),
        ("all", none),
    ];
    for (topic, retention) in said {
        assert!(bench.broker.retain_topic("acme", topic, Retention::default()).await.unwrap());
        assert!(bench.broker.retain_topic("acme", topic, retention).await.unwrap());
        assert_eq!(bench.broker.topic_retention("acme", topic).await.unwrap(), retention, "the last word");
    }
    bench.restart().await;
    for n in 0..10 {
        for topic in ["age", "events", "bytes", "all", "usual"] {
            publish(&bench, topic, &n.to_string()).await;
        }
        bench.pass(DAY);
    }
    keep_house(&bench).await;
    assert_eq!(kept(&bench, "age").await, ["9"]);
    assert_eq!(kept(&bench, "events").await, texts(7..10));
    let bytes = kept(&bench, "bytes").await;
    assert_eq!(bytes, texts(10 - bytes.len()..10));
    assert!((1..10).contains(&bytes.len()), "{bytes:?}");
    assert!(bench.broker.topic("acme", "bytes").await.unwrap().unwrap().bytes <= 30);
    assert_eq!(kept(&bench, "all").await, texts(0..10));
    assert_eq!(kept(&bench, "usual").await, texts(4..10), "a week");
    // Offsets do not move, and what is said later counts from then on.
    publish(&bench, "age", "10").await;
    assert!(
        bench.broker.retain_topic("acme", "all", Retention { events_max: Some(1), ..none }).await.unwrap()
    );
    keep_house(&bench).await;
    assert_eq!(kept(&bench, "all").await, ["9"]);
    let shown = bench.broker.topic("acme", "age").await.unwrap().unwrap();
    assert_eq!((shown.events, shown.last.0.offset.0), (2, 11));
}

//! What one step on a Redis server may do, and what an operation of many steps may take.

use crate::redis::{LEASE, ack, claim, event, message, open, queue};
use crate::wire::{Answer, Wire};
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{
    Effect, Enqueued, Kind, MessageId, Name, NewEvent, NewMessage, Outcome, QueueStore, Settled, Stage,
    Store, StoreError, StorePosition, TopicName, TopicPattern, TopicStore,
};
use turnwise_store::redis::{RedisConfig, RedisStore};
use turnwise_testkit::ManualClock;
use turnwise_testkit::servers::{Server, redis};

/// Messages of one key that fall due at once: more than what passing time and one step line up.
const DUE: usize = 12_000;
const MIB: usize = 1024 * 1024;

async fn opened(url: &str, clock: &ManualClock) -> Arc<RedisStore> {
    let config = RedisConfig { call_timeout: Duration::from_secs(60), ..RedisConfig::default() };
    RedisStore::open(url, config, Some(clock.reader())).await.unwrap()
}

/// Many of key 0 that are due half a lease after this.
async fn all_due(store: &RedisStore, clock: &ManualClock) {
    let due = clock.now().after(LEASE);
    let later = |n| NewMessage { deliver_at: Some(due), dedup: None, ..message(0, n) };
    for _ in 0..DUE / 1_000 {
        store.enqueue((0..1_000).map(later).collect()).await.unwrap();
    }
    clock.advance(LEASE / 2);
}

async fn sweep_all(store: &RedisStore) {
    while store.sweep(1_000).await.unwrap() > 0 {}
}

async fn last(store: &RedisStore, stage: Stage) -> MessageId {
    let mut last = None;
    loop {
        let page = store.list(&queue(), stage, last, 1_000).await.unwrap();
        match page.last() {
            Some(info) => last = Some(info.id),
            None => return last.expect("there are some"),
        }
    }
}

async fn place(store: &RedisStore, id: MessageId) -> Option<u64> {
    store.lane(&queue(), &message(0, 0).key.unwrap(), Some(id)).await.unwrap().place
}

#[tokio::test]
async fn an_effect_behind_a_great_many_due_messages_takes_its_place_in_steps() {
    let Some(server) = redis::start() else { return };
    let clock = ManualClock::default();
    let store = opened(&redis::url(&server), &clock).await;
    all_due(&store, &clock).await;
    store.enqueue(vec![message(1, 0)]).await.unwrap();
    let held = store.claim(claim(1)).await.unwrap().remove(0);
    clock.advance(LEASE / 2);
    let mut settlement = ack(&held);
    settlement[0].effects = vec![Effect::Enqueue(message(0, DUE))];
    assert_eq!(store.settle(settlement).await.unwrap(), [Ok(Settled::Done)]);
    let depth = store.depth(&queue()).await.unwrap();
    assert_eq!(depth.enqueued as usize, DUE + 2, "it is stored in the step that settles");
    assert_eq!((depth.ready, depth.scheduled), (11_000, 1_001), "one step lines up so many and no more");
    let effect = last(&store, Stage::Scheduled).await;
    // X4: on a clock that steps back what comes now is still behind what came before.
    clock.step_back(LEASE);
    let stored = store.enqueue(vec![message(0, DUE + 1)]).await.unwrap().remove(0).unwrap();
    let Enqueued::New { id, position: 12_002, .. } = stored else { panic!("{stored:?}") };
    clock.advance(LEASE);
    sweep_all(&store).await;
    assert_eq!((place(&store, effect).await, place(&store, id).await), (Some(12_001), Some(12_002)));
}

#[tokio::test]
async fn a_redrive_behind_a_great_many_due_messages_takes_several_steps() {
    let Some(server) = redis::start() else { return };
    let (clock, wire) = (ManualClock::default(), Wire::to(server.port()).await);
    let store = opened(&wire.url(), &clock).await;
    store.enqueue(vec![message(0, DUE)]).await.unwrap();
    let held = store.claim(claim(1)).await.unwrap().remove(0);
    let mut settlement = ack(&held);
    settlement[0].outcome = Outcome::Dead { reason: "a test".into() };
    store.settle(settlement).await.unwrap();
    all_due(&store, &clock).await;
    clock.advance(LEASE / 2);
    let dead = held.receipt.id;
    wire.rule(&format!("{:016}", dead.seq()), Answer::Late(Duration::ZERO));
    assert_eq!(store.redrive(&queue(), vec![dead]).await.unwrap(), 1);
    assert_eq!(wire.caught(), 2, "one step lines up so many and no more");
    assert_eq!(place(&store, dead).await, Some(DUE as u64 + 1));
}

/// Large messages, and a server that gives no connection more than a few of them at once.
async fn large(server: &Server, many: usize) -> (Arc<RedisStore>, Vec<MessageId>) {
    let store = open(server).await;
    let mut ids = Vec::new();
    for n in 0..many {
        let large = NewMessage { payload: vec![b'x'; MIB].into(), ..message(n, 0) };
        let Enqueued::New { id, .. } = store.enqueue(vec![large]).await.unwrap().remove(0).unwrap() else {
            panic!("it is new")
        };
        ids.push(id);
    }
    let limit = format!("CONFIG SET client-output-buffer-limit \"normal {} 0 0\"", 24 * MIB);
    assert_eq!(crate::redis::Admin::connect(server).await.ask(&limit).await, ["+OK"]);
    (store, ids)
}

#[tokio::test]
async fn large_messages_are_read_in_steps_and_all_of_them() {
    let Some(server) = redis::start() else { return };
    let (store, ids) = large(&server, 40).await;
    let asked: Vec<MessageId> = ids.iter().copied().chain([MessageId::new(1 << 50, 7)]).collect();
    let got = store.get(&queue(), asked).await.unwrap();
    let got: Vec<Option<MessageId>> = got.into_iter().map(|info| info.map(|info| info.id)).collect();
    let expected: Vec<_> = ids.iter().copied().map(Some).chain([None]).collect();
    assert_eq!(got, expected);
    for limit in [40, 1_000] {
        let listed = store.list(&queue(), Stage::Ready, None, limit).await.unwrap();
        let listed: Vec<MessageId> = listed.into_iter().map(|info| info.id).collect();
        assert_eq!(listed, ids, "a short page is the end");
    }
    let rest = store.list(&queue(), Stage::Ready, Some(ids[36]), 2).await.unwrap();
    assert_eq!(rest.iter().map(|info| info.id).collect::<Vec<_>>(), ids[37..39]);
}

fn topic(name: &str) -> TopicName {
    Name::new("acme", Kind::Reply, name).unwrap()
}

#[tokio::test]
async fn a_page_over_many_topics_ends_though_nothing_was_found() {
    let Some(server) = redis::start() else { return };
    let store = open(&server).await;
    // Neighbours of different topics are a step of the log each.
    let other = |n: usize| NewEvent { topic: topic(["a", "b"][n % 2]), ..event("other") };
    for _ in 0..11 {
        store.append((0..1_000).map(other).collect()).await.unwrap();
    }
    store.append(vec![NewEvent { topic: topic("wanted"), ..event("here") }]).await.unwrap();
    let pattern = [TopicPattern(topic("wanted"))];
    let start = StorePosition { epoch: store.epoch(), seq: 0 };
    let page = store.read_many(&pattern, start, 100).await.unwrap();
    assert!(page.events.is_empty() && page.next.seq > 0, "it looked through so much and no more: {page:?}");
    let page = store.read_many(&pattern, page.next, 100).await.unwrap();
    assert_eq!(page.events.len(), 1);
}

#[tokio::test]
async fn an_operation_of_many_steps_ends_within_the_time_of_one() {
    let Some(server) = redis::start() else { return };
    let wire = Wire::to(server.port()).await;
    let config = RedisConfig { call_timeout: Duration::from_secs(3), ..RedisConfig::default() };
    let store = RedisStore::open(&wire.url(), config, None).await.unwrap();
    let ids: Vec<MessageId> = (0..1_000).map(|n| MessageId::new(n + 1, 7)).collect();
    assert_eq!(store.get(&queue(), ids.clone()).await.unwrap(), vec![None; 1_000]);
    // Four steps, each of which would have time enough alone.
    wire.rule("acme", Answer::Late(Duration::from_millis(900)));
    let error = store.get(&queue(), ids).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

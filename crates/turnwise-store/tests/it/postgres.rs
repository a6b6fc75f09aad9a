//! PostgreSQL: two stores on one schema act as one (X3), what a server's failure means (X2), and a server that
//! comes back without what it had acknowledged (X5).

use futures_util::StreamExt as _;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Effect, Kind, Name, NewEvent, NewMessage, Offset, OrderingKey, Outcome, Position,
    QueueStore, Read, ReadFrom, Settled, Settlement, Store, StoreError, StorePosition, TopicFilter,
    TopicPattern, TopicStore,
};
use turnwise_store::postgres::{PostgresConfig, PostgresStore};
use turnwise_testkit::ManualClock;
use turnwise_testkit::servers::postgres::Postgres;

const KEYS: u64 = 7;
const PRODUCERS: u64 = 6;
const EACH: u64 = 120;
const ALL: u64 = PRODUCERS * EACH;
const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn name(text: &str) -> Name {
    Name::new("acme", Kind::Public, text).unwrap()
}

pub(crate) async fn open(server: &Postgres) -> Arc<PostgresStore> {
    PostgresStore::open(&server.url("shared"), PostgresConfig::default(), None).await.unwrap()
}

pub(crate) fn note(topic: &str, text: String) -> NewEvent {
    let topic = name(topic);
    NewEvent { topic, event_type: "note".into(), data: text.into(), dedup: None, keep_until: None }
}

/// A session beside the store.
pub(crate) async fn sql(server: &Postgres) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
    let url = server.url("x");
    let (client, connection) =
        tokio_postgres::connect(url.split('?').next().unwrap(), tokio_postgres::NoTls).await.unwrap();
    (client, tokio::spawn(async move { drop(connection.await) }))
}

/// How often the server found steps that waited for each other in a circle: it ends one, which is tried again. Closes
/// the stores. Without the circles of a claim, which asks to pass by what is locked: where a row is changed twice while
/// it looks, the server waits for the second change all the same.
pub(crate) async fn deadlocks(server: &Postgres, stores: &[Arc<PostgresStore>]) -> usize {
    // Sessions tell their counters when they are over.
    stores.iter().for_each(|store| store.close());
    let (client, driver) = sql(server).await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnwise'";
    while client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
    let row = client.query_one("SELECT sum(deadlocks)::bigint FROM pg_stat_database", &[]).await.unwrap();
    driver.abort();
    let log = server.server().log();
    let told = log.split("deadlock detected").skip(1).filter_map(|rest| rest.split("HINT").next());
    let of_claims = told.filter(|circle| circle.contains("tw_claim(")).count();
    // Which ones, where a test fails.
    println!("{log}");
    usize::try_from(row.get::<_, i64>(0)).unwrap() - of_claims
}

/// What all workers together have seen.
#[derive(Default)]
struct Seen {
    /// Keys that somebody holds.
    held: HashMap<OrderingKey, u64>,
    /// The newest token of each key.
    tokens: HashMap<OrderingKey, u64>,
    /// The next number of each producer in each key.
    next: HashMap<(OrderingKey, u64), u64>,
    acked: u64,
}

impl Seen {
    fn take(&mut self, delivery: &Delivery) {
        let key = delivery.key.clone().unwrap();
        let token = delivery.receipt.token.0;
        assert_eq!(self.held.insert(key.clone(), token), None, "two leases of one key at once");
        let before = self.tokens.insert(key, token).unwrap_or(0);
        assert!(token > before, "token {token} after {before}");
    }

    fn end(&mut self, delivery: &Delivery, acked: bool) {
        let key = delivery.key.clone().unwrap();
        self.held.remove(&key);
        let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
        let (producer, number) = text.split_once(':').unwrap();
        let (producer, number): (u64, u64) = (producer.parse().unwrap(), number.parse().unwrap());
        let next = self.next.entry((key, producer)).or_default();
        assert!(number >= *next, "{text} behind {next}");
        if acked {
            *next = number + 1;
            self.acked += 1;
        }
    }
}

async fn produce(store: Arc<PostgresStore>, producer: u64) {
    let mut number = 0;
    while number < EACH {
        let many = 1 + (number + producer) % 4;
        let batch = (number..EACH.min(number + many)).map(|n| NewMessage {
            key: Some(OrderingKey(format!("k{}", (n * 3 + producer) % KEYS).into())),
            nonce: n,
            ..NewMessage::new(name("jobs"), format!("{producer}:{n}"))
        });
        for answer in store.enqueue(batch.collect()).await.unwrap() {
            answer.unwrap();
        }
        number += many;
    }
}

async fn work(store: Arc<PostgresStore>, seen: Arc<Mutex<Seen>>, worker: u64) {
    let mut round = worker;
    while seen.lock().unwrap().acked < ALL {
        let claim = Claim { queue: name("jobs"), limit: 3, lease: LEASE, durable: true };
        let held = store.claim(claim).await.unwrap();
        held.iter().for_each(|delivery| seen.lock().unwrap().take(delivery));
        if held.is_empty() {
            tokio::task::yield_now().await;
        }
        for delivery in held {
            round += 1;
            let outcome = match round % 5 {
                0 => Outcome::Release,
                1 => Outcome::Retry { delay: Duration::ZERO, reason: "again".into() },
                _ => Outcome::Ack,
            };
            // Far from the last attempt allowed.
            let acked = matches!(outcome, Outcome::Ack) || delivery.attempt > 8;
            let outcome = if acked { Outcome::Ack } else { outcome };
            let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
            let effects = if acked { vec![Effect::Publish(note("log", text))] } else { Vec::new() };
            let settlement = Settlement { receipt: delivery.receipt.clone(), outcome, effects };
            // From now on another may hold the key.
            seen.lock().unwrap().end(&delivery, acked);
            let answers = store.settle(vec![settlement.clone(), settlement]).await.unwrap();
            assert_eq!(answers, [Ok(Settled::Done), Ok(Settled::LeaseLost)]);
        }
    }
}

/// Reads all topics as they grow; what comes is in order and nothing turns up behind.
async fn follow(store: Arc<PostgresStore>, over: Arc<AtomicBool>) -> Vec<(String, u64)> {
    let mut at = StorePosition { epoch: store.epoch(), seq: 0 };
    let (mut all, mut last) = (Vec::new(), false);
    loop {
        let page = store.read_many(&[TopicPattern(name(">"))], at, 50).await.unwrap();
        assert!(!page.gap && page.next >= at);
        at = page.next;
        let none = page.events.is_empty();
        all.extend(page.events.into_iter().map(|(topic, event)| (topic.name().to_owned(), event.offset.0)));
        if none && last {
            return all;
        }
        last = none && over.load(Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

async fn append(store: Arc<PostgresStore>, writer: u64) {
    for n in 0..EACH {
        let topics = if (n + writer).is_multiple_of(2) { ["a", "b"] } else { ["b", "a"] };
        let batch = topics.map(|topic| note(topic, format!("{writer}:{n}"))).to_vec();
        for answer in store.append(batch).await.unwrap() {
            answer.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_schema_act_as_one() {
    let Some(server) = Postgres::start() else { return };
    let (left, right) = tokio::join!(open(&server), open(&server));
    assert_eq!(left.epoch(), right.epoch(), "both made the tables, once");
    let store = |n: u64| if n.is_multiple_of(2) { Arc::clone(&left) } else { Arc::clone(&right) };
    let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
    let reader = tokio::spawn(follow(store(1), Arc::clone(&over)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..PRODUCERS {
        tasks.spawn(produce(store(n), n));
        tasks.spawn(append(store(n + 1), n));
    }
    for n in 0..6 {
        tasks.spawn(work(store(n), Arc::clone(&seen), n));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let mut offsets: HashMap<String, Vec<u64>> = HashMap::new();
    for (topic, offset) in reader.await.unwrap() {
        offsets.entry(topic).or_default().push(offset);
    }
    for (topic, many) in [("a", ALL), ("b", ALL), ("log", ALL)] {
        assert_eq!(offsets[topic], (1..=many).collect::<Vec<_>>(), "{topic} as it was followed");
        let mut read = Vec::new();
        let mut from = ReadFrom::Earliest;
        while let Read::Events { events, next } = store(0).read(&name(topic), from, 500).await.unwrap() {
            if events.is_empty() {
                break;
            }
            read.extend(events.iter().map(|event| event.offset.0));
            from = ReadFrom::After(next);
        }
        assert_eq!(read, (1..=many).collect::<Vec<_>>(), "{topic} as it was read");
    }
    let depth = left.depth(&name("jobs")).await.unwrap();
    assert_eq!((depth.enqueued, depth.acked, depth.ready, depth.leased), (ALL, ALL, 0, 0));
    assert_eq!(depth, right.depth(&name("jobs")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_and_comes_back() {
    let Some(server) = Postgres::start() else { return };
    let store = open(&server).await;
    let (stored, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4_u64 {
        let (store, stored, done) = (Arc::clone(&store), Arc::clone(&stored), Arc::clone(&done));
        tasks.spawn(async move {
            let (mut at, mut maybe) = (0_u64, 0_u64);
            while !done.load(Ordering::SeqCst) {
                let key = Some(OrderingKey(format!("k{n}").into()));
                let new = NewMessage { key, ..NewMessage::new(name("jobs"), format!("{n}:{at}")) };
                match store.enqueue(vec![new]).await {
                    Ok(answers) => {
                        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                        stored.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(StoreError::Unknown(_)) => maybe += 1,
                    Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
                at += 1;
            }
            maybe
        });
    }
    for round in 1..=5 {
        while stored.load(Ordering::SeqCst) < round * 60 {
            tokio::task::yield_now().await;
        }
        server.server().restart();
    }
    done.store(true, Ordering::SeqCst);
    let mut maybe = 0;
    while let Some(unknown) = tasks.join_next().await {
        maybe += unknown.unwrap();
    }
    let epoch = store.epoch();
    let depth = store.depth(&name("jobs")).await.unwrap();
    let surely = stored.load(Ordering::SeqCst);
    assert!((surely..=surely + maybe).contains(&depth.ready), "{surely} and {maybe} stored, told {depth:?}");
    assert_eq!(store.epoch(), epoch, "nothing was lost");
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_another_epoch() {
    let Some(server) = Postgres::start() else { return };
    let store = open(&server).await;
    store.append(vec![note("log", "one".into())]).await.unwrap();
    let before = Position { epoch: store.epoch(), offset: Offset(1) };
    // Emptied under a running node.
    let (client, driver) = sql(&server).await;
    client.batch_execute("DROP SCHEMA shared CASCADE").await.unwrap();
    let read = loop {
        // The first calls may meet tables that are gone.
        match store.read(&name("log"), ReadFrom::After(before), 10).await {
            Ok(read) => break read,
            Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(read, Read::Gap { resume } if resume.epoch == store.epoch()), "{read:?}");
    assert_ne!(store.epoch(), before.epoch);
    // The tables say that they belong to another server: this is a copy.
    store.append(vec![note("log", "two".into())]).await.unwrap();
    let copied = store.epoch();
    client.batch_execute("UPDATE shared.meta SET system_id = '1'").await.unwrap();
    let again = open(&server).await;
    assert_ne!(again.epoch(), copied);
    let start = StorePosition { epoch: again.epoch(), seq: 0 };
    again.append(vec![note("log", "three".into())]).await.unwrap();
    let page = again.read_many(&[TopicPattern(name("log"))], start, 10).await.unwrap();
    let texts: Vec<_> = page.events.iter().map(|(_, event)| &event.data[..]).collect();
    assert_eq!(texts, [&b"two"[..], b"three"], "the old and the new, in order");
    driver.abort();
}

/// Keys that come and go with each round, new ones and known ones, in one order and in the other.
async fn cross(store: Arc<PostgresStore>, task: u64) {
    for round in 0..40_u64 {
        let mut batch: Vec<NewMessage> = (0..20_u64)
            .map(|n| NewMessage {
                key: Some(OrderingKey(format!("k{}", (n * 7 + round) % 23).into())),
                nonce: task * 1_000_000 + round * 100 + n,
                // Every third batch goes one by one.
                deliver_at: (round.is_multiple_of(3) && n == 0).then_some(turnwise_core::Timestamp(1)),
                ..NewMessage::new(name(if n.is_multiple_of(2) { "left" } else { "right" }), "")
            })
            .collect();
        if task.is_multiple_of(2) {
            batch.reverse();
        }
        for answer in store.enqueue(batch).await.unwrap() {
            answer.unwrap();
        }
        let mut held = Vec::new();
        for queue in ["right", "left"] {
            let claim = Claim { queue: name(queue), limit: 30, lease: LEASE, durable: true };
            held.extend(store.claim(claim).await.unwrap());
        }
        if task.is_multiple_of(3) {
            held.reverse();
        }
        let note = |n: usize| vec![Effect::Publish(note(["a", "b"][n % 2], String::new()))];
        let settle = held.into_iter().enumerate().map(|(n, delivery)| Settlement {
            receipt: delivery.receipt,
            outcome: Outcome::Ack,
            effects: if round.is_multiple_of(4) { note(n) } else { Vec::new() },
        });
        for answer in store.settle(settle.collect()).await.unwrap() {
            assert_eq!(answer, Ok(Settled::Done));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_cross_never_wait_in_a_circle() {
    let Some(server) = Postgres::start() else { return };
    let stores = [open(&server).await, open(&server).await];
    let mut tasks = tokio::task::JoinSet::new();
    for (task, store) in (0..8).zip(stores.iter().cycle()) {
        tasks.spawn(cross(Arc::clone(store), task));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for queue in ["left", "right"] {
        let depth = stores[0].depth(&name(queue)).await.unwrap();
        assert_eq!((depth.enqueued, depth.acked + depth.ready), (8 * 40 * 10, 8 * 40 * 10), "{depth:?}");
        assert_eq!((depth.leased, depth.scheduled, depth.dead), (0, 0, 0));
    }
    assert_eq!(deadlocks(&server, &stores).await, 0);
}

#[tokio::test]
async fn what_time_brings_is_hinted_at_by_whoever_notices() {
    let Some(server) = Postgres::start() else { return };
    let clock = ManualClock::new();
    let config = PostgresConfig { acts_by_itself: false, ..PostgresConfig::default() };
    let store = PostgresStore::open(&server.url("shared"), config, Some(clock.reader())).await.unwrap();
    let last_word = NewMessage { max_attempts: 1, ..NewMessage::new(name("callbacks"), "") };
    let message = NewMessage {
        max_attempts: 1,
        at_end: vec![Effect::Publish(note("ends", "over".into())), Effect::Enqueue(last_word)],
        ..NewMessage::new(name("jobs"), "")
    };
    store.enqueue(vec![message.clone(), message]).await.unwrap();
    let claim = Claim { queue: name("jobs"), limit: 2, lease: LEASE, durable: true };
    let held = store.claim(claim).await.unwrap();
    let mut topics = store.watch(TopicFilter::One(name("ends")));
    let mut queues = store.wakeups();
    // The first by a settlement, the second by the time.
    let outcome = Outcome::Retry { delay: Duration::ZERO, reason: String::new() };
    let settlement = Settlement { receipt: held[0].receipt.clone(), outcome, effects: Vec::new() };
    store.settle(vec![settlement]).await.unwrap();
    assert_eq!(topics.next().await, Some(name("ends")));
    let mut hinted = HashSet::from([queues.next().await, queues.next().await]);
    assert_eq!(hinted, HashSet::from([Some(name("jobs")), Some(name("callbacks"))]));
    clock.advance(LEASE);
    store.claim(Claim { queue: name("other"), limit: 1, lease: LEASE, durable: true }).await.unwrap();
    assert_eq!(topics.next().await, Some(name("ends")));
    hinted = HashSet::from([queues.next().await, queues.next().await]);
    assert_eq!(hinted, HashSet::from([Some(name("jobs")), Some(name("callbacks"))]));
}

#[tokio::test]
async fn large_topics_go_in_pieces() {
    let Some(server) = Postgres::start() else { return };
    let clock = ManualClock::new();
    let store = PostgresStore::open(&server.url("shared"), PostgresConfig::default(), Some(clock.reader()))
        .await
        .unwrap();
    let topics = ["trimmed", "dropped", "old"].map(name);
    let (client, driver) = sql(&server).await;
    for topic in &topics {
        let keep_until = (topic.name() == "old").then(|| clock.now());
        let event = NewEvent { keep_until, ..note(topic.name(), "one".into()) };
        store.append(vec![event]).await.unwrap();
    }
    client
        .batch_execute(
            "SET search_path = shared;
             INSERT INTO event SELECT topic_id, n, position + n, appended_at, 0, body
                 FROM event, generate_series(2, 25000) n;
             UPDATE topic SET last = 25000",
        )
        .await
        .unwrap();
    let start = StorePosition { epoch: store.epoch(), seq: 1 };
    store.trim(&topics[0], Offset(24_000)).await.unwrap();
    let info = &store.topics(&TopicPattern(topics[0].clone()), None, 10).await.unwrap()[0];
    assert_eq!((info.first, info.last), (Offset(24_000), Offset(25_000)));
    assert_eq!(store.drop_topics(vec![topics[1].clone(), name("none")]).await.unwrap(), 1);
    clock.advance(Duration::from_secs(1));
    let mut sweeps = 0;
    while store.sweep(100).await.unwrap() > 0 {
        sweeps += 1;
    }
    assert!(sweeps > 1, "{sweeps}");
    let left = store.topics(&TopicPattern(name(">")), None, 10).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(store.read_many(&[TopicPattern(name(">"))], start, 10).await.unwrap().gap);
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_one_new_epoch_however_many_notice() {
    let Some(server) = Postgres::start() else { return };
    let stores = [open(&server).await, open(&server).await];
    let (client, driver) = sql(&server).await;
    let epoch: i64 = client.query_one("SELECT epoch FROM shared.meta", &[]).await.unwrap().get(0);
    let mut told = Vec::new();
    for (lost, known) in [(true, epoch), (true, epoch), (false, epoch)] {
        let sql = "SELECT shared.tw_hello($1, $2)";
        client.batch_execute("SET search_path = shared").await.unwrap();
        told.push(client.query_one(sql, &[&lost, &known]).await.unwrap().get::<_, i64>(0));
    }
    assert!(told[0] > epoch && told.iter().all(|one| *one == told[0]), "{told:?} after {epoch}");
    drop(stores);
    driver.abort();
}

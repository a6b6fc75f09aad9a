//! What becomes of operations and hints when the way to a Redis server fails, and not the server.

use crate::redis::{Admin, LEASE, PATIENCE, ack, claim, event, message, open, queue};
use crate::wire::{Answer, Wire};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use turnwise_core::{
    Kind, Name, NewEvent, NewMessage, Offset, Outcome, QueueName, QueueStore, StoreError, TopicFilter,
    TopicName, TopicStore,
};
use turnwise_store::redis::{RedisConfig, RedisStore};
use turnwise_testkit::ManualClock;
use turnwise_testkit::servers::redis;

async fn over(wire: &Wire, config: RedisConfig) -> Arc<RedisStore> {
    RedisStore::open(&wire.url(), config, None).await.unwrap()
}

fn named(name: &str) -> QueueName {
    Name::new("acme", Kind::Turns, name).unwrap()
}

fn topic(name: &str) -> TopicName {
    Name::new("acme", Kind::Reply, name).unwrap()
}

/// Lets one node store into a queue of its own until another one hears of it.
async fn heard(one: &RedisStore, hints: &mut BoxStream<'static, QueueName>, name: &str) {
    let hearing = async {
        loop {
            let new = NewMessage { dedup: None, queue: named(name), ..message(0, 0) };
            one.enqueue(vec![new]).await.unwrap();
            let next = async { while hints.next().await != Some(named(name)) {} };
            if tokio::time::timeout(Duration::from_millis(100), next).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("a hint comes");
}

#[tokio::test]
async fn a_connection_for_hints_that_is_dead_without_a_word_is_made_again() {
    let Some(server) = redis::start() else { return };
    let (one, wire) = (open(&server).await, Wire::to(server.port()).await);
    let config = RedisConfig { silence_max: Duration::from_millis(300), ..RedisConfig::default() };
    let other = over(&wire, config).await;
    let mut hints = other.wakeups();
    heard(&one, &mut hints, "before").await;
    wire.silence_hints();
    heard(&one, &mut hints, "after").await;
}

#[tokio::test]
async fn who_waits_is_woken_though_the_answer_of_what_wakes_him_is_lost() {
    let Some(server) = redis::start() else { return };
    let (one, wire) = (open(&server).await, Wire::to(server.port()).await);
    let store = over(&wire, RedisConfig::default()).await;
    let mut hints = store.wakeups();
    // Hints come by now, and what a new connection for them brings has come.
    heard(&one, &mut hints, "before").await;
    while hints.next().now_or_never().is_some() {}
    wire.rule("lost answer", Answer::Cut);
    let new = NewMessage { payload: "lost answer".into(), queue: named("lost"), ..message(0, 0) };
    let error = store.enqueue(vec![new]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    assert_eq!(store.depth(&named("lost")).await.unwrap().enqueued, 1, "it was stored");
    let woken = async { while hints.next().await != Some(named("lost")) {} };
    tokio::time::timeout(PATIENCE, woken).await.expect("who waits for it is told");
}

#[tokio::test]
async fn what_was_surely_not_sent_is_unavailable_and_not_unknown() {
    let Some(server) = redis::start() else { return };
    let wire = Wire::to(server.port()).await;
    let config = RedisConfig { call_timeout: Duration::from_secs(1), ..RedisConfig::default() };
    let store = over(&wire, config).await;
    store.enqueue(vec![message(0, 0)]).await.unwrap();
    wire.go_deaf();
    // At most one for each connection that is not known to have ended; afterwards there is nothing to send on.
    let mut answers = Vec::new();
    for n in 1..10 {
        answers.push(store.enqueue(vec![message(0, n)]).await.unwrap_err());
        if answers.iter().filter(|error| matches!(error, StoreError::Unavailable(_))).count() == 3 {
            return;
        }
    }
    panic!("nothing was sent, and yet: {answers:?}");
}

/// Runs an operation of two steps, whose second one the server refuses before it did anything.
async fn interrupted<T: Send + 'static>(
    server: &turnwise_testkit::servers::Server,
    wire: &Wire,
    words: &str,
    operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> StoreError {
    let (here, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    wire.rule(words, Answer::Held(Arc::clone(&here), Arc::clone(&go_on)));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(operation);
    tokio::time::timeout(PATIENCE, here.acquire()).await.expect("the first step is done").unwrap().forget();
    let mut admin = Admin::connect(server).await;
    assert_eq!(admin.ask("CONFIG SET min-replicas-to-write 1").await, ["+OK"]);
    go_on.add_permits(1_000);
    let told = tokio::time::timeout(PATIENCE, tasks.join_next()).await.expect("it ends");
    assert_eq!(admin.ask("CONFIG SET min-replicas-to-write 0").await, ["+OK"]);
    told.unwrap().unwrap().err().expect("the second step is refused")
}

#[tokio::test]
async fn a_part_that_was_done_is_not_said_to_be_nothing() {
    let Some(server) = redis::start() else { return };
    let (wire, clock) = (Wire::to(server.port()).await, ManualClock::default());
    let config = RedisConfig { call_timeout: PATIENCE, ..RedisConfig::default() };
    let store = RedisStore::open(&wire.url(), config, Some(clock.reader())).await.unwrap();
    // Dead letters for two steps.
    store.enqueue((0..300).map(|key| message(key, 0)).collect()).await.unwrap();
    let mut dead = Vec::new();
    for delivery in store.claim(claim(300)).await.unwrap() {
        let mut settlement = ack(&delivery);
        settlement[0].outcome = Outcome::Dead { reason: "a test".into() };
        store.settle(settlement).await.unwrap();
        dead.push(delivery.receipt.id);
    }
    let (words, its) = (format!("{:016}", dead[0].seq()), Arc::clone(&store));
    let redriven = async move { its.redrive(&queue(), dead).await };
    let error = interrupted(&server, &wire, &words, redriven).await;
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    assert_eq!(store.depth(&queue()).await.unwrap().dead, 50, "a part was redriven");
    // Topics for two steps.
    let names: Vec<TopicName> = (0..300).map(|n| topic(&format!("many-{n}"))).collect();
    let events = names.iter().map(|name| NewEvent { topic: name.clone(), ..event("x") });
    store.append(events.collect()).await.unwrap();
    let its = Arc::clone(&store);
    let dropped = async move { its.drop_topics(names).await };
    let error = interrupted(&server, &wire, "many-0", dropped).await;
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    // Chunks of one topic for two steps: neighbours of different topics are a chunk each.
    let mixed = |n: usize| NewEvent { topic: topic(["long", "other"][n % 2]), ..event("x") };
    for _ in 0..3 {
        store.append((0..1_000).map(mixed).collect()).await.unwrap();
    }
    let its = Arc::clone(&store);
    let trimmed = async move { its.trim(&topic("long"), Offset(1_501)).await };
    let error = interrupted(&server, &wire, "long", trimmed).await;
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn what_any_node_saw_given_out_before_a_loss_is_not_given_out_again() {
    let Some(server) = redis::start() else { return };
    let (slow, fast) = (ManualClock::default(), ManualClock::default());
    // Tokens follow the clock: the one node hands out far higher ones than the other ever sees.
    fast.advance(LEASE * 60);
    let wire = Wire::to(server.port()).await;
    let opened = async |url: &str, clock: &ManualClock| {
        RedisStore::open(url, RedisConfig::default(), Some(clock.reader())).await.unwrap()
    };
    let (one, other) = (opened(&redis::url(&server), &slow).await, opened(&wire.url(), &fast).await);
    other.enqueue(vec![message(0, 0)]).await.unwrap();
    let held = other.claim(claim(1)).await.unwrap().remove(0);
    wire.go_deaf();
    crate::redis::turn_back(&server, None);
    // The node that saw less answers the loss, then the other one meets what it answered.
    for store in [&one, &other] {
        let met = async { while store.depth(&queue()).await.is_err() {} };
        tokio::time::timeout(PATIENCE, met).await.expect("the store goes on");
        wire.hear_again();
    }
    one.enqueue(vec![message(0, 0)]).await.unwrap();
    let next = one.claim(claim(1)).await.unwrap().remove(0);
    assert!(next.receipt.token > held.receipt.token, "Q4 through the loss");
    assert!(next.receipt.id.seq() > held.receipt.id.seq());
}

#[tokio::test]
async fn after_a_gap_in_the_hints_every_queue_and_every_reader_is_woken() {
    const QUEUES: usize = 1_200;
    let Some(server) = redis::start() else { return };
    let (one, other) = (open(&server).await, open(&server).await);
    let mut hints = other.wakeups();
    let mut reader = other.watch(TopicFilter::One(topic("read")));
    heard(&one, &mut hints, "before").await;
    let mut admin = Admin::connect(&server).await;
    // What is stored meanwhile is not hinted at.
    let names: Vec<QueueName> = (0..QUEUES).map(|n| named(&format!("q{n}"))).collect();
    let all: Vec<NewMessage> =
        names.iter().map(|name| NewMessage { queue: name.clone(), dedup: None, ..message(0, 0) }).collect();
    for some in all.chunks(1_000) {
        one.enqueue(some.to_vec()).await.unwrap();
    }
    // What came by hints has come when this has.
    heard(&one, &mut hints, "after").await;
    while hints.next().now_or_never().is_some() {}
    let mut missing: std::collections::HashSet<QueueName> = names.into_iter().collect();
    let mut is_reader_woken = false;
    let woken = async {
        while !missing.is_empty() || !is_reader_woken {
            admin.ask("CLIENT KILL TYPE pubsub").await;
            let next = async {
                loop {
                    tokio::select! {
                        name = hints.next() => { missing.remove(&name.unwrap()); }
                        _ = reader.next() => is_reader_woken = true,
                    }
                }
            };
            let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(500), next).await;
        }
    };
    tokio::time::timeout(PATIENCE, woken).await.expect("everybody is woken");
}

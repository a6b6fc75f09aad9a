//! What several nodes on one Redis server see of each other, and of a server that loses what it acknowledged.

use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turnwise_core::{
    Claim, Dedup, Delivery, Enqueued, Kind, Name, NewEvent, NewMessage, OrderingKey, Outcome, Position,
    QueueName, QueueStore, Read, ReadFrom, Settled, Settlement, Stage, Store, StoreError, TopicStore,
};
use turnwise_store::embedded::Durability;
use turnwise_store::redis::{RedisConfig, RedisStore};
use turnwise_testkit::servers::{Server, redis};

pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// Longest wait for something that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Conversations, and messages of each, in the histories.
const KEYS: usize = 12;
const EACH: usize = 25;

pub(crate) fn queue() -> QueueName {
    Name::new("acme", Kind::Turns, "jobs").unwrap()
}

pub(crate) fn message(key: usize, n: usize) -> NewMessage {
    let dedup = Dedup { key: format!("{key}-{n}").into(), window: LEASE, content_hash: [0; 16] };
    NewMessage {
        key: Some(OrderingKey(format!("k{key}").into())),
        dedup: Some(dedup),
        ..NewMessage::new(queue(), format!("{key} {n}"))
    }
}

pub(crate) fn event(text: &str) -> NewEvent {
    let topic = Name::new("acme", Kind::Reply, "t").unwrap();
    NewEvent { topic, event_type: "e".into(), data: text.to_owned().into(), dedup: None, keep_until: None }
}

pub(crate) fn claim(limit: u32) -> Claim {
    Claim { queue: queue(), limit, lease: LEASE, durable: true }
}

pub(crate) fn ack(delivery: &Delivery) -> Vec<Settlement> {
    vec![Settlement { receipt: delivery.receipt.clone(), outcome: Outcome::Ack, effects: Vec::new() }]
}

pub(crate) async fn open(server: &Server) -> Arc<RedisStore> {
    RedisStore::open(&redis::url(server), RedisConfig::default(), None).await.unwrap()
}

async fn append(store: &RedisStore, text: &str) -> Position {
    store.append(vec![event(text)]).await.unwrap().remove(0).unwrap()
}

/// What was handed out, in order, and what is out now.
#[derive(Default)]
struct Ledger {
    out: HashSet<usize>,
    tokens: HashMap<usize, u64>,
    started: HashMap<usize, Vec<usize>>,
    acked: usize,
}

impl Ledger {
    fn key(delivery: &Delivery) -> (usize, usize) {
        let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
        let (key, n) = text.split_once(' ').unwrap();
        (key.parse().unwrap(), n.parse().unwrap())
    }

    fn started(&mut self, delivery: &Delivery) {
        let (key, n) = Ledger::key(delivery);
        assert!(self.out.insert(key), "key {key} has two live leases");
        let token = delivery.receipt.token.0;
        assert!(token > self.tokens.insert(key, token).unwrap_or(0), "a token of key {key} went back");
        let started = self.started.entry(key).or_default();
        if started.last() != Some(&n) {
            started.push(n);
        }
    }

    fn ended(&mut self, delivery: &Delivery) {
        self.out.remove(&Ledger::key(delivery).0);
    }

    fn is_in_order(&self) {
        for (key, started) in &self.started {
            assert_eq!(*started, (0..EACH).collect::<Vec<_>>(), "the order of key {key}");
        }
        assert_eq!((self.started.len(), self.acked), (KEYS, KEYS * EACH));
    }
}

/// Stores every message of some keys, one after another, again until it is known to be there.
async fn produce(store: Arc<RedisStore>, keys: Vec<usize>) {
    for n in 0..EACH {
        for key in &keys {
            produce_one(&store, *key, n).await;
        }
    }
}

/// Works until everything is acknowledged; gives one in seven back first.
async fn work(store: Arc<RedisStore>, ledger: Arc<Mutex<Ledger>>) {
    let mut wakeups = store.wakeups();
    let mut turn = 0;
    while ledger.lock().unwrap().acked < KEYS * EACH {
        let Ok(deliveries) = store.claim(claim(3)).await else { continue };
        if deliveries.is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(20), wakeups.next()).await;
        }
        for delivery in deliveries {
            ledger.lock().unwrap().started(&delivery);
            turn += 1;
            let mut settlement = ack(&delivery);
            let gives_back = turn % 7 == 0;
            if gives_back {
                settlement[0].outcome = Outcome::Release;
            }
            // Noted before the step that lets somebody else have the key.
            ledger.lock().unwrap().ended(&delivery);
            let settled = store.settle(settlement).await.unwrap().remove(0).unwrap();
            assert_eq!(settled, Settled::Done);
            if !gives_back {
                ledger.lock().unwrap().acked += 1;
            }
        }
    }
}

#[tokio::test]
async fn two_stores_on_one_server_act_as_one() {
    let Some(server) = redis::start() else { return };
    let stores = [open(&server).await, open(&server).await];
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for (at, store) in stores.iter().enumerate() {
        tasks.spawn(produce(Arc::clone(store), (0..KEYS).filter(|key| key % 2 == at).collect()));
        for _ in 0..3 {
            tasks.spawn(work(Arc::clone(store), Arc::clone(&ledger)));
        }
    }
    tokio::time::timeout(PATIENCE, tasks.join_all()).await.expect("everything ends");
    ledger.lock().unwrap().is_in_order();
    let depth = stores[0].depth(&queue()).await.unwrap();
    assert_eq!((depth.enqueued, depth.acked, depth.ready), (300, 300, 0));
}

#[tokio::test]
async fn what_one_node_stores_wakes_the_other() {
    let Some(server) = redis::start() else { return };
    let (one, other) = (open(&server).await, open(&server).await);
    let (mut queues, mut topics) =
        (other.wakeups(), other.watch(turnwise_core::TopicFilter::One(event("").topic)));
    // A hint that comes before the other listens is lost, as hints may be: so again until it comes.
    let told = async {
        for n in 0.. {
            one.enqueue(vec![message(0, n)]).await.unwrap();
            append(&one, "x").await;
            let both = async { (queues.next().await, topics.next().await) };
            if let Ok(both) = tokio::time::timeout(Duration::from_millis(200), both).await {
                return both;
            }
        }
        unreachable!()
    };
    let (queue_told, topic_told) = tokio::time::timeout(PATIENCE, told).await.expect("a hint comes");
    assert_eq!((queue_told, topic_told), (Some(queue()), Some(event("").topic)));
}

#[tokio::test]
async fn a_server_that_keeps_too_little_is_refused_unless_that_is_accepted() {
    let Some(server) = redis::start_with(&["--appendfsync", "everysec", "--requirepass", "hunter2"]) else {
        return;
    };
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let error = RedisStore::open(&url, RedisConfig::default(), None).await.err().unwrap();
    assert!(error.to_string().contains("appendfsync everysec"), "{error}");
    let relaxed = RedisConfig { durability: Durability::Relaxed, ..RedisConfig::default() };
    let store = RedisStore::open(&url, relaxed.clone(), None).await.unwrap();
    assert!(!store.found().is_durable());
    store.enqueue(vec![message(0, 0)]).await.unwrap();
    for wrong in [redis::url(&server), url.replace("hunter2", "hunter3")] {
        let error = RedisStore::open(&wrong, relaxed.clone(), None).await.err().unwrap();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("password") && !error.to_string().contains("hunter"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_room_says_so_and_goes_on_with_room() {
    let Some(server) = redis::start() else { return };
    let store = open(&server).await;
    store.enqueue(vec![message(0, 0)]).await.unwrap();
    let mut admin = Admin::connect(&server).await;
    admin.ask("CONFIG SET maxmemory 1").await;
    for batch in [vec![message(0, 1)], Vec::new()] {
        let error = store.enqueue(batch).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(what) if what.contains("maxmemory")), "{error}");
    }
    admin.ask("CONFIG SET maxmemory 0").await;
    store.enqueue(Vec::new()).await.unwrap();
    assert_eq!(store.depth(&queue()).await.unwrap().enqueued, 1, "what was refused was not stored");
}

/// A connection for what an administrator does.
pub(crate) struct Admin(tokio::io::BufReader<tokio::net::TcpStream>);

impl Admin {
    pub(crate) async fn connect(server: &Server) -> Admin {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        Admin(tokio::io::BufReader::new(stream))
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut self.0, &mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    /// One command; its answer, or the lines of a list.
    pub(crate) async fn ask(&mut self, command: &str) -> Vec<String> {
        tokio::io::AsyncWriteExt::write_all(&mut self.0, format!("{command}\r\n").as_bytes()).await.unwrap();
        let first = self.line().await;
        let Some(count) = first.strip_prefix('*') else { return vec![first] };
        let mut lines = Vec::new();
        for _ in 0..count.parse().unwrap() {
            self.line().await;
            lines.push(self.line().await);
        }
        lines
    }
}

#[tokio::test]
async fn nothing_is_left_of_what_is_over() {
    let Some(server) = redis::start() else { return };
    let store = open(&server).await;
    let before = keys(&server).await;
    for n in 0..3 {
        let mut new = message(n, 0);
        new.dedup.as_mut().unwrap().window = Duration::from_millis(1);
        new.expires_at = Some(turnwise_core::Timestamp(i64::MAX));
        store.enqueue(vec![new]).await.unwrap();
    }
    for delivery in store.claim(claim(3)).await.unwrap() {
        store.settle(ack(&delivery)).await.unwrap();
    }
    append(&store, "x").await;
    let topic = event("").topic;
    assert!(store.advance(&topic, "me", None, append(&store, "y").await).await.unwrap());
    assert_eq!(store.drop_topics(vec![topic]).await.unwrap(), 1);
    while store.sweep(100).await.unwrap() > 0 {}
    let left: Vec<String> = keys(&server).await.into_iter().filter(|key| !before.contains(key)).collect();
    // One number for each queue that ever was, and one for each organisation that dropped a topic.
    assert_eq!(left, ["{tw:turnwise}:counts", "{tw:turnwise}:dropped"]);
}

async fn keys(server: &Server) -> Vec<String> {
    let mut keys = Admin::connect(server).await.ask("KEYS *").await;
    keys.sort();
    keys
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Puts the files of another time in the place of the server's.
pub(crate) fn turn_back(server: &Server, files: Option<&std::path::Path>) {
    server.kill();
    let data = server.folder().join("appendonlydir");
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        match files {
            // In place, so that the server still owns them.
            Some(files) => {
                let bytes = std::fs::read(files.join(entry.file_name())).unwrap();
                std::fs::write(entry.path(), bytes).unwrap();
            }
            None => std::fs::remove_file(entry.path()).unwrap(),
        }
    }
    server.restart();
}

/// The store as it is after the server came back.
async fn read_after(store: &RedisStore, position: Position) -> Read {
    let reading = async {
        loop {
            if let Ok(read) = store.read(&event("").topic, ReadFrom::After(position), 10).await {
                return read;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the store goes on")
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_noticed_by_every_node() {
    let Some(server) = redis::start() else { return };
    let (one, other) = (open(&server).await, open(&server).await);
    let position = append(&one, "lost").await;
    one.enqueue(vec![message(0, 0)]).await.unwrap();
    let held = one.claim(claim(1)).await.unwrap().remove(0);
    turn_back(&server, None);
    for store in [&one, &other] {
        let Read::Gap { resume } = read_after(store, position).await else { panic!("no gap") };
        assert!(resume.epoch > position.epoch);
        assert_eq!(store.epoch(), resume.epoch);
        assert_eq!(store.losses(), 1);
    }
    assert_eq!(one.settle(ack(&held)).await.unwrap(), [Ok(Settled::LeaseLost)]);
    other.enqueue(vec![message(0, 0)]).await.unwrap();
    let next = other.claim(claim(1)).await.unwrap().remove(0);
    assert!(next.receipt.token > held.receipt.token, "Q4 through the loss");
    assert_ne!(next.receipt.id, held.receipt.id);
}

#[tokio::test]
async fn a_server_that_lost_its_last_writes_is_noticed_though_others_went_on() {
    let Some(server) = redis::start() else { return };
    let one = open(&server).await;
    let kept = append(&one, "kept").await;
    let past = tempfile::tempdir().unwrap();
    copy_folder(&server.folder().join("appendonlydir"), past.path());
    let lost = append(&one, "lost").await;
    turn_back(&server, Some(past.path()));
    // A node that saw nothing of what was lost writes more than that before the first one may have looked.
    let other = open(&server).await;
    for n in 0..5 {
        while other.enqueue(vec![message(0, n)]).await.is_err() {}
    }
    let Read::Gap { resume } = read_after(&one, lost).await else { panic!("no gap") };
    assert!(resume.epoch > lost.epoch);
    let Read::Events { events, .. } = one.read(&event("").topic, ReadFrom::After(resume), 10).await.unwrap()
    else {
        panic!("a gap again")
    };
    assert_eq!(events.len(), 1, "what was kept is there");
    assert!(matches!(read_after(&other, kept).await, Read::Gap { .. }), "every reader is told");
}

#[tokio::test]
async fn a_server_that_is_away_is_told_from_one_that_may_have_stored() {
    let Some(server) = redis::start() else { return };
    let config = RedisConfig { call_timeout: Duration::from_millis(500), ..RedisConfig::default() };
    let url = redis::url(&server);
    // On a busy machine even this may take longer than that.
    let opening = async {
        loop {
            match RedisStore::open(&url, config.clone(), None).await {
                Ok(store) if store.enqueue(vec![message(0, 0)]).await.is_ok() => return store,
                Ok(_) | Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let store = tokio::time::timeout(PATIENCE, opening).await.expect("it is opened");
    server.kill();
    // At most one answer for each connection is uncertain: those that were not known to be broken.
    let mut answers = Vec::new();
    for n in 1..8 {
        answers.push(store.enqueue(vec![message(0, n)]).await.unwrap_err());
    }
    assert!(matches!(answers.last(), Some(StoreError::Unavailable(_))), "{answers:?}");
    assert!(matches!(store.depth(&queue()).await, Err(StoreError::Unavailable(_))));
    server.restart();
    let depth = async { while store.depth(&queue()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, depth).await.expect("it goes on by itself");
    assert_eq!(store.depth(&queue()).await.unwrap().enqueued, 1);
    assert_eq!(store.losses(), 0);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_while_the_server_is_killed_again_and_again() {
    let Some(server) = redis::start() else { return };
    let store = open(&server).await;
    let stored = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for key in 0..KEYS {
        let (store, stored) = (Arc::clone(&store), Arc::clone(&stored));
        tasks.spawn(async move {
            for n in 0..EACH {
                produce_one(&store, key, n).await;
                stored.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
    }
    for part in 1..=5 {
        while stored.load(std::sync::atomic::Ordering::SeqCst) < part * KEYS * EACH / 6 {
            tokio::task::yield_now().await;
        }
        server.restart();
    }
    tokio::time::timeout(PATIENCE, tasks.join_all()).await.expect("everything is stored");
    let ready = store.list(&queue(), Stage::Ready, None, 1_000).await.unwrap();
    let mut order: HashMap<OrderingKey, Vec<usize>> = HashMap::new();
    for info in ready {
        let text = String::from_utf8(info.payload.to_vec()).unwrap();
        order.entry(info.key.unwrap()).or_default().push(text.split_once(' ').unwrap().1.parse().unwrap());
    }
    assert_eq!(order.len(), KEYS);
    for (key, order) in order {
        assert_eq!(order, (0..EACH).collect::<Vec<_>>(), "{key:?}");
    }
}

async fn produce_one(store: &RedisStore, key: usize, n: usize) {
    while !matches!(
        store.enqueue(vec![message(key, n)]).await.as_deref(),
        Ok([Ok(Enqueued::New { .. } | Enqueued::Duplicate(_))])
    ) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_replica_a_lonely_primary_and_several_hosts_store_nothing_and_say_why() {
    let Some(server) = redis::start() else { return };
    let store = open(&server).await;
    let mut admin = Admin::connect(&server).await;
    let cases = [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "replica"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "replicas"),
    ];
    for (n, (begin, end, word)) in cases.into_iter().enumerate() {
        admin.ask(begin).await;
        let error = store.enqueue(vec![message(0, n)]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(what) if what.contains(word)), "{error}");
        admin.ask(end).await;
        assert_eq!(store.depth(&queue()).await.unwrap().enqueued, n as u64);
        store.enqueue(vec![message(0, n)]).await.unwrap();
    }
    let url = format!("{},127.0.0.1:{}", redis::url(&server), server.port());
    let error = RedisStore::open(&url, RedisConfig::default(), None).await.err().unwrap();
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test]
async fn what_a_server_evicted_holds_up_nobody_else() {
    let Some(server) = redis::start() else { return };
    let clock = turnwise_testkit::ManualClock::default();
    let config = RedisConfig::default();
    let store = RedisStore::open(&redis::url(&server), config, Some(clock.reader())).await.unwrap();
    let due = clock.now().after(LEASE);
    let later = NewMessage { deliver_at: Some(due), ..message(0, 0) };
    let mut first = store.enqueue(vec![later, message(1, 0), message(2, 0)]).await.unwrap();
    let evicted: Vec<_> = first.drain(..2).map(|answer| answer.unwrap()).collect();
    let mut admin = Admin::connect(&server).await;
    for answer in evicted {
        let Enqueued::New { id, .. } = answer else { panic!("{answer:?}") };
        admin.ask(&format!("HDEL {{tw:turnwise}}:messages {:016}", id.seq())).await;
    }
    clock.advance(LEASE);
    // Its key has something due that is not there any more.
    store.enqueue(vec![message(0, 1)]).await.unwrap();
    let claimed = store.claim(claim(10)).await.unwrap();
    let keys: HashSet<usize> = claimed.iter().map(|delivery| Ledger::key(delivery).0).collect();
    assert_eq!(keys, HashSet::from([0, 2]));
}

#[tokio::test]
async fn a_great_many_due_messages_of_one_key_take_their_places_in_steps() {
    let Some(server) = redis::start() else { return };
    let clock = turnwise_testkit::ManualClock::default();
    let config = RedisConfig { call_timeout: PATIENCE, ..RedisConfig::default() };
    let store = RedisStore::open(&redis::url(&server), config, Some(clock.reader())).await.unwrap();
    let due = clock.now().after(LEASE);
    let later = |n| NewMessage { deliver_at: Some(due), dedup: None, ..message(0, n) };
    // More than the time that passed and then one enqueue line up.
    for _ in 0..12 {
        store.enqueue((0..1_000).map(later).collect()).await.unwrap();
    }
    clock.advance(LEASE);
    let refused = store.enqueue(vec![message(0, 12_000)]).await.unwrap().remove(0).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    let stored = store.enqueue(vec![message(0, 12_000)]).await.unwrap().remove(0).unwrap();
    assert!(matches!(stored, Enqueued::New { position: 12_001, .. }), "{stored:?}");
}

#[tokio::test]
async fn an_encrypted_server_is_used_only_if_its_certificate_is_the_right_one() {
    let Some(server) = redis::start_encrypted() else { return };
    let url = redis::encrypted_url(&server).replace("localhost", "me:hunter2@localhost");
    let error = RedisStore::open(&url, RedisConfig::default(), None).await.err().unwrap();
    assert!(error.to_string().contains("refuses user or password"), "TLS itself went well: {error}");
    let url = redis::encrypted_url(&server);
    let store = RedisStore::open(&url, RedisConfig::default(), None).await.unwrap();
    store.enqueue(vec![message(0, 0)]).await.unwrap();
    assert_eq!(store.claim(claim(1)).await.unwrap().len(), 1);
    let folder = tempfile::tempdir().unwrap();
    let (other, empty) = (folder.path().join("other.pem"), folder.path().join("empty.pem"));
    std::fs::write(&other, redis::certificate("localhost").0).unwrap();
    std::fs::write(&empty, "").unwrap();
    let (bare, _) = url.split_once('?').unwrap();
    let trusting = |file: &std::path::Path| format!("{bare}?sslrootcert={}", file.display());
    let plain_port = redis::start().unwrap();
    let secret = |url: String| url.replace("rediss://", "rediss://me:hunter2@");
    for (url, says) in [
        (secret(trusting(&other)), "certificate is not trusted"),
        (secret(bare.to_owned()), "certificate is not trusted"),
        (secret(url.replace("localhost", "127.0.0.1")), "certificate is for another name"),
        (secret(redis::url(&plain_port).replace("redis:", "rediss:")), "does it speak TLS"),
        (secret(trusting(&empty)), "certificates of sslrootcert cannot be read"),
        (secret(trusting(&folder.path().join("missing.pem"))), "certificates of sslrootcert cannot be read"),
        (secret(bare.replace("rediss:", "redis:")).replace("redis://", "redis://me:hunter2@"), "Redis"),
    ] {
        // A server without TLS waits for the end of what it takes for a command.
        let config = RedisConfig { call_timeout: Duration::from_secs(4), ..RedisConfig::default() };
        let error = RedisStore::open(&url, config, None).await.err().unwrap();
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// A server whose settings are read anew at each start.
fn changing(settings: &Arc<Mutex<Vec<String>>>) -> Option<Server> {
    let settings = Arc::clone(settings);
    redis::start_asking(move || settings.lock().unwrap().clone())
}

fn set(settings: &Mutex<Vec<String>>, words: &[&str]) {
    *settings.lock().unwrap() = words.iter().map(|word| (*word).to_owned()).collect();
}

#[tokio::test]
async fn a_server_that_comes_back_with_other_settings_is_looked_at_again() {
    let settings = Arc::new(Mutex::new(Vec::new()));
    let Some(server) = changing(&settings) else { return };
    let relaxed = RedisConfig { durability: Durability::Relaxed, ..RedisConfig::default() };
    let loose = turnwise_store::open::connect(&redis::url(&server), relaxed).await.unwrap();
    let strict = open(&server).await;
    assert_eq!((loose.weakness(), strict.found().is_durable()), (None, true));
    strict.enqueue(vec![message(0, 0)]).await.unwrap();
    set(&settings, &["--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]);
    server.restart();
    let says = |what: &str| what.contains("appendfsync everysec") && what.contains("policy allkeys-lru");
    let met_again = async {
        loop {
            let refused = strict.enqueue(vec![message(1, 0)]).await;
            let _ = loose.store().enqueue(vec![message(2, 0)]).await;
            // Whoever was on the way when the server went does not know; after that it is refused, with the reason.
            let is_refused = matches!(&refused, Err(StoreError::Unavailable(what)) if says(what));
            if is_refused && loose.weakness().is_some_and(|what| says(&what)) {
                return;
            }
            assert!(refused.is_err(), "it is used though it keeps less: {refused:?}");
        }
    };
    tokio::time::timeout(PATIENCE, met_again).await.expect("both say what it is now");
    assert!(!strict.found().is_durable());
    assert_eq!(
        loose.store().depth(&queue()).await.unwrap().enqueued,
        2,
        "relaxed goes on, refused stores nothing"
    );
    set(&settings, &[]);
    server.restart();
    let mended = async {
        while strict.enqueue(vec![message(1, 0)]).await.is_err() || loose.weakness().is_some() {
            let _ = loose.store().depth(&queue()).await;
        }
    };
    tokio::time::timeout(PATIENCE, mended).await.expect("it is used again as it should be");
    assert_eq!(strict.losses(), 0);
}

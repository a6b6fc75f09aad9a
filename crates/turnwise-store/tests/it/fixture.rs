//! A store that an earlier release wrote is opened with all that is in it.
//! See `tests/fixtures/README.md`.

use crate::{ack, claim, enqueue, event, message, queue, run, settle, ticking, topic};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use turnwise_core::{
    Dedup, Effect, Enqueued, NewEvent, NewMessage, OrderingKey, Outcome, Priority, QueueStore, Read,
    ReadFrom, Settlement, Stage, StoreError, Timestamp, TopicStore,
};
use turnwise_store::Clock;
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

/// Versions of the format that this release reads.
const VERSIONS: [&str; 1] = ["v1"];
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

fn open(folder: &Path, clock: Clock) -> std::sync::Arc<EmbeddedStore> {
    EmbeddedStore::open(folder, EmbeddedConfig::default(), clock).unwrap()
}

fn keyed(key: &str, n: u8) -> NewMessage {
    NewMessage {
        key: Some(OrderingKey(key.as_bytes().to_vec().into())),
        headers: vec![("user".to_owned(), format!("ann-{n}"))],
        priority: Priority(n % 10),
        dedup: Some(Dedup { key: vec![n, 1].into(), window: WINDOW, content_hash: [n; 16] }),
        at_end: vec![
            Effect::Publish(NewEvent { data: b"over".to_vec().into(), ..event(b"") }),
            Effect::Enqueue(message(b"follows")),
        ],
        nonce: u64::from(n) << 40 | 7,
        ..message(format!("payload {n} {}", "é".repeat(usize::from(n))).as_bytes())
    }
}

/// One of everything a store can hold; answers the newest token.
async fn fill(store: &EmbeddedStore, now: Timestamp) -> u64 {
    for n in 0..12 {
        enqueue(store, keyed(["a", "b", "c"][usize::from(n % 3)], n)).await.unwrap();
    }
    let later = now.after(Duration::from_secs(50 * 365 * 24 * 3600));
    enqueue(store, NewMessage { deliver_at: Some(later), ..keyed("d", 12) }).await.unwrap();
    enqueue(store, NewMessage { expires_at: Some(later), ..keyed("e", 13) }).await.unwrap();
    for n in 0..5 {
        let dedup = Some(Dedup { key: vec![n].into(), window: WINDOW, content_hash: [n; 16] });
        let new = NewEvent { dedup, keep_until: Some(later), ..event(format!("event {n}").as_bytes()) };
        store.append(vec![new]).await.unwrap().pop().unwrap().unwrap();
    }
    store.trim(&topic(), turnwise_core::Offset(2)).await.unwrap();
    let Read::Events { next, .. } = store.read(&topic(), ReadFrom::Earliest, 2).await.unwrap() else {
        panic!("a gap from the start");
    };
    assert!(store.advance(&topic(), "reader", None, next).await.unwrap());
    let mut held = store.claim(claim(4, true)).await.unwrap().into_iter();
    settle(store, ack(held.next().unwrap().receipt)).await.unwrap();
    let outcome = Outcome::Dead { reason: "hopeless".to_owned() };
    let dead = Settlement { receipt: held.next().unwrap().receipt, outcome, effects: Vec::new() };
    settle(store, dead).await.unwrap();
    let outcome = Outcome::Retry { delay: Duration::from_secs(3600), reason: "busy".to_owned() };
    let effects = vec![Effect::Publish(event(b"an effect"))];
    settle(store, Settlement { receipt: held.next().unwrap().receipt, outcome, effects }).await.unwrap();
    held.next().unwrap().receipt.token.0
}

/// All that can be asked of it, in words.
async fn describe(store: &EmbeddedStore) -> String {
    let mut text = String::new();
    for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
        for info in store.list(&queue(), stage, None, 1_000).await.unwrap() {
            writeln!(text, "{info:?}").unwrap();
        }
    }
    writeln!(text, "{:?}", store.read(&topic(), ReadFrom::Earliest, 1_000).await.unwrap()).unwrap();
    writeln!(text, "{:?}", store.cursor(&topic(), "reader").await.unwrap()).unwrap();
    for n in 0..14 {
        let again = store.enqueue(vec![keyed("a", n)]).await.unwrap().pop().unwrap().unwrap();
        assert!(matches!(again, Enqueued::Duplicate(_)), "{again:?}");
        writeln!(text, "{again:?}").unwrap();
    }
    let dedup = Some(Dedup { key: vec![3].into(), window: WINDOW, content_hash: [3; 16] });
    let again = store.append(vec![NewEvent { dedup, ..event(b"event 3") }]).await.unwrap();
    writeln!(text, "{again:?}").unwrap();
    text
}

fn copied(version: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = "turnwise.redb";
    std::fs::copy(fixture(version).join(file), folder.path().join(file)).unwrap();
    folder
}

#[test]
fn a_store_of_every_earlier_version_is_read_in_full() {
    for version in VERSIONS {
        let folder = copied(version);
        let expected = std::fs::read_to_string(fixture(version).join("contents.txt")).unwrap();
        for opened in ["first", "second"] {
            let store = open(folder.path(), ticking());
            let found = run(describe(&store));
            assert_eq!(found, expected, "{version}, {opened} time");
        }
        run(async {
            let store = open(folder.path(), ticking());
            let held = store.list(&queue(), Stage::Leased, None, 10).await.unwrap();
            assert_eq!(held.len(), 1, "{version}: its lease is alive");
            let tokens = std::fs::read_to_string(fixture(version).join("token.txt")).unwrap();
            let newest: u64 = tokens.trim().parse().unwrap();
            let next = store.claim(claim(1, true)).await.unwrap().pop().unwrap();
            assert!(next.receipt.token.0 > newest, "{version}: tokens only rise");
            let id = enqueue(&*store, message(b"new")).await.unwrap();
            assert!(held.iter().all(|info| info.id.seq() < id.seq()), "{version}: places only rise");
        });
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_in_words() {
    let folder = copied("v1");
    let table = redb::TableDefinition::<u64, &[u8]>::new("records");
    let database = redb::Database::open(folder.path().join("turnwise.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(3, &[2_u8, 0, 0, 0, 0, 0, 0][..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), ticking());
    let Err(StoreError::Corrupt(why)) = refused else { panic!("opened") };
    assert!(why.contains("a newer release wrote it"), "{why}");
}

/// Also makes the fixture of the version this release writes: `TURNWISE_RENEW=1 cargo test -p turnwise-store --test it written`.
#[test]
fn what_is_written_now_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ticking();
    run(async {
        let store = open(folder.path(), clock.clone());
        let newest = fill(&store, clock()).await;
        let written = describe(&store).await;
        drop(store);
        let file = std::fs::read(folder.path().join("turnwise.redb")).unwrap();
        let store = open(folder.path(), clock.clone());
        assert_eq!(describe(&store).await, written);
        let to = fixture(VERSIONS[VERSIONS.len() - 1]);
        if std::env::var_os("TURNWISE_RENEW").is_some() && !to.exists() {
            std::fs::create_dir_all(&to).unwrap();
            std::fs::write(to.join("turnwise.redb"), file).unwrap();
            std::fs::write(to.join("contents.txt"), written).unwrap();
            std::fs::write(to.join("token.txt"), format!("{newest}\n")).unwrap();
        }
    });
}

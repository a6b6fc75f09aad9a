//! What is there after closing and opening again.

use crate::{ack, claim, enqueue, event, message, queue, run, settle, ticking, topic};
use futures_util::{FutureExt, StreamExt};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{
    Dedup, Depth, Effect, Enqueued, Offset, OrderingKey, Position, QueueStore, Read, ReadFrom, Settled,
    Settlement, Stage, Store, StoreError, TopicFilter, TopicStore,
};
use turnwise_store::embedded::{Durability, EmbeddedConfig, EmbeddedStore};
use turnwise_store::memory::MemoryStore;

fn open(folder: &std::path::Path, clock: &turnwise_store::Clock) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(folder, EmbeddedConfig::default(), Arc::clone(clock)).unwrap()
}

#[test]
fn everything_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, clock) = (folder.path().join("data/store"), ticking());
    run(async {
        let dedup = Dedup { key: "once".into(), window: Duration::from_secs(3600), content_hash: [7; 16] };
        let store = open(&path, &clock);
        let epoch = store.epoch();
        let mut first = message(b"first");
        first.key = Some(OrderingKey("lane".into()));
        first.headers = vec![("a".into(), "b".into())];
        first.dedup = Some(dedup);
        first.at_end = vec![Effect::Publish(event(b"over"))];
        let first_id = enqueue(&*store, first.clone()).await.unwrap();
        let second_id = enqueue(&*store, message(&vec![9; 100_000])).await.unwrap();
        let third_id = enqueue(&*store, message(b"third")).await.unwrap();
        store.append(vec![event(b"one"), event(b"")]).await.unwrap();
        let place = Position { epoch, offset: Offset(1) };
        assert!(store.advance(&topic(), "reader", None, place).await.unwrap());
        let held = store.claim(claim(3, true)).await.unwrap();
        assert_eq!(held.len(), 3);
        let done = settle(&*store, ack(held[2].receipt.clone())).await.unwrap();
        assert_eq!(done, Settled::Done);
        let infos = store.get(&queue(), vec![first_id, second_id, third_id]).await.unwrap();
        store.close();
        assert!(matches!(store.depth(&queue()).await, Err(StoreError::Unavailable(_))));

        let store = open(&path, &clock);
        assert_eq!(store.epoch(), epoch);
        assert_eq!(store.get(&queue(), vec![first_id, second_id, third_id]).await.unwrap(), infos);
        assert_eq!(infos[0].as_ref().unwrap().stage, Stage::Leased);
        assert_eq!(infos[2], None);
        let Read::Events { events, .. } = store.read(&topic(), ReadFrom::Earliest, 10).await.unwrap() else {
            panic!("a gap");
        };
        assert_eq!(events.iter().map(|event| &event.data[..]).collect::<Vec<_>>(), [&b"one"[..], b""]);
        assert_eq!(store.cursor(&topic(), "reader").await.unwrap(), Some(place));
        let again = store.enqueue(vec![first.clone()]).await.unwrap();
        assert_eq!(again, [Ok(Enqueued::Duplicate(first_id))]);
        let extended = store.extend(vec![held[0].receipt.clone()], Duration::from_secs(60)).await.unwrap();
        assert!(matches!(extended[0], Ok(turnwise_core::Extended::Until(_))), "{extended:?}");
        assert!(store.commit_p50().is_some());
    });
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("turnwise.redb")), 0o600);
}

#[test]
fn a_second_opener_is_refused_until_the_first_closes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ticking();
    let store = open(folder.path(), &clock);
    let second = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Arc::clone(&clock));
    let Err(StoreError::Unavailable(why)) = second else { panic!("opened twice") };
    assert!(why.contains("in use by another process"), "{why}");
    drop(store);
    open(folder.path(), &clock);
}

#[test]
fn a_copy_of_a_closed_folder_is_a_backup_with_its_seal_or_without() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), ticking());
    let store = open(folder.path(), &clock);
    let id = run(enqueue(&*store, message(b"kept"))).unwrap();
    drop(store);
    for files in [&["turnwise.redb", "turnwise.seal"][..], &["turnwise.redb"]] {
        let backup = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::copy(folder.path().join(file), backup.path().join(file)).unwrap();
        }
        // What happens to the original afterwards does not concern the copy.
        let original = open(folder.path(), &clock);
        run(enqueue(&*original, message(b"later"))).unwrap();
        drop(original);
        let restored = open(backup.path(), &clock);
        let found = run(restored.list(&queue(), turnwise_core::Stage::Ready, None, 10)).unwrap();
        assert_eq!(found.first().map(|info| info.id), Some(id), "{files:?}");
        assert!(found.len() <= 2, "{files:?}");
    }
}

#[test]
fn relaxed_durability_keeps_all_over_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ticking();
    let config = EmbeddedConfig { durability: Durability::Relaxed, ..EmbeddedConfig::default() };
    run(async {
        let store = EmbeddedStore::open(folder.path(), config.clone(), Arc::clone(&clock)).unwrap();
        for _ in 0..20 {
            enqueue(&*store, message(b"x")).await.unwrap();
        }
        store.close();
        let store = EmbeddedStore::open(folder.path(), config, Arc::clone(&clock)).unwrap();
        let depth = store.depth(&queue()).await.unwrap();
        let oldest_waiting = depth.oldest_waiting;
        assert!(oldest_waiting.is_some());
        assert_eq!(depth, Depth { enqueued: 20, ready: 20, oldest_waiting, ..Depth::default() });
    });
}

#[test]
fn bodies_are_read_from_disk_when_the_cache_is_too_small() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { body_cache_bytes: 1_000, ..EmbeddedConfig::default() };
    run(async {
        let store = EmbeddedStore::open(folder.path(), config, ticking()).unwrap();
        for n in 0..50_u8 {
            enqueue(&*store, message(&vec![n; 5_000])).await.unwrap();
        }
        let held = store.claim(claim(50, true)).await.unwrap();
        assert!(held.iter().zip(0..).all(|(held, n)| held.payload == vec![n; 5_000]));
        assert_eq!(held.len(), 50);
    });
}

#[test]
fn many_callers_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let store = open(folder.path(), &ticking());
        let waiting = (0..500).map(|_| enqueue(&*store, message(b"x")));
        let ids = futures_util::future::try_join_all(waiting).await.unwrap();
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 500);
        assert_eq!(store.depth(&queue()).await.unwrap().ready, 500);
    });
}

async fn hints_reach_watchers(store: &impl Store) {
    let (mut queues, mut topics) = (store.wakeups(), store.watch(TopicFilter::One(topic())));
    enqueue_any(store).await;
    let wait = Duration::from_secs(60);
    assert_eq!(tokio::time::timeout(wait, queues.next()).await.unwrap(), Some(queue()));
    store.append(vec![event(b"x")]).await.unwrap();
    assert_eq!(tokio::time::timeout(wait, topics.next()).await.unwrap(), Some(topic()));
    while queues.next().now_or_never().is_some() {}
    let held = store.claim(claim(1, false)).await.unwrap().pop().unwrap();
    let retry = turnwise_core::Outcome::Retry { delay: Duration::from_millis(50), reason: "busy".into() };
    store.settle(vec![Settlement { receipt: held.receipt, outcome: retry, effects: vec![] }]).await.unwrap();
    while queues.next().now_or_never().is_some() {}
    // Time alone makes it claimable again, and says so.
    assert_eq!(tokio::time::timeout(wait, queues.next()).await.unwrap(), Some(queue()));
}

async fn enqueue_any(store: &impl Store) {
    store.enqueue(vec![message(b"x")]).await.unwrap();
}

#[test]
fn embedded_hints_reach_watchers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &turnwise_store::system_clock());
    run(hints_reach_watchers(&*store));
}

#[test]
fn memory_hints_reach_watchers() {
    run(hints_reach_watchers(&*MemoryStore::new(turnwise_store::system_clock())));
}

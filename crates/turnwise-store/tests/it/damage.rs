//! A damaged file is refused when it is opened, or it does no harm.

use crate::{claim, enqueue, event, message, queue, run, ticking};
use std::sync::Arc;
use turnwise_core::{MessageInfo, QueueStore, Stage, StoreError, TopicStore};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

const FILE: &str = "turnwise.redb";

fn contents(folder: &std::path::Path) -> Result<Vec<MessageInfo>, StoreError> {
    let quiet = EmbeddedConfig { on_fatal: Arc::new(|_| {}), ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(folder, quiet, ticking())?;
    run(async {
        let mut all = Vec::new();
        for stage in [Stage::Ready, Stage::Leased] {
            all.extend(store.list(&queue(), stage, None, 1_000).await?);
        }
        Ok(all)
    })
}

fn filled() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), ticking()).unwrap();
    run(async {
        for n in 0..40_usize {
            enqueue(&*store, message(format!("needle {n} {}", "x".repeat(n * 20)).as_bytes())).await.unwrap();
        }
        store.append(vec![event(b"event")]).await.unwrap();
        store.claim(claim(5, true)).await.unwrap();
    });
    drop(store);
    let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    (folder, bytes)
}

#[test]
fn a_flipped_bit_in_a_record_is_refused_by_name() {
    let (folder, mut bytes) = filled();
    let at = bytes.windows(9).position(|window| window == b"needle 17").unwrap();
    bytes[at] ^= 1;
    std::fs::write(folder.path().join(FILE), &bytes).unwrap();
    let without_check = EmbeddedConfig { check_on_open: false, ..EmbeddedConfig::default() };
    let Err(StoreError::Corrupt(why)) = EmbeddedStore::open(folder.path(), without_check, ticking()) else {
        panic!("opened a damaged store");
    };
    assert!(why.contains("table Message") && why.contains("checksum"), "{why}");
    assert!(matches!(contents(folder.path()), Err(StoreError::Corrupt(_))));
}

#[test]
fn flipped_bits_anywhere_are_refused_or_harmless() {
    let (folder, bytes) = filled();
    let before = contents(folder.path()).unwrap();
    assert_eq!(before.len(), 40);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let (mut refused, mut harmless) = (0, 0);
    for n in 0..150 {
        let mut damaged = bytes.clone();
        let at = used[n * used.len() / 150];
        damaged[at] ^= 1 << (n % 8);
        std::fs::write(folder.path().join(FILE), &damaged).unwrap();
        match std::panic::catch_unwind(|| contents(folder.path())) {
            Ok(Ok(after)) => {
                assert_eq!(after, before, "byte {at} changed what is read");
                harmless += 1;
            }
            Ok(Err(StoreError::Corrupt(_) | StoreError::Unavailable(_) | StoreError::Invalid(_))) => {
                refused += 1
            }
            Ok(Err(error)) => panic!("byte {at}: {error}"),
            Err(_) => panic!("byte {at}: panicked"),
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 20, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_record_of_a_later_version_is_refused() {
    let (folder, _) = filled();
    let table = redb::TableDefinition::<u64, &[u8]>::new("records");
    let database = redb::Database::open(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(table).unwrap();
        table.insert(3, &[2_u8, 0, 0, 0, 0, 0, 0][..]).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let Err(StoreError::Corrupt(why)) = contents(folder.path()) else { panic!("opened") };
    assert!(why.contains("record 3") && why.contains("version 2"), "{why}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "not a store at all".repeat(1_000)).unwrap();
    let refused = contents(folder.path());
    assert!(refused.is_err(), "{refused:?}");
}

//! A damaged file is refused when it is opened, or it does no harm.

use crate::{claim, enqueue, event, message, queue, run, ticking, topic};
use std::sync::Arc;
use turnwise_core::{MessageInfo, QueueStore, Read, ReadFrom, Stage, StoreError, TopicStore};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_testkit::Prng;

const FILE: &str = "turnwise.redb";
const SEAL: &str = "turnwise.seal";
/// Bits flipped, one at a time.
const FLIPS: usize = 1_000;
/// Of the random choice of bits.
const SEED: u64 = 0x7475_726e;
/// The last so many bytes are cut off, one by one.
const CUT_MAX: usize = 4_096;

/// All that the store holds.
#[derive(Debug, PartialEq)]
struct Contents {
    messages: Vec<MessageInfo>,
    events: Read,
}

fn quiet() -> EmbeddedConfig {
    EmbeddedConfig { on_fatal: Arc::new(|_| {}), ..EmbeddedConfig::default() }
}

fn contents(folder: &std::path::Path) -> Result<Contents, StoreError> {
    read(&*EmbeddedStore::open(folder, quiet(), ticking())?)
}

fn read(store: &EmbeddedStore) -> Result<Contents, StoreError> {
    run(async {
        let mut messages = Vec::new();
        for stage in [Stage::Ready, Stage::Leased] {
            messages.extend(store.list(&queue(), stage, None, 1_000).await?);
        }
        let events = store.read(&topic(), ReadFrom::Earliest, 1_000).await?;
        Ok(Contents { messages, events })
    })
}

/// Refused in so many words, or read as it was: true when it was refused.
fn refused_or_right(folder: &std::path::Path, before: &Contents, what: &str) -> bool {
    match std::panic::catch_unwind(|| contents(folder)) {
        Ok(Ok(after)) => {
            assert_eq!(after, *before, "{what} changed what is read");
            false
        }
        Ok(Err(StoreError::Corrupt(_) | StoreError::Unavailable(_) | StoreError::Invalid(_))) => true,
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => panic!("{what}: panicked"),
    }
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
    let seal = std::fs::read(folder.path().join(SEAL)).expect("closed in order");
    let before = contents(folder.path()).unwrap();
    assert_eq!(before.messages.len(), 40);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut random = Prng::new(SEED);
    let (mut refused, mut harmless) = (0, 0);
    for n in 0..FLIPS {
        // Most of a small file is empty: three of four flips go where something is.
        let at = if n % 4 == 0 {
            random.below(bytes.len() as u64) as usize
        } else {
            used[random.below(used.len() as u64) as usize]
        };
        let bit = random.below(8);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        std::fs::write(folder.path().join(FILE), &damaged).unwrap();
        // Every other time as after a crash: with no seal.
        let _ = std::fs::remove_file(folder.path().join(SEAL));
        if n % 2 == 0 {
            std::fs::write(folder.path().join(SEAL), &seal).unwrap();
        }
        match refused_or_right(
            folder.path(),
            &before,
            &format!("flip {n}, seed {SEED:#x}: bit {bit} of byte {at}"),
        ) {
            true => refused += 1,
            false => harmless += 1,
        }
    }
    println!("seed {SEED:#x}: {refused} of {FLIPS} flips refused, {harmless} harmless");
    assert!(refused > FLIPS / 8, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_damaged_page_of_a_sealed_store_is_left_to_the_full_check() {
    let (folder, bytes) = filled();
    let seal = std::fs::read(folder.path().join(SEAL)).expect("closed in order");
    let before = contents(folder.path()).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for (page, data) in bytes.chunks(4_096).enumerate().skip(1) {
        let Some(used) = data.iter().position(|byte| *byte != 0) else { continue };
        let mut damaged = bytes.clone();
        damaged[page * 4_096 + used] ^= 1;
        std::fs::write(folder.path().join(FILE), &damaged).unwrap();
        std::fs::write(folder.path().join(SEAL), &seal).unwrap();
        match EmbeddedStore::open(folder.path(), quiet(), ticking()) {
            Ok(store) => {
                assert!(read(&store).is_ok_and(|after| after == before), "page {page}");
                harmless += 1;
            }
            Err(StoreError::Corrupt(why)) => {
                assert!(!why.contains("not as it was written"), "page {page} was not checked: {why}");
                refused += 1;
            }
            Err(error) => panic!("page {page}: {error}"),
        }
    }
    println!("{refused} pages refused, {harmless} harmless");
    assert!(refused > 2, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_file_cut_off_anywhere_in_its_last_page_is_refused_or_whole() {
    let (folder, bytes) = filled();
    let seal = std::fs::read(folder.path().join(SEAL)).expect("closed in order");
    let before = contents(folder.path()).unwrap();
    let mut refused = 0;
    for cut in 1..=CUT_MAX {
        std::fs::write(folder.path().join(FILE), &bytes[..bytes.len() - cut]).unwrap();
        let _ = std::fs::remove_file(folder.path().join(SEAL));
        if cut % 2 == 0 {
            std::fs::write(folder.path().join(SEAL), &seal).unwrap();
        }
        refused += usize::from(refused_or_right(folder.path(), &before, &format!("{cut} bytes less")));
    }
    println!("{refused} of {CUT_MAX} files refused");
}

#[test]
fn a_bit_that_flips_while_the_store_runs_is_an_error_and_not_a_wrong_answer() {
    let (folder, bytes) = filled();
    let before = contents(folder.path()).unwrap();
    let used: Vec<usize> = (4_096..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut random = Prng::new(SEED);
    let (mut refused, mut harmless) = (0, 0);
    for n in 0..FLIPS / 10 {
        std::fs::write(folder.path().join(FILE), &bytes).unwrap();
        let _ = std::fs::remove_file(folder.path().join(SEAL));
        let small = EmbeddedConfig { page_cache_bytes: 0, body_cache_bytes: 0, ..quiet() };
        let store = EmbeddedStore::open(folder.path(), small, ticking()).unwrap();
        let at = used[random.below(used.len() as u64) as usize];
        let mut now = std::fs::read(folder.path().join(FILE)).unwrap();
        now[at] ^= 1 << random.below(8);
        std::fs::write(folder.path().join(FILE), &now).unwrap();
        match read(&store) {
            Ok(after) => {
                assert_eq!(after, before, "flip {n} at byte {at} changed what is read");
                harmless += 1;
            }
            Err(StoreError::Corrupt(_)) => {
                let next = run(enqueue(&*store, message(b"on a damaged store")));
                assert!(next.is_err(), "flip {n}: a damaged store goes on");
                refused += 1;
            }
            Err(error) => panic!("flip {n} at byte {at}: {error}"),
        }
        drop(store);
        refused_or_right(folder.path(), &before, &format!("after flip {n} at byte {at}"));
    }
    println!("seed {SEED:#x}: {refused} noticed while it ran, {harmless} harmless");
    assert!(refused > 0);
}

#[test]
fn a_store_closed_in_order_is_sealed_and_the_seal_is_used_once() {
    let (folder, bytes) = filled();
    let seal = std::fs::read(folder.path().join(SEAL)).expect("closed in order");
    let store = EmbeddedStore::open(folder.path(), quiet(), ticking()).unwrap();
    assert!(!folder.path().join(SEAL).exists(), "a running store has no seal");
    run(enqueue(&*store, message(b"one more"))).unwrap();
    drop(store);
    let with_one_more = contents(folder.path()).unwrap();
    assert_eq!(with_one_more.messages.len(), 41);
    // A seal of another time is none; the file is checked instead.
    std::fs::write(folder.path().join(SEAL), &seal).unwrap();
    assert_eq!(contents(folder.path()).unwrap(), with_one_more);
    std::fs::write(folder.path().join(FILE), &bytes).unwrap();
    assert_eq!(contents(folder.path()).unwrap().messages.len(), 40);
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

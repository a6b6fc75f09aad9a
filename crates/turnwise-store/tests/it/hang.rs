//! A disk that hangs: callers and the one who closes the store get their
//! answer in time, and what was refused was not stored.

use crate::power_cut::PowerCutDisk;
use crate::{enqueue, message, queue, run, ticking};
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{QueueStore, StoreError};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
/// More callers than the store lets wait.
const CALLERS: usize = 5_000;

fn open(disk: &PowerCutDisk) -> Arc<EmbeddedStore> {
    let config = EmbeddedConfig { call_timeout: Duration::from_millis(300), ..EmbeddedConfig::default() };
    EmbeddedStore::open_with_backend(disk.clone(), config, ticking()).unwrap()
}

#[test]
fn a_crowd_is_answered_in_time_and_the_store_goes_on() {
    let disk = PowerCutDisk::default();
    let store = open(&disk);
    run(async {
        disk.hang(true);
        let sent = (0..CALLERS).map(|_| enqueue(&*store, message(b"m")));
        let answers = tokio::time::timeout(PATIENCE, futures_util::future::join_all(sent)).await.unwrap();
        let unknown = answers.iter().filter(|it| matches!(it, Err(StoreError::Unknown(_)))).count();
        let refused = answers.iter().filter(|it| matches!(it, Err(StoreError::Unavailable(_)))).count();
        assert!(unknown > 0 && refused > 0, "{unknown} unknown, {refused} refused");
        assert_eq!(unknown + refused, CALLERS);
        disk.hang(false);
        let stored = loop {
            if let Ok(depth) = store.depth(&queue()).await {
                break depth.enqueued;
            }
        };
        assert!(stored <= unknown as u64, "{stored} stored, only {unknown} may be");
        enqueue(&*store, message(b"after")).await.unwrap();
        assert_eq!(store.depth(&queue()).await.unwrap().enqueued, stored + 1);
    });
}

#[test]
fn closing_does_not_wait_for_ever() {
    let disk = PowerCutDisk::default();
    let store = open(&disk);
    run(async {
        disk.hang(true);
        assert!(matches!(enqueue(&*store, message(b"m")).await, Err(StoreError::Unknown(_))));
        let closing = Arc::clone(&store);
        let closed = tokio::task::spawn_blocking(move || closing.close());
        tokio::time::timeout(PATIENCE, closed).await.unwrap().unwrap();
        assert!(matches!(enqueue(&*store, message(b"m")).await, Err(StoreError::Unavailable(_))));
        disk.hang(false);
    });
}

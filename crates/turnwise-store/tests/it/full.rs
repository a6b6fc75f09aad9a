//! A full disk: new work is refused early, what is there can be finished, and
//! the store goes on by itself when there is room again.

use crate::{ack, claim, enqueue, message, queue, run, settle, ticking};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use turnwise_core::{QueueStore, Settled, StoreError};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(folder));
        }
        println!("NOT RUN: tmpfs");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

#[test]
fn new_work_is_refused_and_old_work_can_end() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let path = disk.path().join("store");
    let clock = ticking();
    run(async {
        let store = EmbeddedStore::open(&path, EmbeddedConfig::default(), Arc::clone(&clock)).unwrap();
        let mut stored = 0;
        let why = loop {
            match enqueue(&*store, message(&vec![1; 200_000])).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 1_000, "never full");
        };
        assert!(matches!(&why, StoreError::Unavailable(why) if why.contains("disk is full")), "{why}");
        assert!(stored > 20, "{stored}");
        while enqueue(&*store, message(b"small")).await.is_ok() {}
        let depth = store.depth(&queue()).await.unwrap();
        let asked = store.enqueue(Vec::new()).await;
        assert!(matches!(asked, Err(StoreError::Unavailable(_))), "no room, told {asked:?}");
        assert_eq!(store.sweep(10).await, Ok(0), "what is there may still be changed");
        assert_eq!(store.depth(&queue()).await.unwrap(), depth);
        for _ in 0..depth.ready {
            let held = store.claim(claim(1, false)).await.unwrap().pop().unwrap();
            assert_eq!(settle(&*store, ack(held.receipt)).await, Ok(Settled::Done));
        }
        assert_eq!(store.enqueue(Vec::new()).await, Ok(Vec::new()), "there is room again");
        enqueue(&*store, message(&vec![1; 200_000])).await.expect("there is room again");
    });
}

#[test]
fn a_write_that_finds_no_room_is_finished_when_there_is_some() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let (path, clock) = (disk.path().join("store"), ticking());
    let fatal = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&fatal);
    let config = EmbeddedConfig {
        disk_reserve_bytes: 0,
        on_fatal: Arc::new(move |what| {
            println!("fatal: {what}");
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
        }),
        ..EmbeddedConfig::default()
    };
    run(async {
        let store = EmbeddedStore::open(&path, config.clone(), Arc::clone(&clock)).unwrap();
        std::fs::write(disk.path().join("ballast"), vec![1; 8 * 1024 * 1024]).unwrap();
        let mut ids = Vec::new();
        let why = loop {
            match enqueue(&*store, message(&vec![1; 200_000])).await {
                Ok(id) => ids.push(id),
                Err(error) => break error,
            }
            assert!(ids.len() < 1_000, "never full");
        };
        assert!(matches!(why, StoreError::Unknown(_)), "{why}");
        assert!(matches!(store.depth(&queue()).await, Err(StoreError::Unavailable(_))));
        std::fs::remove_file(disk.path().join("ballast")).unwrap();
        let depth = store.depth(&queue()).await.expect("goes on");
        assert_eq!(depth.ready, ids.len() as u64 + 1, "the write that was not confirmed happened");
        drop(store);
        let store = EmbeddedStore::open(&path, config, clock).unwrap();
        let found = store.get(&queue(), ids).await.unwrap();
        assert!(found.iter().all(Option::is_some));
    });
    assert!(!fatal.load(std::sync::atomic::Ordering::SeqCst));
}

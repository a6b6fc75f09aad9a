//! A disk that answers a write or a sync with an error: nothing is
//! acknowledged from then on, the program is told to end, and what was
//! acknowledged before is there when the store is opened again. A sync that
//! works the second time proves nothing: the system may have dropped the pages.

use crate::power_cut::PowerCutDisk;
use crate::{enqueue, message, queue, run, ticking};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use turnwise_core::{QueueStore, StoreError};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_testkit::Prng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Write,
    Sync,
}

/// Works until it is told to fail, once; then it works again.
#[derive(Clone, Debug)]
struct FailingDisk {
    disk: PowerCutDisk,
    what: Broken,
    armed: Arc<AtomicBool>,
    failures: Arc<AtomicU32>,
}

impl FailingDisk {
    fn fails(&self, what: Broken) -> io::Result<()> {
        if self.what == what && self.armed.swap(false, Ordering::SeqCst) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

impl redb::StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fails(Broken::Sync)?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fails(Broken::Write)?;
        self.disk.write(offset, data)
    }
}

fn config(fatal: &Arc<AtomicU32>) -> EmbeddedConfig {
    let fatal = Arc::clone(fatal);
    let on_fatal = Arc::new(move |_: &str| {
        fatal.fetch_add(1, Ordering::SeqCst);
    });
    EmbeddedConfig { on_fatal, ..EmbeddedConfig::default() }
}

fn one_error_ends_it(what: Broken) {
    for seed in 0..20 {
        let disk = FailingDisk {
            disk: PowerCutDisk::default(),
            what,
            armed: Arc::default(),
            failures: Arc::default(),
        };
        let fatal = Arc::<AtomicU32>::default();
        let store = EmbeddedStore::open_with_backend(disk.clone(), config(&fatal), ticking()).unwrap();
        let mut told = Vec::new();
        run(async {
            for n in 0..5 + seed {
                told.push(enqueue(&*store, message(format!("before {n}").as_bytes())).await.unwrap());
            }
            disk.armed.store(true, Ordering::SeqCst);
            let failed = enqueue(&*store, message(b"with the error")).await;
            assert!(matches!(failed, Err(StoreError::Unknown(_))), "{failed:?}");
            for _ in 0..5 {
                let later = enqueue(&*store, message(b"after the error")).await;
                assert!(later.is_err(), "acknowledged on a disk that cannot be trusted");
            }
        });
        assert_eq!(disk.failures.load(Ordering::SeqCst), 1, "the fault was not met");
        assert_eq!(fatal.load(Ordering::SeqCst), 1, "the program is told once");
        drop(store);
        let after = disk.disk.cut(&mut Prng::new(seed));
        let store = EmbeddedStore::open_with_backend(after, config(&fatal), ticking()).unwrap();
        run(async {
            let found = store.get(&queue(), told.clone()).await.unwrap();
            assert!(found.iter().all(Option::is_some), "seed {seed}: acknowledged and lost");
            enqueue(&*store, message(b"it goes on")).await.unwrap();
        });
    }
}

#[test]
fn after_a_write_error_nothing_is_acknowledged_and_nothing_was_lost() {
    one_error_ends_it(Broken::Write);
}

#[test]
fn after_a_sync_error_nothing_is_acknowledged_and_nothing_was_lost() {
    one_error_ends_it(Broken::Sync);
}

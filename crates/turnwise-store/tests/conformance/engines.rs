//! The engines of this crate as the suite opens and crashes them.

use crate::power_cut::PowerCutDisk;
use async_trait::async_trait;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turnwise_core::Store;
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_store::memory::MemoryStore;
use turnwise_testkit::harness::HangSwitch;
use turnwise_testkit::{Harness, ManualClock, Prng};

/// A store on a disk that may hang gives up after this long.
const IMPATIENCE: Duration = Duration::from_millis(400);

/// `memory`: nothing outlives it.
#[derive(Default)]
pub(crate) struct Memory {
    clock: ManualClock,
}

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    async fn open(&self) -> Arc<dyn Store> {
        MemoryStore::new(self.clock.reader())
    }

    async fn crash_and_reopen(&self, _store: Arc<dyn Store>) -> Arc<dyn Store> {
        unreachable!("memory is not durable")
    }

    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str> {
        Err("nothing below it can hang")
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        false
    }
}

/// `embedded` in a folder. A crash is a copy of the folder as it is: what a
/// killed process leaves behind.
#[derive(Default)]
pub(crate) struct Folder {
    clock: ManualClock,
    opened: Mutex<Vec<(tempfile::TempDir, Arc<EmbeddedStore>)>>,
}

impl Folder {
    fn start(&self, folder: tempfile::TempDir) -> Arc<dyn Store> {
        let config = EmbeddedConfig::default();
        let store =
            EmbeddedStore::open(folder.path(), config, self.clock.reader()).expect("the folder opens");
        let mut opened = self.opened.lock().unwrap();
        for (_, old) in opened.drain(..) {
            old.close();
        }
        opened.push((folder, Arc::clone(&store)));
        store
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a file is copied");
    }
}

#[async_trait]
impl Harness for Folder {
    fn name(&self) -> &str {
        "embedded"
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.start(tempfile::tempdir().expect("a temporary folder"))
    }

    async fn crash_and_reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_files(self.opened.lock().unwrap().last().expect("it was opened").0.path(), copy.path());
        drop(store);
        self.start(copy)
    }

    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str> {
        Err("a real folder has no such switch; `power cut` runs the same engine on a disk that has one")
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for (_, store) in self.opened.lock().unwrap().drain(..) {
            store.close();
        }
    }
}

/// `embedded` over a simulated disk. A crash is a power cut: of what was not
/// synced a random part is lost, and a write may be torn.
pub(crate) struct PowerCut {
    clock: ManualClock,
    random: Mutex<Prng>,
    opened: Mutex<Vec<(PowerCutDisk, Arc<EmbeddedStore>)>>,
    backlog: usize,
}

impl Default for PowerCut {
    fn default() -> PowerCut {
        PowerCut::with_backlog(turnwise_testkit::harness::BACKLOG)
    }
}

impl PowerCut {
    pub(crate) fn with_backlog(backlog: usize) -> PowerCut {
        let random = Mutex::new(Prng::new(1));
        PowerCut { clock: ManualClock::new(), random, opened: Mutex::default(), backlog }
    }

    fn start(&self, disk: PowerCutDisk, config: EmbeddedConfig) -> Arc<dyn Store> {
        let handle = disk.clone();
        let store =
            EmbeddedStore::open_with_backend(handle, config, self.clock.reader()).expect("the disk opens");
        let mut opened = self.opened.lock().unwrap();
        for (_, old) in opened.drain(..) {
            old.close();
        }
        opened.push((disk, Arc::clone(&store)));
        store
    }
}

#[async_trait]
impl Harness for PowerCut {
    fn name(&self) -> &str {
        "power cut"
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.start(PowerCutDisk::default(), EmbeddedConfig::default())
    }

    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str> {
        let disk = PowerCutDisk::default();
        let config = EmbeddedConfig { call_timeout: IMPATIENCE, ..EmbeddedConfig::default() };
        let store = self.start(disk.clone(), config);
        Ok((store, Box::new(move |hangs| disk.hang(hangs))))
    }

    async fn crash_and_reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let left = {
            let opened = self.opened.lock().unwrap();
            opened.last().expect("it was opened").0.cut(&mut self.random.lock().unwrap())
        };
        drop(store);
        self.start(left, EmbeddedConfig::default())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }

    fn backlog(&self) -> usize {
        self.backlog
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        for (_, store) in self.opened.lock().unwrap().drain(..) {
            store.close();
        }
    }
}

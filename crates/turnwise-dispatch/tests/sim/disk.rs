//! The simulated disk with a fuse: after so many operations of the disk the
//! power goes out, in the middle of whatever the store is writing.

use crate::power_cut::PowerCutDisk;
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use turnwise_testkit::Prng;
use turnwise_testkit::turns::Power;

/// A handle on one disk.
#[derive(Clone, Debug)]
pub(crate) struct FusedDisk {
    disk: PowerCutDisk,
    fuse: Arc<Mutex<Fuse>>,
    power: Arc<Power>,
}

#[derive(Debug)]
struct Fuse {
    /// Operations until the power goes out.
    left: Option<u64>,
    unsynced: u64,
    random: Prng,
    /// What the disk held when it did, and whether anything was unsynced.
    found: Option<(PowerCutDisk, bool)>,
}

impl FusedDisk {
    /// A disk that holds what another one left.
    pub(crate) fn new(disk: PowerCutDisk, power: Arc<Power>, random: Prng) -> FusedDisk {
        let fuse = Fuse { left: None, unsynced: 0, random, found: None };
        FusedDisk { disk, fuse: Arc::new(Mutex::new(fuse)), power }
    }

    /// The power goes out after so many operations of the disk.
    pub(crate) fn arm(&self, operations: u64) {
        self.fuse().left = Some(operations);
    }

    /// What another machine finds, and whether unsynced writes were at stake:
    /// as of when the power went out, which is now if it had not.
    pub(crate) fn found(&self) -> (PowerCutDisk, bool) {
        let mut fuse = self.fuse();
        self.power.cut();
        let Fuse { unsynced, random, found, .. } = &mut *fuse;
        found.get_or_insert_with(|| (self.disk.cut(random), *unsynced > 0)).clone()
    }

    fn fuse(&self) -> MutexGuard<'_, Fuse> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn burn(&self) -> MutexGuard<'_, Fuse> {
        let mut fuse = self.fuse();
        match fuse.left {
            Some(0) if fuse.found.is_none() => {
                drop(fuse);
                self.found();
                fuse = self.fuse();
            }
            Some(left) => fuse.left = Some(left.saturating_sub(1)),
            None => {}
        }
        fuse
    }
}

impl StorageBackend for FusedDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.burn().unsynced += 1;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.burn().unsynced = 0;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.burn().unsynced += 1;
        self.disk.write(offset, data)
    }
}

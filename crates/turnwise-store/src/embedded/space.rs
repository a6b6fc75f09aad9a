//! Room on the disk: refuse new work before the disk is full, so that what is
//! there can still be finished.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The reserve is never more than this part of the file system.
const RESERVE_PART: u64 = 8;
/// Settling may use the reserve down to this part of it.
const FLOOR_PART: u64 = 4;

/// Room, measured anew before each batch.
pub(super) struct Space {
    folder: PathBuf,
    file: PathBuf,
    reserve_max: u64,
}

/// How much may still be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    free: u64,
    reserve: u64,
}

impl Space {
    pub(super) fn new(folder: PathBuf, file: PathBuf, reserve_max: u64) -> Space {
        Space { folder, file, reserve_max }
    }

    /// The room now, when records fill `live_bytes` of the file. What cannot
    /// be measured does not refuse anything.
    pub(super) fn measure(&self, live_bytes: u64) -> Room {
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return Room::UNLIMITED };
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        let reserve = self.reserve_max.min(total / RESERVE_PART);
        let unused = disk.f_bavail.saturating_mul(disk.f_frsize);
        let free = unused.saturating_add(self.reusable(live_bytes));
        Room { free, reserve }
    }

    /// Half of what the file holds beyond twice its records: pages that redb
    /// will use again before it asks for new ones.
    fn reusable(&self, live_bytes: u64) -> u64 {
        let allocated = std::fs::metadata(&self.file).map_or(0, |file| file.blocks().saturating_mul(512));
        allocated.saturating_sub(live_bytes.saturating_mul(2)) / 2
    }
}

impl Room {
    /// Nothing is known that would refuse a write.
    pub(super) const UNLIMITED: Room = Room { free: u64::MAX, reserve: 0 };

    /// Whether something new of this size may be stored.
    pub(super) fn has_for_new(&self, bytes: u64) -> bool {
        self.free.saturating_sub(bytes) >= self.reserve
    }

    /// Whether what is there may be changed with so many bytes.
    pub(super) fn has_for_change(&self, bytes: u64) -> bool {
        self.free.saturating_sub(bytes) >= self.reserve / FLOOR_PART
    }

    /// Counts bytes that will be written.
    pub(super) fn take(&mut self, bytes: u64) {
        self.free = self.free.saturating_sub(bytes);
    }
}

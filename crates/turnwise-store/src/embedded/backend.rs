//! The file under redb, watched: whether a write ran out of room or a sync
//! failed decides what a failed commit means, and every page that is read is
//! compared with what was written.

use super::pages::Pages;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What went wrong below redb since the file was opened.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    sync_failed: AtomicBool,
    no_space: AtomicBool,
    /// Any error at all.
    any: AtomicBool,
}

impl Trouble {
    /// Nothing went wrong.
    pub(super) fn is_none(&self) -> bool {
        !self.any.load(Ordering::SeqCst)
    }

    /// Room ran out, and nothing worse happened: what was synced is still there.
    pub(super) fn is_only_no_space(&self) -> bool {
        self.no_space.load(Ordering::SeqCst) && !self.sync_failed.load(Ordering::SeqCst)
    }
}

/// Passes everything on and takes notes.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Box<dyn StorageBackend>,
    trouble: Arc<Trouble>,
    pages: Arc<Pages>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn StorageBackend>, pages: Arc<Pages>) -> (Watched, Arc<Trouble>) {
        let trouble = Arc::new(Trouble::default());
        (Watched { inner, trouble: Arc::clone(&trouble), pages }, trouble)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.trouble.any.store(true, Ordering::SeqCst);
        }
        if let Err(error) = &result
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            self.trouble.no_space.store(true, Ordering::SeqCst);
        }
        result
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.inner.read(offset, out).and_then(|()| self.pages.check(offset, out)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.note(self.inner.set_len(len));
        self.pages.resized(len);
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.inner.sync_data();
        if result.is_err() {
            self.trouble.sync_failed.store(true, Ordering::SeqCst);
        }
        self.note(result)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.note(self.inner.write(offset, data));
        match &result {
            Ok(()) => self.pages.note(offset, data),
            Err(_) => self.pages.forget(offset, data.len()),
        }
        result
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

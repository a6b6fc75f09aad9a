//! Where records live: read one, read all, commit a batch. A narrow trait, so
//! that another log could take redb's place. Knows records, not rows.

use super::backend::{Trouble, Watched};
use super::files;
use super::pages::Pages;
use super::scan::{self, Each, ReadOne};
use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition,
};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use turnwise_core::machine::Table;
use turnwise_core::{Result, StoreError};

/// One record to write or remove.
pub(super) enum Write<'a> {
    Put(Table, u64, &'a [u8]),
    Delete(Table, u64),
}

/// Why a batch is not on disk.
#[derive(Debug)]
pub(super) enum CommitFailed {
    /// No room; what was committed before still stands, the batch may be tried again.
    NoSpace,
    /// Nothing may be assumed about the disk any more.
    Fatal(String),
}

/// How sure a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// On disk when it returns.
    Now,
    /// With the next commit that is `Now`.
    Later,
}

/// Gives a batch to a commit, one write after another.
pub(super) type Batch<'a> = &'a mut dyn FnMut(&mut dyn FnMut(Write<'_>));

/// A durable, ordered set of records.
pub(super) trait DurableLog: Send {
    /// All records in no order: `read` on several threads, `each` on this one.
    fn scan(&self, read: ReadOne<'_>, each: Each<'_>) -> Result<()>;
    /// Closes it in order; nothing works after that.
    fn close(&mut self);
    /// One record.
    fn read(&self, table: Table, key: u64) -> Result<Option<Bytes>>;
    /// All of the batch or nothing.
    fn commit(&mut self, sync: Sync, batch: Batch<'_>) -> std::result::Result<(), CommitFailed>;
    /// Bytes of all records, as counted by the last scan and the commits since.
    fn live_bytes(&self) -> u64;
}

/// Where the records are.
pub(super) enum Place {
    /// In this file.
    File(PathBuf),
    /// On a backend that a test breaks.
    Backend(Box<dyn StorageBackend>),
    /// On one that is in use.
    Taken,
}

/// All records are in one redb table, so that a commit writes along one tree.
/// Its name is on disk: never change it.
pub(super) const RECORDS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("records");

/// Keys stay below this power of two; the number of their table stands above.
/// On disk: never change it.
pub(super) const KEY_BITS: u32 = 60;

/// Where a record is in [`RECORDS`].
pub(super) fn place(table: Table, key: u64) -> u64 {
    debug_assert!(key >> KEY_BITS == 0, "keys are sequence numbers, which have {KEY_BITS} bits");
    (table as u64) << KEY_BITS | key
}

/// What redb is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct RedbSettings {
    pub(super) cache_bytes: usize,
    pub(super) quick_repair: bool,
    pub(super) check_on_open: bool,
}

/// Records in one redb file.
pub(super) struct RedbLog {
    database: Option<Database>,
    trouble: Arc<Trouble>,
    pages: Arc<Pages>,
    place: Place,
    settings: RedbSettings,
    live_bytes: Cell<u64>,
    /// Every page was checked, or is known, since the start: a seal may say so.
    sealable: bool,
}

impl RedbLog {
    /// Opens the file, or makes it one if it is empty. With what its pages are
    /// known to be, or else the whole file is checked.
    pub(super) fn open(place: Place, settings: RedbSettings, known: Option<Pages>) -> Result<RedbLog> {
        let check = settings.check_on_open && known.is_none();
        let pages = Arc::new(known.unwrap_or_default());
        let (backend, place) = match place {
            Place::File(file) => (files::backend(&file)?, Place::File(file)),
            Place::Backend(backend) => (backend, Place::Taken),
            Place::Taken => return Err(StoreError::Unavailable("it cannot be opened twice".into())),
        };
        let (database, trouble) = open_database(backend, &pages, settings, check)?;
        let database = Some(database);
        let log =
            RedbLog { database, trouble, pages, place, settings, live_bytes: Cell::new(0), sealable: true };
        log.create_table().map_err(unreadable)?;
        Ok(log)
    }

    fn create_table(&self) -> std::result::Result<(), redb::Error> {
        if self.begin_read()?.list_tables()?.next().is_some() {
            return Ok(());
        }
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_quick_repair(self.settings.quick_repair);
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
        Ok(())
    }

    fn database(&self) -> std::result::Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    fn begin_read(&self) -> std::result::Result<ReadTransaction, redb::Error> {
        Ok(self.database()?.begin_read()?)
    }

    fn try_commit(&self, sync: Sync, batch: Batch<'_>) -> std::result::Result<i64, redb::Error> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_quick_repair(self.settings.quick_repair && sync == Sync::Now);
        if sync == Sync::Later {
            transaction.set_durability(redb::Durability::None)?;
        }
        let mut grown = 0;
        let mut failed = None;
        {
            let mut records = transaction.open_table(RECORDS)?;
            batch(&mut |write| {
                if failed.is_none() {
                    failed = apply(&mut records, &write, &mut grown).err();
                }
            });
        }
        if let Some(error) = failed {
            return Err(error);
        }
        transaction.commit()?;
        Ok(grown)
    }

    fn open_again(&mut self) -> Result<()> {
        let Place::File(file) = &self.place else {
            return Err(StoreError::Unavailable("it cannot be reopened".into()));
        };
        self.database = None;
        self.pages = Arc::default();
        // Nobody checks what is read first from now on.
        self.sealable = false;
        let (database, trouble) = open_database(files::backend(file)?, &self.pages, self.settings, false)?;
        self.database = Some(database);
        self.trouble = trouble;
        Ok(())
    }
}

fn apply(
    records: &mut redb::Table<'_, u64, &'static [u8]>,
    write: &Write<'_>,
    grown: &mut i64,
) -> std::result::Result<(), redb::Error> {
    let length = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    match *write {
        Write::Put(table, key, record) => {
            let before = records.insert(place(table, key), record)?;
            *grown += length(record.len()) - before.map_or(0, |guard| length(guard.value().len()));
        }
        Write::Delete(table, key) => {
            *grown -= records.remove(place(table, key))?.map_or(0, |guard| length(guard.value().len()));
        }
    }
    Ok(())
}

fn open_database(
    backend: Box<dyn StorageBackend>,
    pages: &Arc<Pages>,
    settings: RedbSettings,
    check: bool,
) -> Result<(Database, Arc<Trouble>)> {
    let (watched, trouble) = Watched::new(backend, Arc::clone(pages));
    let opened = Builder::new()
        .set_cache_size(settings.cache_bytes)
        .set_check_integrity_on_open(check)
        .create_with_backend(watched);
    match opened {
        Ok(database) => Ok((database, trouble)),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::Unavailable(
            "the store is in use by another process: stop that one first, or give this one a folder of its own"
                .into(),
        )),
        Err(DatabaseError::UpgradeRequired(version)) => Err(StoreError::Invalid(format!(
            "the store's file has the format {version} of an older release, which this one cannot read"
        ))),
        Err(DatabaseError::Storage(StorageError::Corrupted(why))) => {
            Err(StoreError::Corrupt(format!("the store's file does not check out: {why}")))
        }
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            Err(StoreError::Corrupt(format!("the store's file does not check out: {error}")))
        }
        Err(error) => Err(StoreError::Unavailable(format!("the store's file cannot be opened: {error}"))),
    }
}

pub(super) fn unreadable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Corrupt(format!("the store's file: {error}"))
        }
        redb::Error::Corrupted(why) => StoreError::Corrupt(format!("the store's file: {why}")),
        error => StoreError::Unavailable(format!("the store's file cannot be read: {error}")),
    }
}

impl DurableLog for RedbLog {
    fn scan(&self, read: ReadOne<'_>, each: Each<'_>) -> Result<()> {
        let database = self.database().map_err(unreadable)?;
        self.live_bytes.set(scan::scan(database, read, each)?);
        Ok(())
    }

    fn close(&mut self) {
        let Some(database) = self.database.take() else { return };
        let closed = database.close();
        let sealable = self.sealable && self.trouble.is_none();
        if let (Ok(()), true, Place::File(file)) = (closed, sealable, &self.place)
            && let Err(error) = files::put_seal(file, &self.pages)
        {
            tracing::warn!(%error, "the store's seal is not written: the next start reads the whole file");
        }
    }

    fn read(&self, table: Table, key: u64) -> Result<Option<Bytes>> {
        let reader = self.begin_read().map_err(unreadable)?;
        let records = reader.open_table(RECORDS).map_err(unreadable)?;
        let record = records.get(place(table, key)).map_err(unreadable)?;
        Ok(record.map(|record| Bytes::copy_from_slice(record.value())))
    }

    fn commit(&mut self, sync: Sync, batch: Batch<'_>) -> std::result::Result<(), CommitFailed> {
        let error = match self.try_commit(sync, batch) {
            Ok(grown) => {
                self.live_bytes.set(self.live_bytes.get().saturating_add_signed(grown));
                return Ok(());
            }
            Err(error) => error,
        };
        if !self.trouble.is_only_no_space() {
            return Err(CommitFailed::Fatal(error.to_string()));
        }
        match self.open_again() {
            Ok(()) => Err(CommitFailed::NoSpace),
            Err(again) => Err(CommitFailed::Fatal(format!("{error}; opening the file again: {again}"))),
        }
    }

    fn live_bytes(&self) -> u64 {
        self.live_bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seal_vouches_for_a_file_that_was_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("turnwise.redb");
        std::fs::write(&file, []).expect("an empty file");
        let settings = RedbSettings { cache_bytes: 1 << 20, quick_repair: true, check_on_open: true };
        let open = || RedbLog::open(Place::File(file.clone()), settings, None).expect("a log");
        let mut log = open();
        log.open_again().expect("opened again");
        log.close();
        assert!(files::break_seal(&file).is_none(), "pages that nobody checked are sealed");
        open().close();
        assert!(files::break_seal(&file).is_some(), "checked as a whole, and closed in order");
    }
}

//! Reading all records at start. Tables are cut into ranges of keys that
//! several threads read and check; what they find goes to the caller in batches.

use super::load::Found;
use super::log::{KEY_BITS, RECORDS, place, unreadable};
use super::record::TABLES;
use redb::{Database, ReadableDatabase, ReadableTableMetadata};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use turnwise_core::machine::Table;
use turnwise_core::{Result, StoreError};

/// Reads one record; on several threads at once.
pub(super) type ReadOne<'a> = &'a (dyn Fn(Table, u64, &[u8]) -> Result<Found> + Sync);
/// Is given what was found.
pub(super) type Each<'a> = &'a mut dyn FnMut(Found) -> Result<()>;

/// More threads than this only wait for the one that builds the indexes.
const THREADS_MAX: usize = 4;
/// Ranges each table is cut into.
const RANGES: u64 = 8;
/// Records handed over at a time.
const BATCH: usize = 1024;
/// Batches that wait to be taken.
const BATCHES_WAITING_MAX: usize = 8;

/// What one range held.
#[derive(Default)]
struct Tally {
    records: u64,
    bytes: u64,
}

/// Reads everything; answers how many bytes the records have.
pub(super) fn scan(database: &Database, read: ReadOne<'_>, each: Each<'_>) -> Result<u64> {
    let ranges = ranges(database)?;
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    std::thread::scope(|scope| {
        let (batches, inbox) = sync_channel::<Vec<Found>>(BATCHES_WAITING_MAX);
        let worker = |batches: SyncSender<Vec<Found>>| {
            let mut tally = Tally::default();
            while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                read_range(database, range.clone(), read, &batches, &mut tally)?;
            }
            Ok(tally)
        };
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let batches = batches.clone();
                scope.spawn(move || worker(batches))
            })
            .collect();
        drop(batches);
        // When taking fails the inbox closes, and each worker ends with its next batch.
        let taken = inbox.into_iter().flatten().try_for_each(each);
        let mut all = Tally::default();
        let mut failed = None;
        for worker in workers {
            match worker.join().unwrap_or_else(|_| Err(damaged("reading it failed"))) {
                Ok(tally) => {
                    all.records += tally.records;
                    all.bytes += tally.bytes;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        taken?;
        failed.map_or(Ok(()), Err)?;
        if all.records != count(database)? {
            return Err(damaged("it holds another number of records than it says"));
        }
        Ok(all.bytes)
    })
}

fn damaged(why: &str) -> StoreError {
    StoreError::Corrupt(format!("the store's file: {why}"))
}

fn count(database: &Database) -> Result<u64> {
    let reader = database.begin_read().map_err(unreadable)?;
    reader.open_table(RECORDS).map_err(unreadable)?.len().map_err(unreadable)
}

/// Every table in pieces, and what lies beyond the last.
fn ranges(database: &Database) -> Result<Vec<RangeInclusive<u64>>> {
    let reader = database.begin_read().map_err(unreadable)?;
    let records = reader.open_table(RECORDS).map_err(unreadable)?;
    let mut ranges = Vec::new();
    for table in TABLES {
        let all = place(table, 0)..=place(table, 0) + ((1 << KEY_BITS) - 1);
        let mut rows = records.range(all.clone()).map_err(unreadable)?;
        let Some(first) = rows.next().transpose().map_err(unreadable)? else { continue };
        let last = rows.next_back().transpose().map_err(unreadable)?;
        let (first, last) = (first.0.value(), last.map_or(first.0.value(), |last| last.0.value()));
        let step = ((last - first) / RANGES).max(1);
        let mut from = *all.start();
        for cut in 1..RANGES {
            let to = first + step * cut;
            if to >= last {
                break;
            }
            ranges.push(from..=to);
            from = to + 1;
        }
        ranges.push(from..=*all.end());
    }
    let beyond = TABLES.into_iter().map(|table| place(table, 0)).max().unwrap_or(0) + (1 << KEY_BITS);
    ranges.push(beyond..=u64::MAX);
    Ok(ranges)
}

fn read_range(
    database: &Database,
    range: RangeInclusive<u64>,
    read: ReadOne<'_>,
    batches: &SyncSender<Vec<Found>>,
    tally: &mut Tally,
) -> Result<()> {
    let reader = database.begin_read().map_err(unreadable)?;
    let records = reader.open_table(RECORDS).map_err(unreadable)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut before = None;
    for row in records.range(range).map_err(unreadable)? {
        let (place, record) = row.map_err(unreadable)?;
        let (place, record) = (place.value(), record.value());
        if before.is_some_and(|before| before >= place) {
            return Err(damaged("its records are not in order"));
        }
        before = Some(place);
        tally.records += 1;
        tally.bytes += record.len() as u64;
        let table = TABLES.into_iter().find(|table| *table as u64 == place >> KEY_BITS);
        let table = table.ok_or_else(|| damaged("it holds records of a table this release does not know"))?;
        batch.push(read(table, place & ((1 << KEY_BITS) - 1), record)?);
        if batch.len() == BATCH {
            batches.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).map_err(not_taken)?;
        }
    }
    batches.send(batch).map_err(not_taken)
}

/// Whoever takes the batches stopped after an error of its own, which is the one that is told.
fn not_taken(_: SendError<Vec<Found>>) -> StoreError {
    damaged("reading it was given up")
}

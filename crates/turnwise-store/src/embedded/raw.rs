//! What the database below the store can do by itself: the yardstick of a measurement, nothing that a server uses.

use super::config::EmbeddedConfig;
use super::log::{RECORDS, place};
use super::record;
use crate::clock::Moment;
use redb::{Builder, Database};
use std::path::Path;
use std::time::Duration;
use turnwise_core::machine::{Row, StoredState, Table};
use turnwise_core::{LeaseToken, Result, Stage, StoreError, Timestamp};

/// Messages a second through redb alone, in a file of its own in this folder, with the writes of a message's way: so
/// many records of so many bytes are put in one commit, in the next a lease for each, and both are taken out in the
/// third, each on the disk before the one after it begins. Blocks for `length`.
///
/// # Errors
/// `Unavailable` when the file cannot be made or written.
pub fn cycle(
    folder: &Path,
    config: &EmbeddedConfig,
    together: usize,
    bytes: usize,
    length: Duration,
) -> Result<f64> {
    let failed = |error: redb::Error| StoreError::Unavailable(format!("redb alone: {error}"));
    let (count, took) = run(folder, config, together, bytes, length).map_err(failed)?;
    Ok(count as f64 / took.as_secs_f64().max(1e-9))
}

fn run(
    folder: &Path,
    config: &EmbeddedConfig,
    together: usize,
    bytes: usize,
    length: Duration,
) -> std::result::Result<(u64, Duration), redb::Error> {
    let database =
        Builder::new().set_cache_size(config.page_cache_bytes).create(folder.join("redb-alone"))?;
    let (record, lease) = (vec![7; bytes], lease());
    let (began, mut count) = (Moment::now(), 0);
    while began.elapsed() < length {
        let numbers = count..count + together as u64;
        commit(&database, config, |records| {
            numbers.clone().try_for_each(|at| put(records, place(Table::Message, at), &record))
        })?;
        commit(&database, config, |records| {
            numbers.clone().try_for_each(|at| put(records, place(Table::State, at), &lease))
        })?;
        commit(&database, config, |records| {
            numbers.clone().try_for_each(|at| {
                records.remove(place(Table::Message, at))?;
                records.remove(place(Table::State, at)).map(drop)
            })
        })?;
        count += together as u64;
    }
    Ok((count, began.elapsed()))
}

/// The state of a leased message as the store writes it.
fn lease() -> Vec<u8> {
    let micros = Timestamp(1_800_000_000_000_000);
    let state = StoredState {
        attempt: 1,
        stage: Stage::Ready,
        place: 1_000_000,
        not_before: None,
        token: Some(LeaseToken(micros.0.unsigned_abs())),
        lease_expires_at: Some(micros),
        reason: None,
        stop_requested: false,
    };
    let mut record = Vec::new();
    record::encode(1_000_000, &Row::State(state), &mut record);
    record
}

type Records<'a> = redb::Table<'a, u64, &'static [u8]>;

fn put(records: &mut Records<'_>, at: u64, record: &[u8]) -> std::result::Result<(), redb::StorageError> {
    records.insert(at, record).map(drop)
}

fn commit(
    database: &Database,
    config: &EmbeddedConfig,
    write: impl FnOnce(&mut Records<'_>) -> std::result::Result<(), redb::StorageError>,
) -> std::result::Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(config.quick_repair);
    write(&mut transaction.open_table(RECORDS)?)?;
    Ok(transaction.commit()?)
}

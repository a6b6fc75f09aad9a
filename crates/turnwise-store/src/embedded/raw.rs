//! What the database below the store can do by itself: the yardstick of a measurement, nothing that a server uses.

use super::config::EmbeddedConfig;
use super::log::RECORDS;
use crate::clock::Moment;
use redb::{Builder, Database, WriteTransaction};
use std::path::Path;
use std::time::Duration;
use turnwise_core::{Result, StoreError};

/// Messages a second through redb alone, in a file of its own in this folder: so many records of so many bytes are
/// put in one commit and taken out in the next, each on the disk before the one after it begins. Blocks for `length`.
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
    let record = vec![7; bytes];
    let (began, mut count) = (Moment::now(), 0);
    while began.elapsed() < length {
        let numbers = count..count + together as u64;
        let transaction = begin(&database, config)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for number in numbers.clone() {
                records.insert(number, record.as_slice())?;
            }
        }
        transaction.commit()?;
        let transaction = begin(&database, config)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for number in numbers {
                records.remove(number)?;
            }
        }
        transaction.commit()?;
        count += together as u64;
    }
    Ok((count, began.elapsed()))
}

fn begin(database: &Database, config: &EmbeddedConfig) -> std::result::Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(config.quick_repair);
    Ok(transaction)
}

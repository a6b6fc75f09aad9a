//! Records of the file, for the fuzz targets alone.

use super::{load, record};
use bytes::Bytes;
pub use record::TABLES;
use turnwise_core::Result;
use turnwise_core::machine::{Row, Table};

/// Reads a record.
///
/// # Errors
/// When it is none.
pub fn decode(table: Table, key: u64, bytes: &Bytes) -> Result<Row> {
    record::decode(table, key, bytes)
}

/// Reads of a record what a start reads.
///
/// # Errors
/// When it is none.
pub fn read_at_start(table: Table, key: u64, bytes: &[u8]) -> Result<()> {
    load::read(table, key, bytes).map(drop)
}

/// Writes a record.
#[must_use]
pub fn encode(key: u64, row: &Row) -> Vec<u8> {
    let mut out = Vec::new();
    record::encode(key, row, &mut out);
    out
}

/// A body under a right head.
#[must_use]
pub fn sealed(table: Table, key: u64, body: &[u8]) -> Vec<u8> {
    record::sealed(table, key, body)
}

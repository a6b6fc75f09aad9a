//! From records to the machine at start. There may be millions: of messages
//! only the beginning is read once the checksum was found right.

use super::disk::{DiskChunk, DiskDedup, DiskMessageHead, DiskName};
use super::record::{body_of, decode, refused};
use bytes::Bytes;
use std::cell::RefCell;
use turnwise_core::machine::{ChunkHead, DedupScope, Loader, MessageHead, Row, Table, dedup_hash};
use turnwise_core::{Kind, Name, Offset, Priority, Result, Timestamp};

/// What the machine needs of one record.
pub(super) enum Found {
    /// A message.
    Message(u64, MessageHead),
    /// A chunk of events.
    Chunk(u64, ChunkHead),
    /// A dedup key: row, hash, until.
    Dedup(u64, u64, Timestamp),
    /// Any other row.
    Row(u64, Row),
}

thread_local! {
    /// The name met last: most records of a table carry the same one.
    static LAST_NAME: RefCell<Option<Name>> = const { RefCell::new(None) };
}

fn name_of(name: &DiskName<'_>) -> Option<Name> {
    LAST_NAME.with_borrow_mut(|last| {
        let same =
            |last: &&Name| last.org() == name.0 && last.kind() as u8 == name.1 && last.name() == name.2;
        if let Some(last) = last.as_ref().filter(same) {
            return Some(last.clone());
        }
        *last = Some(Name::new(name.0, Kind::from_number(name.1)?, name.2).ok()?);
        last.clone()
    })
}

/// Reads what the machine needs of one record.
///
/// # Errors
/// `Corrupt`, naming table and key.
pub(super) fn read(table: Table, key: u64, record: &[u8]) -> Result<Found> {
    let refuse = |why: &str| refused(table, key, why);
    let unreadable = |_| refuse("it does not read as a row");
    let bad_name = || refuse("it holds a bad name");
    match table {
        Table::Message => {
            let body = body_of(table, key, record)?;
            let (head, _): (DiskMessageHead<'_>, _) = postcard::take_from_bytes(body).map_err(unreadable)?;
            let head = MessageHead {
                nonce: head.nonce,
                queue: name_of(&head.queue).ok_or_else(bad_name)?,
                key: head.key.map(|key| key.0.into()),
                priority: Priority(head.priority),
                max_attempts: head.max_attempts,
                enqueued_at: Timestamp(head.enqueued_at),
                deliver_at: head.deliver_at.map(Timestamp),
                expires_at: head.expires_at.map(Timestamp),
            };
            Ok(Found::Message(key, head))
        }
        Table::Events => {
            let body = body_of(table, key, record)?;
            let (head, _): (DiskChunk<'_>, _) = postcard::take_from_bytes(body).map_err(unreadable)?;
            let topic = name_of(&head.topic).ok_or_else(bad_name)?;
            let (first, keep_until) = (Offset(head.first), head.keep_until.map(Timestamp));
            let count = head.events.len() as u64;
            let bytes =
                head.events.iter().map(|event| (event.event_type.len() + event.data.0.len()) as u64).sum();
            Ok(Found::Chunk(key, ChunkHead { topic, first, count, bytes, keep_until }))
        }
        Table::Dedup => {
            let body = body_of(table, key, record)?;
            let (head, _): (DiskDedup<'_>, _) = postcard::take_from_bytes(body).map_err(unreadable)?;
            let name = name_of(&head.name).ok_or_else(bad_name)?;
            let scope = match head.scope {
                0 => DedupScope::Queue(name),
                1 => DedupScope::Topic(name),
                _ => return Err(refuse("it names an unknown scope")),
            };
            Ok(Found::Dedup(key, dedup_hash(&scope, head.key.0), Timestamp(head.until)))
        }
        Table::State | Table::Topic | Table::Cursor | Table::Meta => {
            Ok(Found::Row(key, decode(table, key, &Bytes::copy_from_slice(record))?))
        }
    }
}

/// Gives it to the loader.
///
/// # Errors
/// `Corrupt` when it cannot be right.
pub(super) fn take(loader: &mut Loader, found: Found) -> Result<()> {
    match found {
        Found::Message(key, head) => loader.message(key, head),
        Found::Chunk(key, head) => loader.chunk(key, head)?,
        Found::Dedup(key, hash, until) => loader.dedup(key, hash, until),
        Found::Row(key, row) => loader.row(key, row)?,
    }
    Ok(())
}

//! One row as one record: version, table, checksum, then the row's shape in
//! postcard. What does not check out is refused by its key, never guessed at.

use super::disk::{
    Blob, DiskChunk, DiskCursor, DiskDedup, DiskEffect, DiskEvent, DiskMessage, DiskMessageHead, DiskMeta,
    DiskName, DiskNewDedup, DiskNewEvent, DiskNewMessage, DiskState, DiskTopic,
};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::machine::{
    DedupScope, Row, StoredChunk, StoredCursor, StoredDedup, StoredMessage, StoredMeta, StoredState,
    StoredTopic, Table,
};
use turnwise_core::{
    Dedup, Effect, Epoch, Event, Headers, Kind, LeaseToken, MessageId, Name, NewEvent, NewMessage, Offset,
    OrderingKey, Position, Priority, Result, Stage, StoreError, Timestamp,
};

/// The record version this build writes. On disk: never reuse a number.
const VERSION: u8 = 1;
/// Version, table, CRC-32 (little-endian) over version, table, key and body.
const HEADER_BYTES: usize = 6;

/// Every table there is.
pub const TABLES: [Table; 7] =
    [Table::Message, Table::State, Table::Dedup, Table::Events, Table::Topic, Table::Cursor, Table::Meta];

fn checksum(table: Table, key: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION, table as u8]);
    hasher.update(&key.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// A body under the head of this version.
pub(super) fn sealed(table: Table, key: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![VERSION, table as u8];
    record.extend_from_slice(&checksum(table, key, body).to_le_bytes());
    record.extend_from_slice(body);
    record
}

/// Writes a row as a record into `out`, in place of what is there.
pub(super) fn encode(key: u64, row: &Row, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[VERSION, row.table() as u8, 0, 0, 0, 0]);
    match row {
        Row::Message(message) => write(out, &message_to_disk(message)),
        Row::State(state) => write(out, &state_to_disk(state)),
        Row::Dedup(dedup) => write(out, &dedup_to_disk(dedup)),
        Row::Events(chunk) => write(out, &chunk_to_disk(chunk)),
        Row::Topic(topic) => write(
            out,
            &DiskTopic { topic: name_to_disk(&topic.topic), first: topic.first.0, last: topic.last.0 },
        ),
        Row::Cursor(cursor) => write(
            out,
            &DiskCursor {
                topic: name_to_disk(&cursor.topic),
                subscription: &cursor.subscription,
                epoch: cursor.position.epoch.0,
                offset: cursor.position.offset.0,
            },
        ),
        Row::Meta(meta) => write(
            out,
            &DiskMeta {
                epoch: meta.epoch.0,
                seq_ceiling: meta.seq_ceiling,
                token_ceiling: meta.token_ceiling,
            },
        ),
    }
    let sum = checksum(row.table(), key, out.get(HEADER_BYTES..).unwrap_or_default());
    if let Some(place) = out.get_mut(2..HEADER_BYTES) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

fn write<T: Serialize>(out: &mut Vec<u8>, shape: &T) {
    postcard::to_extend(shape, ByteSink(out))
        .expect("row shapes have known lengths and a vector takes all bytes");
}

/// Appends to a borrowed vector.
struct ByteSink<'a>(&'a mut Vec<u8>);

impl Extend<u8> for ByteSink<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// Why a record is not taken.
pub(super) fn refused(table: Table, key: u64, why: &str) -> StoreError {
    StoreError::Corrupt(format!("record {key} of table {table:?}: {why}"))
}

/// What follows the header, once that was found to be right.
///
/// # Errors
/// `Corrupt`, naming table and key.
pub(super) fn body_of(table: Table, key: u64, record: &[u8]) -> Result<&[u8]> {
    let refuse = |why: &str| refused(table, key, why);
    let (header, body) = record.split_at_checked(HEADER_BYTES).ok_or_else(|| refuse("it is cut off"))?;
    let [version, kind, sum @ ..] = header else { return Err(refuse("it is cut off")) };
    if *version > VERSION {
        return Err(refuse(&format!(
            "a newer release wrote it, in version {version} of the format; this one knows {VERSION}: run the newer one, or restore a backup made before the upgrade"
        )));
    }
    if *version != VERSION {
        return Err(refuse(&format!("there is no version {version} of the format")));
    }
    if *kind != table as u8 || *sum != checksum(table, key, body).to_le_bytes() {
        return Err(refuse("its checksum is wrong"));
    }
    Ok(body)
}

/// Reads a record back.
///
/// # Errors
/// `Corrupt`, naming table and key.
pub(super) fn decode(table: Table, key: u64, record: &Bytes) -> Result<Row> {
    let refuse = |why: &str| refused(table, key, why);
    let body = body_of(table, key, record)?;
    let reader = Reader { record, refuse: &refuse };
    match table {
        Table::Message => Ok(Row::Message(Arc::new(reader.message(key, reader.shape(body)?)?))),
        Table::State => Ok(Row::State(reader.state(&reader.shape(body)?)?)),
        Table::Dedup => Ok(Row::Dedup(Arc::new(reader.dedup(&reader.shape(body)?)?))),
        Table::Events => Ok(Row::Events(Arc::new(reader.chunk(&reader.shape(body)?)?))),
        Table::Topic => {
            let topic: DiskTopic<'_> = reader.shape(body)?;
            let name = reader.name(&topic.topic)?;
            Ok(Row::Topic(StoredTopic { topic: name, first: Offset(topic.first), last: Offset(topic.last) }))
        }
        Table::Cursor => {
            let cursor: DiskCursor<'_> = reader.shape(body)?;
            let position = Position { epoch: Epoch(cursor.epoch), offset: Offset(cursor.offset) };
            let topic = reader.name(&cursor.topic)?;
            Ok(Row::Cursor(StoredCursor { topic, subscription: cursor.subscription.to_owned(), position }))
        }
        Table::Meta => {
            let meta: DiskMeta = reader.shape(body)?;
            Ok(Row::Meta(StoredMeta {
                epoch: Epoch(meta.epoch),
                seq_ceiling: meta.seq_ceiling,
                token_ceiling: meta.token_ceiling,
            }))
        }
    }
}

fn name_to_disk(name: &Name) -> DiskName<'_> {
    DiskName(name.org(), name.kind() as u8, name.name())
}

fn headers_to_disk(headers: &Headers) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn message_to_disk(message: &StoredMessage) -> DiskMessage<'_> {
    DiskMessage {
        head: DiskMessageHead {
            nonce: message.id.nonce(),
            queue: name_to_disk(&message.queue),
            key: message.key.as_ref().map(|key| Blob(&key.0)),
            priority: message.priority.0,
            max_attempts: message.max_attempts,
            enqueued_at: message.enqueued_at.0,
            deliver_at: message.deliver_at.map(|at| at.0),
            expires_at: message.expires_at.map(|at| at.0),
        },
        headers: headers_to_disk(&message.headers),
        payload: Blob(&message.payload),
        at_end: message.at_end.iter().map(effect_to_disk).collect(),
    }
}

fn effect_to_disk(effect: &Effect) -> DiskEffect<'_> {
    match effect {
        Effect::Enqueue(message) => DiskEffect::Enqueue(DiskNewMessage {
            queue: name_to_disk(&message.queue),
            key: message.key.as_ref().map(|key| Blob(&key.0)),
            priority: message.priority.0,
            headers: headers_to_disk(&message.headers),
            payload: Blob(&message.payload),
            deliver_at: message.deliver_at.map(|at| at.0),
            expires_at: message.expires_at.map(|at| at.0),
            max_attempts: message.max_attempts,
            dedup: message.dedup.as_ref().map(new_dedup_to_disk),
            lane_max: message.lane_max,
            at_end: message.at_end.iter().map(effect_to_disk).collect(),
            nonce: message.nonce,
        }),
        Effect::Publish(event) => DiskEffect::Publish(DiskNewEvent {
            topic: name_to_disk(&event.topic),
            event_type: &event.event_type,
            data: Blob(&event.data),
            dedup: event.dedup.as_ref().map(new_dedup_to_disk),
            keep_until: event.keep_until.map(|at| at.0),
        }),
    }
}

fn new_dedup_to_disk(dedup: &Dedup) -> DiskNewDedup<'_> {
    DiskNewDedup {
        key: Blob(&dedup.key),
        window: (dedup.window.as_secs(), dedup.window.subsec_nanos()),
        content_hash: dedup.content_hash,
    }
}

fn state_to_disk(state: &StoredState) -> DiskState<'_> {
    DiskState {
        attempt: state.attempt,
        stage: state.stage as u8,
        place: state.place,
        not_before: state.not_before.map(|at| at.0),
        token: state.token.map(|token| token.0),
        lease_expires_at: state.lease_expires_at.map(|at| at.0),
        reason: state.reason.as_deref(),
        stop_requested: state.stop_requested,
    }
}

fn dedup_to_disk(dedup: &StoredDedup) -> DiskDedup<'_> {
    let (scope, name) = match &dedup.scope {
        DedupScope::Queue(name) => (0, name),
        DedupScope::Topic(name) => (1, name),
    };
    DiskDedup {
        scope,
        name: name_to_disk(name),
        key: Blob(&dedup.key),
        content_hash: dedup.content_hash,
        until: dedup.until.0,
        answer: dedup.answer,
        nonce: dedup.nonce,
    }
}

fn chunk_to_disk(chunk: &StoredChunk) -> DiskChunk<'_> {
    DiskChunk {
        topic: name_to_disk(&chunk.topic),
        first: chunk.first.0,
        keep_until: chunk.keep_until.map(|at| at.0),
        events: chunk.events.iter().map(event_to_disk).collect(),
    }
}

fn event_to_disk(event: &Event) -> DiskEvent<'_> {
    DiskEvent {
        offset: event.offset.0,
        event_type: &event.event_type,
        data: Blob(&event.data),
        appended_at: event.appended_at.0,
    }
}

/// Turns shapes back into rows; bodies stay slices of the record.
struct Reader<'r> {
    record: &'r Bytes,
    refuse: &'r dyn Fn(&str) -> StoreError,
}

impl<'r> Reader<'r> {
    fn shape<T: serde::Deserialize<'r>>(&self, body: &'r [u8]) -> Result<T> {
        match postcard::take_from_bytes(body) {
            Ok((shape, [])) => Ok(shape),
            Ok((_, _)) => Err((self.refuse)("there is more in it than a row")),
            Err(_) => Err((self.refuse)("it does not read as a row")),
        }
    }

    fn bytes(&self, blob: Blob<'r>) -> Bytes {
        if blob.0.is_empty() { Bytes::new() } else { self.record.slice_ref(blob.0) }
    }

    fn name(&self, name: &DiskName<'_>) -> Result<Name> {
        let kind = Kind::from_number(name.1).ok_or_else(|| (self.refuse)("it names an unknown kind"))?;
        Name::new(name.0, kind, name.2).map_err(|_| (self.refuse)("it holds a bad name"))
    }

    fn message(&self, key: u64, message: DiskMessage<'r>) -> Result<StoredMessage> {
        let head = message.head;
        Ok(StoredMessage {
            id: MessageId::new(key, head.nonce),
            queue: self.name(&head.queue)?,
            key: head.key.map(ordering_key),
            priority: Priority(head.priority),
            max_attempts: head.max_attempts,
            enqueued_at: Timestamp(head.enqueued_at),
            deliver_at: head.deliver_at.map(Timestamp),
            expires_at: head.expires_at.map(Timestamp),
            headers: headers(&message.headers),
            payload: self.bytes(message.payload),
            at_end: self.effects(message.at_end)?,
        })
    }

    fn effects(&self, effects: Vec<DiskEffect<'r>>) -> Result<Vec<Effect>> {
        effects.into_iter().map(|effect| self.effect(effect)).collect()
    }

    fn effect(&self, effect: DiskEffect<'r>) -> Result<Effect> {
        match effect {
            DiskEffect::Enqueue(message) => Ok(Effect::Enqueue(NewMessage {
                queue: self.name(&message.queue)?,
                key: message.key.map(ordering_key),
                priority: Priority(message.priority),
                headers: headers(&message.headers),
                payload: self.bytes(message.payload),
                deliver_at: message.deliver_at.map(Timestamp),
                expires_at: message.expires_at.map(Timestamp),
                max_attempts: message.max_attempts,
                dedup: message.dedup.as_ref().map(new_dedup),
                lane_max: message.lane_max,
                at_end: self.effects(message.at_end)?,
                nonce: message.nonce,
            })),
            DiskEffect::Publish(event) => Ok(Effect::Publish(NewEvent {
                topic: self.name(&event.topic)?,
                event_type: event.event_type.to_owned(),
                data: self.bytes(event.data),
                dedup: event.dedup.as_ref().map(new_dedup),
                keep_until: event.keep_until.map(Timestamp),
            })),
        }
    }

    fn state(&self, state: &DiskState<'_>) -> Result<StoredState> {
        let stage = [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead]
            .into_iter()
            .find(|stage| *stage as u8 == state.stage)
            .ok_or_else(|| (self.refuse)("it names an unknown stage"))?;
        Ok(StoredState {
            attempt: state.attempt,
            stage,
            place: state.place,
            not_before: state.not_before.map(Timestamp),
            token: state.token.map(LeaseToken),
            lease_expires_at: state.lease_expires_at.map(Timestamp),
            reason: state.reason.map(str::to_owned),
            stop_requested: state.stop_requested,
        })
    }

    fn dedup(&self, dedup: &DiskDedup<'_>) -> Result<StoredDedup> {
        let name = self.name(&dedup.name)?;
        let scope = match dedup.scope {
            0 => DedupScope::Queue(name),
            1 => DedupScope::Topic(name),
            _ => return Err((self.refuse)("it names an unknown scope")),
        };
        Ok(StoredDedup {
            scope,
            key: Bytes::copy_from_slice(dedup.key.0),
            content_hash: dedup.content_hash,
            until: Timestamp(dedup.until),
            answer: dedup.answer,
            nonce: dedup.nonce,
        })
    }

    fn chunk(&self, chunk: &DiskChunk<'r>) -> Result<StoredChunk> {
        let event = |event: &DiskEvent<'r>| Event {
            offset: Offset(event.offset),
            event_type: event.event_type.to_owned(),
            data: self.bytes(event.data),
            appended_at: Timestamp(event.appended_at),
        };
        Ok(StoredChunk {
            topic: self.name(&chunk.topic)?,
            first: Offset(chunk.first),
            events: chunk.events.iter().map(event).collect(),
            keep_until: chunk.keep_until.map(Timestamp),
        })
    }
}

fn headers(headers: &[(&str, &str)]) -> Headers {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Copied: an index keeps it, and must not keep the whole record with it.
fn ordering_key(key: Blob<'_>) -> OrderingKey {
    OrderingKey(Bytes::copy_from_slice(key.0))
}

fn new_dedup(dedup: &DiskNewDedup<'_>) -> Dedup {
    let window =
        Duration::from_secs(dedup.window.0).saturating_add(Duration::from_nanos(u64::from(dedup.window.1)));
    Dedup { key: Bytes::copy_from_slice(dedup.key.0), window, content_hash: dedup.content_hash }
}

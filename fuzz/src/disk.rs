//! What is read back from disk. The file is ours, but disks and people change it.

use crate::choice;
use bytes::Bytes;
use turnwise_broker::fuzzing::{busy_again, terminal_again};
use turnwise_store::embedded::fuzzing::{TABLES, decode, encode, read_at_start, sealed};

/// A record with a right checksum is a row or is refused; a row is written as
/// the record it is read from. With a wrong checksum it is always refused. A start,
/// which reads the beginning of some records only, takes every record that is one.
pub(crate) fn store_record(input: &[u8]) {
    let (kind, input) = choice(input);
    let Some(table) = TABLES.get(usize::from(kind) % TABLES.len()).copied() else { return };
    let raw = Bytes::copy_from_slice(input);
    let record = Bytes::from(sealed(table, 7, input));
    if raw != record {
        let _ = decode(table, 7, &raw);
        let _ = read_at_start(table, 7, &raw);
    }
    let _ = read_at_start(table, 7, &record);
    if let Ok(row) = decode(table, 7, &record) {
        assert_eq!(row.table(), table);
        let written = Bytes::from(encode(7, &row));
        let again = decode(table, 7, &written).expect("what was written can be read");
        assert_eq!(encode(7, &again), written, "written twice, it is the same");
        assert!(read_at_start(table, 7, &written).is_ok(), "what was written can be read at a start");
        assert!(decode(table, 8, &written).is_err(), "a record has its place");
        let mut flipped = written.to_vec();
        let at = usize::from(kind) * 31 % flipped.len();
        if let Some(byte) = flipped.get_mut(at) {
            *byte ^= 1;
        }
        assert!(read_at_start(table, 7, &flipped).is_err(), "a flipped bit is seen at a start");
        assert!(decode(table, 7, &Bytes::from(flipped)).is_err(), "a flipped bit is seen");
    }
}

/// The broker's own records inside events.
pub(crate) fn turn_record(input: &[u8]) {
    for again in [terminal_again, busy_again] {
        if let Some(written) = again(input) {
            assert_eq!(again(&written).as_deref(), Some(&written[..]), "written twice, it is the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;
    use turnwise_core::machine::{
        DedupScope, Row, StoredChunk, StoredCursor, StoredDedup, StoredMessage, StoredMeta, StoredState,
        StoredTopic,
    };
    use turnwise_core::{
        Dedup, Effect, Epoch, Event, Kind, LeaseToken, MessageId, Name, NewEvent, NewMessage, Offset,
        OrderingKey, Position, Priority, Stage, Timestamp,
    };

    fn message(queue: Name) -> StoredMessage {
        let dedup = Dedup {
            key: Bytes::from_static(b"k"),
            window: Duration::from_millis(1500),
            content_hash: [7; 16],
        };
        let event = NewEvent {
            topic: queue.clone(),
            event_type: "turn.error".into(),
            data: Bytes::from_static(b"{}"),
            dedup: Some(dedup.clone()),
            keep_until: Some(Timestamp(9)),
        };
        let next = NewMessage { dedup: Some(dedup), ..NewMessage::new(queue.clone(), "next") };
        StoredMessage {
            id: MessageId::new(7, 3),
            queue,
            key: Some(OrderingKey(Bytes::from_static(b"user:u"))),
            priority: Priority::default(),
            max_attempts: 3,
            enqueued_at: Timestamp(1_795_289_713_283_466),
            deliver_at: None,
            expires_at: Some(Timestamp(-1)),
            headers: vec![("user".into(), "u".into()), ("stream".into(), "1".into())],
            payload: Bytes::from_static(b"{\"message\":\"hi\"}"),
            at_end: vec![Effect::Publish(event), Effect::Enqueue(next)],
        }
    }

    fn rows() -> [Row; 7] {
        let queue = Name::new("acme", Kind::Turns, "turns").expect("a name");
        let topic = Name::new("acme", Kind::Reply, "r7").expect("a name");
        let event = Event {
            offset: Offset(2),
            event_type: "agent.delta".into(),
            data: Bytes::from_static(b"{\"text\":\"x\"}"),
            appended_at: Timestamp(5),
        };
        [
            Row::Message(Arc::new(message(queue.clone()))),
            Row::State(StoredState {
                attempt: 2,
                stage: Stage::Leased,
                place: 7,
                not_before: Some(Timestamp(1)),
                token: Some(LeaseToken(9)),
                lease_expires_at: Some(Timestamp(2)),
                reason: Some("agent_error".into()),
                stop_requested: true,
            }),
            Row::Dedup(Arc::new(StoredDedup {
                scope: DedupScope::Queue(queue),
                key: Bytes::from_static(b"web:c-1"),
                content_hash: [1; 16],
                until: Timestamp(3),
                answer: 7,
                nonce: 3,
            })),
            Row::Events(Arc::new(StoredChunk {
                topic: topic.clone(),
                first: Offset(2),
                events: vec![event],
                keep_until: None,
            })),
            Row::Topic(StoredTopic { topic: topic.clone(), first: Offset(1), last: Offset(2) }),
            Row::Cursor(StoredCursor {
                topic,
                subscription: "s".into(),
                position: Position { epoch: Epoch(1), offset: Offset(2) },
            }),
            Row::Meta(StoredMeta { epoch: Epoch(1), seq_ceiling: 1 << 20, token_ceiling: 1 << 50 }),
        ]
    }

    #[test]
    fn the_corpus_holds_a_row_of_every_table() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store_record");
        for row in rows() {
            let head = 6;
            let place = TABLES.iter().position(|table| *table == row.table()).expect("every table");
            let mut seed = vec![u8::try_from(place).expect("few tables")];
            seed.extend_from_slice(encode(7, &row).get(head..).expect("a head"));
            let known = std::fs::read(folder.join(format!("row_{place}"))).unwrap_or_default();
            assert_eq!(known, seed, "the form on disk changed: record {place}");
            store_record(&seed);
        }
    }
}

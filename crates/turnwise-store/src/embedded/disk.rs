//! Row shapes on disk. The order of fields is the format: a change needs a new
//! record version, and the old shape stays readable.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Bytes written in one piece and read back without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob<'a>(pub(super) &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("borrowed bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
                Ok(bytes)
            }
            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<&'de [u8], E> {
                Err(E::custom("bytes that are not borrowed"))
            }
        }
        let bytes = deserializer.deserialize_bytes(Borrowed).map_err(D::Error::custom)?;
        Ok(Blob(bytes))
    }
}

/// (organisation, kind's number, name).
#[derive(Serialize, Deserialize)]
pub(super) struct DiskName<'a>(pub(super) &'a str, pub(super) u8, pub(super) &'a str);

#[derive(Serialize, Deserialize)]
pub(super) struct DiskMessage<'a> {
    #[serde(borrow)]
    pub(super) head: DiskMessageHead<'a>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) payload: Blob<'a>,
    pub(super) at_end: Vec<DiskEffect<'a>>,
}

/// The beginning of a [`DiskMessage`], which can be read alone: what the indexes need.
#[derive(Serialize, Deserialize)]
pub(super) struct DiskMessageHead<'a> {
    pub(super) nonce: u64,
    #[serde(borrow)]
    pub(super) queue: DiskName<'a>,
    pub(super) key: Option<Blob<'a>>,
    pub(super) priority: u8,
    pub(super) max_attempts: u32,
    pub(super) enqueued_at: i64,
    pub(super) deliver_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum DiskEffect<'a> {
    Enqueue(#[serde(borrow)] DiskNewMessage<'a>),
    Publish(DiskNewEvent<'a>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskNewMessage<'a> {
    #[serde(borrow)]
    pub(super) queue: DiskName<'a>,
    pub(super) key: Option<Blob<'a>>,
    pub(super) priority: u8,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) payload: Blob<'a>,
    pub(super) deliver_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) max_attempts: u32,
    pub(super) dedup: Option<DiskNewDedup<'a>>,
    pub(super) lane_max: Option<u32>,
    pub(super) at_end: Vec<DiskEffect<'a>>,
    pub(super) nonce: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskNewEvent<'a> {
    #[serde(borrow)]
    pub(super) topic: DiskName<'a>,
    pub(super) event_type: &'a str,
    pub(super) data: Blob<'a>,
    pub(super) dedup: Option<DiskNewDedup<'a>>,
    pub(super) keep_until: Option<i64>,
}

/// The window is (seconds, nanoseconds).
#[derive(Serialize, Deserialize)]
pub(super) struct DiskNewDedup<'a> {
    #[serde(borrow)]
    pub(super) key: Blob<'a>,
    pub(super) window: (u64, u32),
    pub(super) content_hash: [u8; 16],
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskState<'a> {
    pub(super) attempt: u32,
    pub(super) stage: u8,
    pub(super) place: u64,
    pub(super) not_before: Option<i64>,
    pub(super) token: Option<u64>,
    pub(super) lease_expires_at: Option<i64>,
    #[serde(borrow)]
    pub(super) reason: Option<&'a str>,
    pub(super) stop_requested: bool,
}

/// Scope: 0 is a queue, 1 a topic.
#[derive(Serialize, Deserialize)]
pub(super) struct DiskDedup<'a> {
    pub(super) scope: u8,
    #[serde(borrow)]
    pub(super) name: DiskName<'a>,
    pub(super) key: Blob<'a>,
    pub(super) content_hash: [u8; 16],
    pub(super) until: i64,
    pub(super) answer: u64,
    pub(super) nonce: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskChunk<'a> {
    #[serde(borrow)]
    pub(super) topic: DiskName<'a>,
    pub(super) first: u64,
    pub(super) keep_until: Option<i64>,
    pub(super) events: Vec<DiskEvent<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskEvent<'a> {
    pub(super) offset: u64,
    pub(super) event_type: &'a str,
    #[serde(borrow)]
    pub(super) data: Blob<'a>,
    pub(super) appended_at: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskTopic<'a> {
    #[serde(borrow)]
    pub(super) topic: DiskName<'a>,
    pub(super) first: u64,
    pub(super) last: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskCursor<'a> {
    #[serde(borrow)]
    pub(super) topic: DiskName<'a>,
    pub(super) subscription: &'a str,
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiskMeta {
    pub(super) epoch: u64,
    pub(super) seq_ceiling: u64,
    pub(super) token_ceiling: u64,
}

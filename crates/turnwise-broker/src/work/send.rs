//! Storing messages in a queue (clauses Q1, Q2, Q10, Q11).

use super::WorkQueue;
use crate::broker::Broker;
use crate::conversation::push_bytes;
use crate::error::BrokerError;
use crate::limits::QUEUE_DEDUP_WINDOW;
use crate::orgs::nonce_for;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::Duration;
use turnwise_core::{
    Dedup, Enqueued, Headers, MessageId, NewMessage, OrderingKey, Priority, StoreError, Timestamp,
};

/// A point in time as a client says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkTime {
    /// Then.
    At(Timestamp),
    /// So long from now.
    In(Duration),
}

impl WorkTime {
    fn counted_from(self, now: Timestamp) -> Timestamp {
        match self {
            WorkTime::At(at) => at,
            WorkTime::In(after) => now.after(after),
        }
    }
}

/// What makes a repeat harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkDedup {
    /// The message's own key.
    Own(String),
    /// The key of a batch, and the message's place in it.
    OfBatch(String, u32),
}

impl WorkDedup {
    /// On disk: never change it.
    fn key(&self) -> Bytes {
        let mut key = Vec::new();
        match self {
            WorkDedup::Own(own) => {
                key.push(0);
                push_bytes(&mut key, own.as_bytes());
            }
            WorkDedup::OfBatch(batch, place) => {
                key.push(1);
                push_bytes(&mut key, batch.as_bytes());
                key.extend_from_slice(&place.to_be_bytes());
            }
        }
        Bytes::from(key)
    }
}

/// A message to be stored, checked by the gateway.
#[derive(Clone, Debug)]
pub struct WorkMessage {
    /// Any JSON.
    pub payload: Bytes,
    /// Messages of one key come in order, one at a time.
    pub key: Option<String>,
    /// 0 to 9, 9 first; 4 if none.
    pub priority: Option<u8>,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// Not before.
    pub deliver: Option<WorkTime>,
    /// Never from then on; by the queue's policy if none.
    pub expires: Option<WorkTime>,
    /// Leases it may take; by the queue's policy if none.
    pub max_attempts: Option<u32>,
    /// Makes a repeat harmless.
    pub dedup: Option<WorkDedup>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkSent {
    /// It is stored.
    New {
        /// Its id.
        id: MessageId,
        /// Its place among the messages of its key, the one in progress counted; none without a key.
        position: Option<u64>,
    },
    /// It was stored before, under the same dedup key with the same content.
    Duplicate(MessageId),
    /// Its dedup key was used before with other content; it is not stored.
    Conflict(MessageId),
    /// The store could not take this one, or may not have.
    Failed(StoreError),
}

impl Broker {
    /// Stores messages in their order; they survive a crash when this returns. Answer i is about message i.
    ///
    /// # Errors
    /// `WorkFull`, `OrgsFull`: nothing was stored. After [`StoreError::Unknown`] a repeat is safe with dedup keys.
    pub async fn send_work(
        &self,
        queue: &WorkQueue,
        messages: Vec<WorkMessage>,
    ) -> Result<Vec<WorkSent>, BrokerError> {
        let inner = &self.0;
        let count = messages.len() as u64;
        let policy = inner.work.records.policy(queue);
        if let Some(full) = inner.work.levels.full_for(&inner.config, &policy, queue, count) {
            return Err(BrokerError::WorkFull(full));
        }
        let orgs_max = inner.config.orgs_max;
        let remembered = inner.orgs.remember(inner.store.as_ref(), queue.org(), orgs_max).await;
        let is_known = remembered.map_err(|error| match error {
            // What failed came before the messages themselves.
            StoreError::Unknown(why) => StoreError::Unavailable(why),
            other => other,
        })?;
        if !is_known {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let keyed: Vec<bool> = messages.iter().map(|message| message.key.is_some()).collect();
        let now = inner.now();
        let batch = messages.into_iter().map(|message| {
            let random = (inner.nonce)();
            let expires = message.expires.or(policy.ttl().map(WorkTime::In));
            let dedup = message.dedup.as_ref().map(|dedup| Dedup {
                key: dedup.key(),
                window: QUEUE_DEDUP_WINDOW,
                content_hash: content_hash(&message),
            });
            NewMessage {
                queue: queue.0.clone(),
                key: message.key.map(|key| OrderingKey(Bytes::from(key.into_bytes()))),
                priority: message.priority.map_or(Priority::default(), Priority),
                headers: message.headers,
                payload: message.payload,
                deliver_at: message.deliver.map(|time| time.counted_from(now)).filter(|at| *at > now),
                expires_at: expires.map(|time| time.counted_from(now)),
                max_attempts: message.max_attempts.unwrap_or(policy.max_attempts).max(1),
                dedup,
                lane_max: None,
                at_end: Vec::new(),
                nonce: nonce_for(queue.org(), random),
            }
        });
        let answers = inner.store.enqueue(batch.collect()).await?;
        let sent: Vec<WorkSent> =
            answers.into_iter().zip(keyed).map(|(answer, keyed)| became(answer, keyed)).collect();
        let stored = sent.iter().filter(|one| matches!(one, WorkSent::New { .. })).count() as u64;
        let repeated = sent.iter().filter(|one| matches!(one, WorkSent::Duplicate(_))).count() as u64;
        inner.work.counts.sent.add(stored);
        inner.work.counts.repeated.add(repeated);
        if stored > 0 {
            inner.work.levels.stored(queue, stored);
        }
        Ok(sent)
    }
}

fn became(answer: Result<Enqueued, StoreError>, keyed: bool) -> WorkSent {
    match answer {
        Ok(Enqueued::New { id, position, .. }) => WorkSent::New { id, position: keyed.then_some(position) },
        Ok(Enqueued::Duplicate(id)) => WorkSent::Duplicate(id),
        Ok(Enqueued::DedupConflict(id)) => WorkSent::Conflict(id),
        Ok(Enqueued::LaneFull) => {
            WorkSent::Failed(StoreError::Corrupt("a lane without a limit was full".to_owned()))
        }
        Err(error) => WorkSent::Failed(error),
    }
}

/// Of all that a client says about a message, as it says it: a delay is the same when it is repeated. On disk: never
/// change it.
fn content_hash(message: &WorkMessage) -> [u8; 16] {
    let mut content = Vec::with_capacity(message.payload.len() + 128);
    push_bytes(&mut content, &message.payload);
    push_bytes(&mut content, message.key.as_deref().unwrap_or_default().as_bytes());
    content.push(u8::from(message.key.is_some()));
    content.push(message.priority.unwrap_or(u8::MAX));
    for (name, value) in &message.headers {
        push_bytes(&mut content, name.as_bytes());
        push_bytes(&mut content, value.as_bytes());
    }
    for time in [message.deliver, message.expires] {
        let (kind, number) = match time {
            None => (0, 0),
            Some(WorkTime::At(at)) => (1, at.0),
            Some(WorkTime::In(after)) => (2, i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
        };
        content.push(kind);
        content.extend_from_slice(&number.to_be_bytes());
    }
    content.extend_from_slice(&message.max_attempts.unwrap_or(0).to_be_bytes());
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(digest) {
        *to = from;
    }
    hash
}

//! Appending to a stream and closing it, each in one step.

use super::fork::Fate;
use super::json;
use super::life::{Life, Producer, after_append};
use super::log::Decision;
use super::offset::StreamOffset;
use super::record::{Append, Step};
use super::{StreamRefusal, topic};
use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::limits::STREAM_BYTES_MAX;
use bytes::Bytes;
use turnwise_core::{Timestamp, TopicName};

/// Who appends, and how often it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamProducer {
    /// Names it over restarts.
    pub id: String,
    /// Greater with each restart.
    pub epoch: u64,
    /// From 0 on in each epoch.
    pub seq: u64,
}

/// What is to be appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamAppend {
    /// What it says it is; not asked for when there are no bytes.
    pub content_type: String,
    /// Bytes; for a stream of JSON a value, or a list of them.
    pub body: Bytes,
    /// Makes a repeat harmless.
    pub producer: Option<StreamProducer>,
    /// Must be greater than that of the append before.
    pub seq: Option<String>,
    /// Nothing comes after it.
    pub close: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamAppended {
    /// Stored, or nothing but a close that was done before.
    Done {
        /// The end of the stream.
        next: StreamOffset,
        /// Whether it is closed.
        closed: bool,
    },
    /// The producer has appended this before; nothing was stored.
    Repeat {
        /// The end of the stream.
        next: StreamOffset,
        /// Whether it is closed.
        closed: bool,
        /// The highest of the producer's that was taken.
        seq: u64,
    },
    /// Not stored.
    Refused(StreamRefusal),
}

/// A decision that needs to know whether forks live.
enum Answer {
    Known(StreamAppended),
    /// Over or deleted.
    Dead,
}

impl Broker {
    /// Appends to a stream, or closes it, or both in one. Durable when it returns.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn append_to_stream(
        &self,
        org: &str,
        name: &str,
        append: StreamAppend,
    ) -> Result<StreamAppended, BrokerError> {
        let inner = &self.0;
        let topic = topic(org, name)?;
        let mut values: Option<Result<Bytes, StreamRefusal>> = None;
        let decide = |told: &super::life::Told, slot: u64, now: Timestamp| {
            let Some(life) = &told.life else {
                return Decision::Answer(Answer::Known(StreamAppended::Refused(StreamRefusal::NotFound)));
            };
            if life.deleted || life.is_over(now) {
                return Decision::Answer(Answer::Dead);
            }
            decide(life, slot, now, &append, &mut values)
        };
        match inner.transact(&topic, decide).await? {
            Answer::Known(answer) => Ok(answer),
            Answer::Dead => Ok(StreamAppended::Refused(inner.refusal_of_dead(&topic).await?)),
        }
    }
}

impl Inner {
    /// What is said of a stream that is over or deleted.
    pub(super) async fn refusal_of_dead(&self, topic: &TopicName) -> Result<StreamRefusal, BrokerError> {
        Ok(match self.fate(topic).await?.1 {
            Fate::Gone => StreamRefusal::Gone,
            Fate::Absent | Fate::Alive(_) => StreamRefusal::NotFound,
        })
    }
}

fn decide(
    life: &Life,
    slot: u64,
    now: Timestamp,
    append: &StreamAppend,
    values: &mut Option<Result<Bytes, StreamRefusal>>,
) -> Decision<Answer> {
    let answered = |answer| Decision::Answer(Answer::Known(answer));
    let refused = |refusal| answered(StreamAppended::Refused(refusal));
    let (next, closed) = (life.tail, life.closed);
    match append.producer.as_ref().map(|producer| standing(life, producer, now)) {
        Some(Err(refusal)) if !(closed && matches!(refusal, StreamRefusal::SeqGap { .. })) => {
            return refused(refusal);
        }
        Some(Ok(Some(seq))) => return answered(StreamAppended::Repeat { next, closed, seq }),
        Some(_) | None => {}
    }
    let only_closes = append.close && append.body.is_empty();
    if closed && only_closes && append.producer.is_none() {
        return answered(StreamAppended::Done { next, closed });
    }
    if closed {
        return refused(StreamRefusal::Closed(next));
    }
    if !append.body.is_empty()
        && json::media_type(&append.content_type) != json::media_type(&life.content_type)
    {
        return refused(StreamRefusal::ContentType(life.content_type.clone()));
    }
    if let Some(seq) = &append.seq
        && life.seq.as_ref().is_some_and(|last| seq.as_bytes() <= last.as_bytes())
    {
        return refused(StreamRefusal::Seq);
    }
    let payload = match values.get_or_insert_with(|| taken(&append.body, &life.content_type)) {
        Ok(payload) => payload.clone(),
        Err(refusal) => return refused(refusal.clone()),
    };
    if life.tail.bytes + payload.len() as u64 > STREAM_BYTES_MAX {
        return refused(StreamRefusal::TooLong);
    }
    let producer = append.producer.as_ref();
    let step = Append {
        producer: producer.map(|p| (p.id.clone(), Producer { epoch: p.epoch, seq: p.seq, at: now.0 })),
        seq: append.seq.clone(),
        close: append.close,
    };
    let after = after_append(life, &step, slot, payload.len(), now);
    let done = StreamAppended::Done { next: after.tail, closed: after.closed };
    Decision::Take(Step::Append(step), payload, Some(Box::new(after)), Answer::Known(done))
}

/// The bytes of a body as they are kept.
fn taken(body: &Bytes, content_type: &str) -> Result<Bytes, StreamRefusal> {
    if body.is_empty() || !json::is_json(content_type) {
        return Ok(body.clone());
    }
    let values = json::values(body)?;
    if values.is_empty() { Err(StreamRefusal::NoValues) } else { Ok(values) }
}

/// Whether an append of this producer comes next (`None`), or was taken before: then its highest that was.
fn standing(life: &Life, producer: &StreamProducer, now: Timestamp) -> Result<Option<u64>, StreamRefusal> {
    let StreamProducer { id, epoch, seq } = producer;
    let gap = |expected| Err(StreamRefusal::SeqGap { expected, received: *seq });
    match life.producers.get(id) {
        None if !life.has_room(id, now) => Err(StreamRefusal::ProducersFull),
        None if *seq > 0 => gap(0),
        None => Ok(None),
        Some(known) if *epoch < known.epoch => Err(StreamRefusal::StaleEpoch { epoch: known.epoch }),
        Some(known) if *epoch > known.epoch && *seq > 0 => Err(StreamRefusal::EpochBegin),
        Some(known) if *epoch > known.epoch => Ok(None),
        Some(known) if *seq <= known.seq => Ok(Some(known.seq)),
        Some(known) if *seq > known.seq + 1 => gap(known.seq + 1),
        Some(_) => Ok(None),
    }
}

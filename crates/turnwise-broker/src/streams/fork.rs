//! What a fork begins with, and how long the streams it came from are kept.

use super::create::StreamFork;
use super::json;
use super::life::{ForkRef, ForkedFrom, Life, Segment};
use super::log::{Decision, Seen};
use super::offset::StreamOffset;
use super::page::{self, Gathered, StreamFrom};
use super::record::{self, Step};
use super::{StreamRefusal, topic};
use crate::broker::Inner;
use crate::error::BrokerError;
use crate::limits::{STREAM_FORK_PENDING, STREAM_FORKS_LOOKED_AT, STREAM_FORKS_MAX, STREAM_SEGMENTS_MAX};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use turnwise_core::{Offset, Position, Read, ReadFrom, Timestamp, TopicName};

/// What becomes of who asks for a stream.
#[derive(Debug)]
pub(super) enum Fate {
    /// There is none.
    Absent,
    /// Deleted or over, and kept for its forks.
    Gone,
    Alive(Box<Life>),
}

/// What a fork begins with.
#[derive(Clone, Debug)]
pub(super) struct Inherited {
    /// The stream it comes from, as it was.
    pub(super) source: Life,
    pub(super) forked_from: ForkedFrom,
    pub(super) segments: Vec<Segment>,
    /// The first bytes of the append behind the place, if they were asked for.
    pub(super) prefix: Bytes,
}

impl Inner {
    /// What is there now under this name.
    pub(super) async fn fate(&self, topic: &TopicName) -> Result<(Seen, Fate), BrokerError> {
        let seen = self.look(topic, Instant::now()).await?;
        let mut left = STREAM_FORKS_LOOKED_AT;
        let fate = self.fate_of(topic, &seen, &mut left).await?;
        Ok((seen, fate))
    }

    fn fate_of<'a>(
        &'a self,
        topic: &'a TopicName,
        seen: &'a Seen,
        left: &'a mut u32,
    ) -> BoxFuture<'a, Result<Fate, BrokerError>> {
        async move {
            let Some(life) = seen.life() else { return Ok(Fate::Absent) };
            let now = self.now();
            if !life.deleted && !life.is_over(now) {
                return Ok(Fate::Alive(Box::new(life.clone())));
            }
            for fork in &life.forks {
                if self.is_needed(topic.org(), fork, now, left).await? {
                    return Ok(Fate::Gone);
                }
            }
            Ok(Fate::Absent)
        }
        .boxed()
    }

    /// Whether a fork, or one of its own, still reads what it inherited.
    async fn is_needed(
        &self,
        org: &str,
        fork: &ForkRef,
        now: Timestamp,
        left: &mut u32,
    ) -> Result<bool, BrokerError> {
        if *left == 0 {
            return Ok(true);
        }
        *left -= 1;
        let topic = topic(org, &fork.name)?;
        let seen = self.look(&topic, Instant::now()).await?;
        if seen.life().is_some_and(|life| life.id == fork.life) {
            return Ok(!matches!(self.fate_of(&topic, &seen, left).await?, Fate::Absent));
        }
        let is_new = now.since(Timestamp(fork.at)) < STREAM_FORK_PENDING;
        Ok(is_new && seen.told.ended != Some(fork.life))
    }

    /// What a fork of this stream begins with.
    pub(super) async fn inherit(
        &self,
        org: &str,
        fork: &StreamFork,
    ) -> Result<Result<Inherited, StreamRefusal>, BrokerError> {
        let from = topic(org, &fork.from)?;
        let (seen, fate) = self.fate(&from).await?;
        let life = match fate {
            Fate::Alive(life) => *life,
            Fate::Gone => return Ok(Err(StreamRefusal::SourceGone)),
            Fate::Absent => return Ok(Err(StreamRefusal::NotFound)),
        };
        let at = match fork.offset {
            None => life.tail,
            Some(offset) => match self.place(&from, &seen, &life, offset).await? {
                Some(at) => at,
                None => {
                    return Ok(Err(StreamRefusal::BadFork(
                        "Stream-Fork-Offset must be an offset of the stream",
                    )));
                }
            },
        };
        let prefix = match fork.sub {
            0 => Bytes::new(),
            sub => match self.part_behind(&from, &seen, &life, at, sub).await? {
                Some(prefix) => prefix,
                None => {
                    return Ok(Err(StreamRefusal::BadFork(
                        "Stream-Fork-Sub-Offset must not be more than the append behind the offset has",
                    )));
                }
            },
        };
        let segments = segments(&life, &fork.from, at);
        if segments.len() > STREAM_SEGMENTS_MAX {
            return Ok(Err(StreamRefusal::BadFork("A fork of a fork of a fork cannot be forked for ever")));
        }
        let forked_from = ForkedFrom { name: fork.from.clone(), offset: fork.offset, at, sub: fork.sub };
        Ok(Ok(Inherited { source: life, forked_from, segments, prefix }))
    }

    /// An offset as it is: with the bytes before it, if it is one.
    async fn place(
        &self,
        from: &TopicName,
        seen: &Seen,
        life: &Life,
        offset: StreamOffset,
    ) -> Result<Option<StreamOffset>, BrokerError> {
        let Ok(at) = page::start(seen, life, StreamFrom::At(offset)) else { return Ok(None) };
        let known = [page::start(seen, life, StreamFrom::Start).unwrap_or_default(), life.base, life.tail];
        if let Some(known) = known.into_iter().find(|known| known.slot == at.slot) {
            return Ok(Some(known));
        }
        let segment = life.segments.iter().find(|segment| at.slot <= segment.until);
        let (topic, slot, id) = match segment {
            Some(part) => {
                (topic(from.org(), &part.name)?, part.begin + at.slot.saturating_sub(part.base), part.life)
            }
            None => (from.clone(), life.slot_of(at.slot), life.id),
        };
        let after = Position { epoch: seen.epoch, offset: Offset(slot.saturating_sub(1)) };
        let events = match self.store.read(&topic, ReadFrom::After(after), 1).await? {
            Read::Events { events, .. } => events,
            Read::Gap { .. } => return Ok(None),
        };
        let record = events.first().and_then(record::read).filter(|record| record.head.life == id);
        let record = record.filter(|record| !record.payload.is_empty());
        Ok(record.map(|record| StreamOffset { slot: at.slot, bytes: record.head.bytes }))
    }

    /// The first bytes, or values, of the append behind a place.
    async fn part_behind(
        &self,
        from: &TopicName,
        seen: &Seen,
        life: &Life,
        at: StreamOffset,
        sub: u64,
    ) -> Result<Option<Bytes>, BrokerError> {
        let mut next = Gathered::new(at, 1);
        self.gather(from, seen, life, &mut next).await?;
        let Some(append) = next.pieces.into_iter().next() else { return Ok(None) };
        if json::is_json(&life.content_type) {
            return Ok(json::first(&append, sub));
        }
        let bytes = usize::try_from(sub).ok().filter(|bytes| *bytes <= append.len());
        Ok(bytes.map(|bytes| append.slice(..bytes)))
    }

    /// Notes with the source that it has a fork, before the fork is there.
    pub(super) async fn announce_fork(
        &self,
        source: &TopicName,
        life: u64,
        fork: ForkRef,
    ) -> Result<Result<(), StreamRefusal>, BrokerError> {
        loop {
            let announced = self.transact(source, |told, _, now| {
                let found = told.life.as_ref().filter(|found| found.id == life);
                let Some(found) = found.filter(|found| !found.deleted && !found.is_over(now)) else {
                    return Decision::Answer(Err(StreamRefusal::SourceGone));
                };
                if found.forks.len() >= STREAM_FORKS_MAX {
                    return Decision::Answer(Err(StreamRefusal::ForksFull));
                }
                let mut after = Box::new(found.clone());
                after.forks.push(fork.clone());
                Decision::Take(Step::Whole(after.clone()), Bytes::new(), Some(after), Ok(()))
            });
            match announced.await? {
                Err(StreamRefusal::ForksFull) if self.forget_forks(source).await? => {}
                announced => return Ok(announced),
            }
        }
    }

    /// Forgets the forks of a stream that are not there any more; whether there were some.
    async fn forget_forks(&self, source: &TopicName) -> Result<bool, BrokerError> {
        let seen = self.look(source, Instant::now()).await?;
        let Some(life) = seen.life() else { return Ok(false) };
        let (now, mut left, mut dead) = (self.now(), STREAM_FORKS_LOOKED_AT, Vec::new());
        for fork in &life.forks {
            if !self.is_needed(source.org(), fork, now, &mut left).await? {
                dead.push(fork.life);
            }
        }
        if dead.is_empty() {
            return Ok(false);
        }
        self.transact(source, |told, _, _| {
            let Some(life) = &told.life else { return Decision::Answer(()) };
            let mut after = Box::new(life.clone());
            after.forks.retain(|fork| !dead.contains(&fork.life));
            Decision::Take(Step::Whole(after.clone()), Bytes::new(), Some(after), ())
        })
        .await?;
        Ok(true)
    }
}

/// What a fork of this stream at this place is made of.
fn segments(life: &Life, name: &str, at: StreamOffset) -> Vec<Segment> {
    let own = Segment {
        name: name.to_owned(),
        life: life.id,
        begin: life.begin,
        base: life.base.slot,
        until: at.slot,
    };
    let inherited = life.segments.iter().cloned();
    let cut = |segment: Segment| Segment { until: segment.until.min(at.slot), ..segment };
    inherited.chain([own]).filter(|segment| segment.base < at.slot).map(cut).collect()
}

//! Creating a stream, or making sure that it is there.

use super::fork::{Fate, Inherited};
use super::json;
use super::life::{ForkRef, Life};
use super::log::Decision;
use super::offset::StreamOffset;
use super::record::Step;
use super::{StreamRefusal, StreamView, topic};
use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::limits::{
    STREAM_BYTES_MAX, STREAMS_COUNTED_FOR, STREAMS_FULL_FOR, STREAMS_PER_ORG_MAX, TOPICS_PAGE,
};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use tokio::time::Instant;
use turnwise_core::{Kind, Name, Offset, Timestamp, TopicName, TopicPattern};

/// What a stream without a type holds.
const TYPE_USUAL: &str = "application/octet-stream";

/// Another stream to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFork {
    /// Its name.
    pub from: String,
    /// Up to here; up to its end unless said.
    pub offset: Option<StreamOffset>,
    /// And so many bytes, or JSON values, of the append behind that.
    pub sub: u64,
}

/// A stream as it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRequest {
    /// What it holds; a fork has its source's unless said.
    pub content_type: Option<String>,
    /// Seconds without a read or write after which it is over.
    pub ttl_s: Option<u64>,
    /// When it is over.
    pub expires_at: Option<Timestamp>,
    /// Nothing more is appended.
    pub closed: bool,
    /// What it begins with.
    pub fork: Option<StreamFork>,
    /// What comes after that.
    pub body: Bytes,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCreated {
    /// It is new.
    New(StreamView),
    /// It was there, just so. Its bytes are not compared.
    Known(StreamView),
    /// It is not there, or another one.
    Refused(StreamRefusal),
}

impl Broker {
    /// Makes sure that a stream is there. Durable when it returns.
    ///
    /// # Errors
    /// When the store does not answer; the org is new and as many as may be are known.
    pub async fn create_stream(
        &self,
        org: &str,
        name: &str,
        request: StreamRequest,
    ) -> Result<StreamCreated, BrokerError> {
        let inner = &self.0;
        let orgs_max = inner.config.orgs_max;
        if !inner.orgs.remember(inner.store.as_ref(), org, orgs_max).await? {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let topic = topic(org, name)?;
        let (seen, fate) = inner.fate(&topic).await?;
        match fate {
            Fate::Alive(life) => return Ok(compared(&life, &request)),
            Fate::Gone => return Ok(StreamCreated::Refused(StreamRefusal::NameKept)),
            Fate::Absent => {}
        }
        if inner.streams_of(org).await? >= STREAMS_PER_ORG_MAX {
            return Ok(StreamCreated::Refused(StreamRefusal::StreamsFull));
        }
        let inherited = match &request.fork {
            None => None,
            Some(fork) => match inner.inherit(org, fork).await? {
                Ok(inherited) => Some(inherited),
                Err(refusal) => return Ok(StreamCreated::Refused(refusal)),
            },
        };
        let (life, payload) = match begun(&request, inherited.as_ref(), (inner.nonce)(), inner.now()) {
            Ok(begun) => begun,
            Err(refusal) => return Ok(StreamCreated::Refused(refusal)),
        };
        if let Some(inherited) = &inherited {
            let source = super::topic(org, &inherited.forked_from.name)?;
            let fork = ForkRef { name: name.to_owned(), life: life.id, at: inner.now().0 };
            if let Err(refusal) = inner.announce_fork(&source, inherited.source.id, fork).await? {
                return Ok(StreamCreated::Refused(refusal));
            }
        }
        inner.begin_life(&topic, seen.life().map(|over| over.id), life, payload, &request).await
    }
}

impl Inner {
    /// The first step of a stream. `over`: what was there before, which nobody needs any more.
    async fn begin_life(
        &self,
        topic: &TopicName,
        over: Option<u64>,
        life: Life,
        payload: Bytes,
        request: &StreamRequest,
    ) -> Result<StreamCreated, BrokerError> {
        let decide = |told: &super::life::Told, slot: u64, _: Timestamp| {
            if let Some(other) = told.life.as_ref().filter(|found| Some(found.id) != over) {
                return Decision::Answer((slot, compared(other, request)));
            }
            let life = placed(life.clone(), slot, payload.len());
            let created = StreamCreated::New(StreamView::of(&life));
            let life = Box::new(life);
            Decision::Take(Step::Whole(life.clone()), payload.clone(), Some(life), (slot, created))
        };
        let (slot, created) = self.transact(topic, decide).await?;
        if matches!(created, StreamCreated::New(_)) {
            if let Some((_, count)) = self.streams.counted.lock().get_mut(topic.org()) {
                *count += 1;
            }
            if slot > 1 {
                self.store.trim(topic, Offset(slot)).await?;
            }
        }
        Ok(created)
    }

    /// About how many streams an org has.
    async fn streams_of(&self, org: &str) -> Result<u64, BrokerError> {
        let now = Instant::now();
        if let Some((at, count)) = self.streams.counted.lock().get(org).copied() {
            let good_for = if count < STREAMS_PER_ORG_MAX { STREAMS_COUNTED_FOR } else { STREAMS_FULL_FOR };
            if now.duration_since(at) < good_for {
                return Ok(count);
            }
        }
        let pattern = TopicPattern(Name::new(org, Kind::Stream, ">")?);
        let (mut count, mut after) = (0_u64, None);
        while count < STREAMS_PER_ORG_MAX {
            let page = self.store.topics(&pattern, after, TOPICS_PAGE).await?;
            count += page.len() as u64;
            match page.last() {
                Some(last) if page.len() >= TOPICS_PAGE as usize => after = Some(last.topic.clone()),
                Some(_) | None => break,
            }
        }
        self.streams.counted.lock().insert(org.to_owned(), (now, count));
        Ok(count)
    }
}

/// A stream as it begins, and its first bytes; where is not known yet.
fn begun(
    request: &StreamRequest,
    inherited: Option<&Inherited>,
    id: u64,
    now: Timestamp,
) -> Result<(Life, Bytes), StreamRefusal> {
    let source = inherited.map(|inherited| &inherited.source);
    let usual = || source.map_or(TYPE_USUAL, |source| &source.content_type).to_owned();
    let content_type = request.content_type.clone().unwrap_or_else(usual);
    if let Some(source) = source
        && json::media_type(&source.content_type) != json::media_type(&content_type)
    {
        return Err(StreamRefusal::ContentType(source.content_type.clone()));
    }
    let has_time = request.ttl_s.is_some() || request.expires_at.is_some();
    let time = source.filter(|_| !has_time);
    let is_json = json::is_json(&content_type);
    let own = match request.body.is_empty() {
        false if is_json => json::values(&request.body)?,
        _ => request.body.clone(),
    };
    let prefix = inherited.map(|inherited| inherited.prefix.clone()).unwrap_or_default();
    let payload = if is_json { json::joined(prefix, &own) } else { behind(prefix, own) };
    let base = inherited.map(|inherited| inherited.forked_from.at).unwrap_or_default();
    if base.bytes + payload.len() as u64 > STREAM_BYTES_MAX {
        return Err(StreamRefusal::TooLong);
    }
    let life = Life {
        id,
        begin: 0,
        content_type,
        ttl_s: time.map_or(request.ttl_s, |source| source.ttl_s),
        expires_at: time.map_or(request.expires_at.map(|at| at.0), |source| source.expires_at),
        forked_from: inherited.map(|inherited| inherited.forked_from.clone()),
        segments: inherited.map(|inherited| inherited.segments.clone()).unwrap_or_default(),
        base,
        tail: base,
        closed: request.closed,
        seq: None,
        touched_at: now.0,
        producers: BTreeMap::new(),
        forks: Vec::new(),
        deleted: false,
    };
    Ok((life, payload))
}

fn behind(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut both = BytesMut::from(&first[..]);
    both.extend_from_slice(&second);
    both.freeze()
}

/// The same at its place in the topic.
fn placed(mut life: Life, slot: u64, payload: usize) -> Life {
    life.begin = slot - 1;
    if life.forked_from.is_none() {
        // Offsets of a stream that had this name before lie before all of this one's.
        life.base = StreamOffset { slot: life.begin, bytes: 0 };
        life.tail = life.base;
    }
    if payload > 0 {
        life.tail = StreamOffset { slot: life.offset_of(slot), bytes: life.base.bytes + payload as u64 };
    }
    life
}

/// Whether what is there is what was asked for.
fn compared(life: &Life, request: &StreamRequest) -> StreamCreated {
    let differs = |what| StreamCreated::Refused(StreamRefusal::Differs(what));
    let is_fork = request.fork.is_some();
    let said = request.content_type.as_deref();
    let content_type = said.unwrap_or(if is_fork { &life.content_type } else { TYPE_USUAL });
    if json::media_type(content_type) != json::media_type(&life.content_type) {
        return differs("content type");
    }
    let has_time = request.ttl_s.is_some() || request.expires_at.is_some();
    let same_time = (request.ttl_s, request.expires_at) == (life.ttl_s, life.expires_at.map(Timestamp));
    if !same_time && (has_time || !is_fork) {
        return differs("TTL or expiry");
    }
    if request.closed != life.closed {
        return differs("closure");
    }
    if let Some(fork) = &request.fork {
        let same = life.forked_from.as_ref().is_some_and(|from| {
            let at = fork.offset.is_none_or(|offset| offset.slot == from.at.slot);
            let was_said = fork.offset.is_some() == from.offset.is_some();
            from.name == fork.from && from.sub == fork.sub && at && was_said
        });
        if !same {
            return differs("source");
        }
    }
    StreamCreated::Known(StreamView::of(life))
}

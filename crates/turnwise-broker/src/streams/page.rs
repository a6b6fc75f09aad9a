//! Reading a stretch of a stream, which may begin in the streams it was forked
//! from. As much as one page, however long the stream is.

use super::life::{Life, Segment};
use super::log::Seen;
use super::offset::StreamOffset;
use super::record;
use super::{StreamRefusal, StreamView, topic};
use crate::broker::Inner;
use crate::error::BrokerError;
use crate::limits::{STREAM_EMPTY_PAGES_MAX, STREAM_PAGE_BYTES, STREAM_STEPS_PAGE};
use bytes::Bytes;
use turnwise_core::{Offset, Position, Read, ReadFrom, TopicName};

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFrom {
    /// With the first byte.
    Start,
    /// Behind the last one.
    Now,
    /// Here.
    At(StreamOffset),
}

/// A stretch of a stream.
#[derive(Clone, Debug)]
pub struct StreamPage {
    /// The stream.
    pub view: StreamView,
    /// Where the stretch begins.
    pub start: StreamOffset,
    /// Where to read on.
    pub next: StreamOffset,
    /// Its bytes, in the pieces they were appended in. Of a JSON stream: values with commas between them.
    pub pieces: Vec<Bytes>,
    /// It is all there was behind `start`.
    pub up_to_date: bool,
}

impl StreamPage {
    /// Nothing comes after it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.up_to_date && self.view.closed
    }
}

/// What is gathered of a page.
pub(super) struct Gathered {
    pub(super) pieces: Vec<Bytes>,
    pub(super) next: StreamOffset,
    bytes: usize,
    pieces_max: usize,
    /// Reads that may still be done.
    reads_left: u32,
}

impl Gathered {
    pub(super) fn new(from: StreamOffset, pieces_max: usize) -> Gathered {
        Gathered { pieces: Vec::new(), next: from, bytes: 0, pieces_max, reads_left: STREAM_EMPTY_PAGES_MAX }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let is_short = self.bytes + bytes <= STREAM_PAGE_BYTES;
        self.pieces.is_empty() || (is_short && self.pieces.len() < self.pieces_max)
    }
}

/// How far a part was read.
#[derive(PartialEq, Eq)]
enum Part {
    Ended,
    /// There was no more room.
    Full,
    /// It is not there any more.
    Lost,
}

impl Inner {
    /// The stretch of a stream that begins at an offset of its.
    pub(super) async fn page(
        &self,
        topic: &TopicName,
        seen: &Seen,
        life: &Life,
        start: StreamOffset,
    ) -> Result<Result<StreamPage, StreamRefusal>, BrokerError> {
        let mut gathered = Gathered::new(start, STREAM_STEPS_PAGE as usize);
        let mut is_all = start.slot >= life.tail.slot;
        if !is_all {
            match self.gather(topic, seen, life, &mut gathered).await? {
                None => return Ok(Err(StreamRefusal::Gone)),
                Some(all) => is_all = all,
            }
        }
        let Gathered { pieces, next, .. } = gathered;
        Ok(Ok(StreamPage { view: StreamView::of(life), start, next, pieces, up_to_date: is_all }))
    }

    /// Reads on from where what is gathered ends. Whether that was all; `None` if a part is not there any more.
    pub(super) async fn gather(
        &self,
        own: &TopicName,
        seen: &Seen,
        life: &Life,
        gathered: &mut Gathered,
    ) -> Result<Option<bool>, BrokerError> {
        for segment in &life.segments {
            if gathered.next.slot < segment.until {
                let source = topic(own.org(), &segment.name)?;
                match self.gather_part(&source, seen, segment, gathered).await? {
                    Part::Ended => {}
                    Part::Full => return Ok(Some(false)),
                    Part::Lost => return Ok(None),
                }
            }
        }
        let part = Segment {
            name: String::new(),
            life: life.id,
            begin: life.begin,
            base: life.base.slot,
            until: life.offset_of(seen.told.last),
        };
        gathered.next = gathered.next.max(life.base);
        Ok(match self.gather_part(own, seen, &part, gathered).await? {
            Part::Ended => Some(true),
            Part::Full => Some(false),
            Part::Lost => None,
        })
    }

    async fn gather_part(
        &self,
        topic: &TopicName,
        seen: &Seen,
        part: &Segment,
        gathered: &mut Gathered,
    ) -> Result<Part, BrokerError> {
        let own = |offset: u64| part.begin + offset.saturating_sub(part.base);
        let until = own(part.until);
        let mut at = own(gathered.next.slot);
        while at < until {
            if gathered.reads_left == 0 {
                gathered.next.slot = part.base + (at - part.begin);
                return Ok(Part::Full);
            }
            gathered.reads_left -= 1;
            let after = Position { epoch: seen.epoch, offset: Offset(at) };
            let events = match self.store.read(topic, ReadFrom::After(after), STREAM_STEPS_PAGE).await? {
                Read::Events { events, .. } => events,
                Read::Gap { .. } => return Ok(Part::Lost),
            };
            if events.is_empty() {
                return Ok(Part::Lost);
            }
            for event in events.iter().filter(|event| event.offset.0 <= until) {
                let of_life = record::read(event).filter(|record| record.head.life == part.life);
                if let Some(record) = of_life.filter(|record| !record.payload.is_empty()) {
                    if !gathered.has_room_for(record.payload.len()) {
                        return Ok(Part::Full);
                    }
                    let slot = part.base + (event.offset.0 - part.begin);
                    gathered.next = StreamOffset { slot, bytes: record.head.bytes };
                    gathered.bytes += record.payload.len();
                    gathered.pieces.push(record.payload);
                }
                at = event.offset.0;
            }
        }
        Ok(Part::Ended)
    }
}

/// The offset a read begins at, if it is one of this stream.
pub(super) fn start(seen: &Seen, life: &Life, from: StreamFrom) -> Result<StreamOffset, StreamRefusal> {
    let first = first(life);
    match from {
        StreamFrom::Start => Ok(first),
        StreamFrom::Now => Ok(life.tail),
        StreamFrom::At(offset) if offset == StreamOffset::default() => Ok(first),
        StreamFrom::At(offset) if offset.slot < first.slot => Err(StreamRefusal::OffsetGone),
        StreamFrom::At(offset) if offset.slot > life.offset_of(seen.told.last) => {
            Err(StreamRefusal::BadOffset("The offset is behind the end of the stream"))
        }
        StreamFrom::At(offset) => Ok(offset),
    }
}

/// Before its first byte.
fn first(life: &Life) -> StreamOffset {
    match life.segments.first() {
        Some(segment) => StreamOffset { slot: segment.base, bytes: 0 },
        None => life.base,
    }
}

//! Follows the bytes of a connection from request to request: where the next
//! head begins, and whether what came so far may go on.

use super::chunks::Chunks;
use super::head::{Framing, Reader};
use super::refusal::Refusal;

/// Where a connection's bytes stand.
#[derive(Debug)]
pub(crate) struct Follower(Place);

#[derive(Debug)]
enum Place {
    Head(Reader),
    Body(u64),
    Chunks(Box<Chunks>),
}

/// Why no more bytes may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The next head is refused.
    Refused(Refusal),
    /// The body in progress breaks off.
    Broken,
}

impl Follower {
    pub(crate) fn new() -> Follower {
        Follower(Place::Head(Reader::default()))
    }

    /// Goes on with `bytes`, which begin where the last call's answer ended:
    /// how many of them may go on, and why no more if that is for ever. The
    /// rest is the beginning of a head and is to come again, with more.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (taken, stop) = self.read_once(rest);
            at += taken;
            if taken == 0 || stop.is_some() {
                return (at, stop);
            }
        }
        (at, None)
    }

    /// The same up to the end of a head or of a body.
    pub(crate) fn read_once(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let (taken, next) = match &mut self.0 {
            Place::Head(reader) => match reader.read(bytes) {
                Err(refusal) => return (0, Some(Stop::Refused(refusal))),
                Ok(None) => return (0, None),
                Ok(Some(head)) => match head.framing {
                    Framing::Length(0) => (head.bytes, Some(Place::Head(Reader::default()))),
                    Framing::Length(left) => (head.bytes, Some(Place::Body(left))),
                    Framing::Chunked => (head.bytes, Some(Place::Chunks(Box::default()))),
                },
            },
            Place::Body(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                (taken, (*left == 0).then(|| Place::Head(Reader::default())))
            }
            Place::Chunks(chunks) => match chunks.read(bytes) {
                Err(_) => return (0, Some(Stop::Broken)),
                Ok(taken) => (taken, chunks.is_over().then(|| Place::Head(Reader::default()))),
            },
        };
        if let Some(next) = next {
            self.0 = next;
        }
        (taken, None)
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.0, Place::Head(_))
    }
}

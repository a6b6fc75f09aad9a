//! What waits to be written to one connection: whole frames, bounded by who
//! fills it. Everything that is there goes out in one call to the kernel, and
//! an event's bytes are those that all its readers share.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use turnwise_broker::{SubscriptionPlace, TopicEvent};

/// Pieces handed to the kernel at once.
const PIECES_WRITTEN_MAX: usize = 64;

/// One frame, or several that belong together.
pub(super) enum Piece {
    Frame(Bytes),
    /// An event that carries its frame.
    Event(Arc<TopicEvent>),
    /// No bytes: up to here the client has got everything.
    Place(SubscriptionPlace),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Frame(bytes) => bytes,
            Piece::Event(event) => event.frame.get().map(|bytes| &**bytes).unwrap_or_default(),
            Piece::Place(_) => &[],
        }
    }

    fn place(&self) -> Option<SubscriptionPlace> {
        match self {
            Piece::Frame(_) => None,
            Piece::Event(event) => event.place,
            Piece::Place(place) => Some(*place),
        }
    }
}

#[derive(Default)]
pub(super) struct Out {
    pieces: VecDeque<Piece>,
    /// Of the first piece, so many bytes are written.
    begun: usize,
    bytes: usize,
    /// Of them, those that are no events: what the client itself asked for.
    answers: usize,
    /// Of the last event that is written.
    place: Option<SubscriptionPlace>,
}

impl Out {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of them, those of answers.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    pub(super) fn push(&mut self, piece: Piece) {
        let bytes = piece.bytes().len();
        self.bytes += bytes;
        if let Piece::Frame(_) = piece {
            self.answers += bytes;
        }
        self.pieces.push_back(piece);
        self.drop_written();
    }

    /// Gives up what no part of is written. What is begun must go on: a frame cannot be taken back.
    pub(super) fn give_up(&mut self) {
        self.pieces.truncate(usize::from(self.begun > 0));
        self.bytes = self.pieces.front().map_or(0, |piece| piece.bytes().len() - self.begun);
        self.answers = 0;
    }

    /// The place of a client that gets all that is written and all that waits.
    pub(super) fn place(&self) -> Option<SubscriptionPlace> {
        self.pieces.iter().rev().find_map(Piece::place).or(self.place)
    }

    /// Writes what there is; ready when nothing is left.
    pub(super) fn poll_write(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            ready!(stream.poll_write_ready(cx))?;
            let mut slices = [IoSlice::new(&[]); PIECES_WRITTEN_MAX];
            let mut skip = self.begun;
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece.bytes().get(skip..).unwrap_or_default());
                (skip, count) = (0, count + 1);
            }
            let written = match slices.get(..count) {
                Some([one]) => stream.try_write(one),
                several => stream.try_write_vectored(several.unwrap_or_default()),
            };
            match written {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.begun += written;
        self.drop_written();
    }

    fn drop_written(&mut self) {
        while let Some(length) = self.pieces.front().map(|piece| piece.bytes().len())
            && self.begun >= length
        {
            self.begun -= length;
            let Some(piece) = self.pieces.pop_front() else { return };
            if let Piece::Frame(_) = piece {
                self.answers = self.answers.saturating_sub(length);
            }
            self.place = piece.place().or(self.place);
        }
    }
}

//! A connection from which the library gets only requests that are beyond
//! doubt. A head is held back until it is whole and then goes on unchanged; in
//! place of one that is refused, or too slow, a request that stands for the
//! refusal goes on, and nothing after it. A head that comes in one piece is
//! read where it lies, without a copy.

use super::follow::{Follower, Stop};
use super::refusal::Refusal;
use crate::limits::{LINGER_BYTES_MAX, LINGER_MAX};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes read at once while what comes is thrown away.
const LINGER_READ_BYTES: usize = 4 * 1024;

/// Checks what is read from `io`; writes pass through.
pub(crate) struct Strict<I> {
    io: I,
    follower: Follower,
    /// The beginning of a head.
    held: Vec<u8>,
    /// What goes on next, and how much of it has.
    passing: Option<(Vec<u8>, usize)>,
    stop: Option<Stop>,
    /// What is answered to whatever comes.
    answer: Option<Refusal>,
    /// A whole head has come.
    begun: bool,
    head_time_max: Duration,
    /// Runs while a head is awaited that should be here.
    patience: Option<Pin<Box<Sleep>>>,
    /// Bytes thrown away since the end of our last answer.
    lingering: Option<usize>,
}

impl<I> Strict<I> {
    /// The first head, and each head once it has begun, may take `head_time_max`.
    pub(crate) fn new(io: I, head_time_max: Duration) -> Strict<I> {
        Strict {
            io,
            follower: Follower::new(),
            held: Vec::new(),
            passing: None,
            stop: None,
            answer: None,
            begun: false,
            head_time_max,
            patience: None,
            lingering: None,
        }
    }

    /// What it stands before, for another protocol, and the bytes that came behind the last request. None: something
    /// was refused.
    pub(crate) fn into_inner(self) -> Option<(I, Vec<u8>)> {
        (self.stop.is_none() && self.passing.is_none()).then_some((self.io, self.held))
    }

    /// Refuses whatever comes first, if it comes within `time_max`.
    pub(crate) fn refusing(io: I, time_max: Duration, answer: Refusal) -> Strict<I> {
        Strict { answer: Some(answer), ..Strict::new(io, time_max) }
    }

    /// Takes what has just been read into `out` after its first `before` bytes.
    fn take(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        if let Some(answer) = self.answer {
            out.set_filled(before);
            return self.end(Stop::Refused(answer));
        }
        let fresh = out.filled().get(before..).unwrap_or_default();
        if self.held.is_empty() {
            let (passed, stop) = self.follower.read(fresh);
            if stop.is_none() {
                self.held.extend_from_slice(fresh.get(passed..).unwrap_or_default());
            }
            out.set_filled(before + passed);
            self.passed(passed, stop);
            return;
        }
        self.held.extend_from_slice(fresh);
        out.set_filled(before);
        let (passed, stop) = self.follower.read(&self.held);
        let rest = self.held.split_off(passed);
        let whole = std::mem::replace(&mut self.held, rest);
        if passed > 0 {
            self.passing = Some((whole, 0));
        }
        self.passed(passed, stop);
    }

    fn passed(&mut self, bytes: usize, stop: Option<Stop>) {
        if bytes > 0 {
            self.begun = true;
            self.patience = None;
        }
        if let Some(stop) = stop {
            self.end(stop);
        }
    }

    /// Lets nothing more through; a refusal goes on after what is on its way.
    fn end(&mut self, stop: Stop) {
        self.held = Vec::new();
        self.patience = None;
        self.stop = Some(stop);
        if let Stop::Refused(refusal) = stop {
            let passing = self.passing.get_or_insert_default();
            passing.0.extend_from_slice(&refusal.as_request());
        }
    }

    /// Moves on what waits, as far as there is room.
    fn pass(&mut self, out: &mut ReadBuf<'_>) {
        let Some((bytes, done)) = &mut self.passing else { return };
        let rest = bytes.get(*done..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(out.remaining())).unwrap_or_default();
        out.put_slice(piece);
        *done += piece.len();
        if *done == bytes.len() {
            self.passing = None;
        }
    }

    /// Whether the head that should come takes too long. Between requests the
    /// library has a time of its own.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.begun && self.held.is_empty() {
            return false;
        }
        let time = self.head_time_max;
        self.patience.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx).is_ready()
    }

    /// Whether the client may be sending what nobody reads.
    fn is_interrupted(&self) -> bool {
        self.stop.is_some() || !self.held.is_empty() || !self.follower.is_at_head()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Strict<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        loop {
            self.pass(out);
            if out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match self.stop {
                // The answer to the refusal ends the connection.
                Some(Stop::Refused(_)) => return Poll::Pending,
                Some(Stop::Broken) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunks")));
                }
                None => {}
            }
            if Pin::new(&mut self.io).poll_read(cx, out)?.is_ready() {
                if out.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                self.take(out, before);
            } else if !self.is_late(cx) {
                return Poll::Pending;
            } else if self.held.is_empty() {
                // Nothing was asked, so there is nothing to answer.
                return Poll::Ready(Ok(()));
            } else {
                self.end(Stop::Refused(Refusal::SlowHead));
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Strict<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says that nothing more comes. If the client may still be sending, reads
    /// and forgets for a while: a connection that is closed over unread bytes
    /// is reset, and the client might never see our last answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut bytes = match this.lingering {
            Some(bytes) => bytes,
            None => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                if !this.is_interrupted() {
                    return Poll::Ready(Ok(()));
                }
                this.patience = Some(Box::pin(sleep(LINGER_MAX)));
                0
            }
        };
        let mut scratch = [0; LINGER_READ_BYTES];
        while bytes < LINGER_BYTES_MAX {
            let mut piece = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => bytes += piece.filled().len(),
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    this.lingering = Some(bytes);
                    return match &mut this.patience {
                        Some(patience) => patience.as_mut().poll(cx).map(Ok),
                        None => Poll::Ready(Ok(())),
                    };
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

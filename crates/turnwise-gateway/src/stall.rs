//! A connection whose other side has stopped reading: a write that makes no
//! progress for so long fails, which ends the connection and frees its slot.

use crate::counters::Counters;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Passes everything on to `io`; its writes may wait for `stall_max` at a time.
pub(crate) struct Stalling<I> {
    io: I,
    stall_max: Duration,
    counters: Arc<Counters>,
    /// Runs while a write waits.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<I> Stalling<I> {
    pub(crate) fn new(io: I, stall_max: Duration, counters: Arc<Counters>) -> Stalling<I> {
        Stalling { io, stall_max, counters, patience: None }
    }
}

impl<I> Stalling<I> {
    /// What it stands before.
    pub(crate) fn into_inner(self) -> I {
        self.io
    }
}

impl<I: AsyncWrite + Unpin> Stalling<I> {
    /// One step of a write: any answer is progress, waiting is bounded.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(answer) = step(Pin::new(&mut self.io), cx) {
            self.patience = None;
            return Poll::Ready(answer);
        }
        let stall_max = self.stall_max;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        match patience.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.patience = None;
                self.counters.stalled.one();
                let why = "the client has stopped reading";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stalling<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stalling<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush of TCP is done at once and tells nothing about the client.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(cx, |io, cx| io.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(cx, |io, cx| io.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const STALL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_given_up_on() {
        let (near, _far) = duplex(16);
        let mut near = Stalling::new(near, STALL, Arc::default());
        let start = tokio::time::Instant::now();
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_each_time_anew() {
        let (near, mut far) = duplex(16);
        let mut near = Stalling::new(near, STALL, Arc::default());
        let slow = async {
            let mut piece = [0; 16];
            let mut seen = 0;
            while seen < 64 {
                sleep(STALL - Duration::from_secs(1)).await;
                seen += far.read(&mut piece[..]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 64]), slow);
        written.unwrap();
    }
}

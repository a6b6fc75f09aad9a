//! Events as a response body. Those that are there together share one write.
//! The stream of events has at most one page read ahead of the reader, which
//! the store bounds in bytes, and here waits at most one chunk or one longer
//! event: so much memory a slow reader costs, and it delays nobody.

use super::encoder;
use crate::ends::Ends;
use crate::held::Room;
use crate::limits::{CLOSING_LOOK, HEARTBEAT, RECONNECT_MS, RECONNECT_SPREAD_MS, STREAM_CHUNK_BYTES};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use turnwise_broker::BrokerError;

/// Something that is sent as a server-sent event.
pub(crate) trait Shown {
    /// Writes it; true if it is the last one.
    fn write(self, out: &mut BytesMut) -> bool;
}

/// The body of a stream.
pub(crate) struct Live<S> {
    events: Pin<Box<S>>,
    /// Differs between readers, so that they do not come back all at once.
    lot: u64,
    buffer: BytesMut,
    ended: bool,
    /// The turn's end is among what was written.
    whole: bool,
    once_delivered: Option<Box<dyn FnOnce() + Send>>,
    /// It has no last event: when the node stops there is nothing to wait for.
    endless: bool,
    /// For a piece with a long event.
    room: Room,
    /// The end of the silence until the next comment, or until the last words.
    speak_at: Instant,
    /// Goes off then at the latest.
    heartbeat: Pin<Box<Sleep>>,
    rings_at: Instant,
    /// It was polled since it was set, and wakes by itself.
    is_timed: bool,
    closing: bool,
    ends: Ends,
}

impl<T: Shown, S: Stream<Item = Result<T, BrokerError>>> Live<S> {
    /// `revoked`: the reader's key was taken away.
    pub(crate) fn new(
        lot: u64,
        events: S,
        room: Room,
        shutdown: CancellationToken,
        revoked: CancellationToken,
    ) -> Live<S> {
        let mut buffer = BytesMut::new();
        encoder::retry(&mut buffer, RECONNECT_MS);
        Live {
            events: Box::pin(events),
            lot,
            buffer,
            ended: false,
            whole: false,
            once_delivered: None,
            endless: false,
            room,
            speak_at: Instant::now() + HEARTBEAT,
            heartbeat: Box::pin(tokio::time::sleep(HEARTBEAT)),
            rings_at: Instant::now() + HEARTBEAT,
            is_timed: false,
            closing: false,
            ends: Ends::new(shutdown, revoked),
        }
    }

    /// Its events have no end.
    pub(crate) fn endless(mut self) -> Live<S> {
        self.endless = true;
        self
    }

    /// Called when the turn's end was taken for writing.
    pub(crate) fn once_delivered(&mut self, then: impl FnOnce() + Send + 'static) {
        self.once_delivered = Some(Box::new(then));
    }

    /// Gathers what is there, up to one chunk.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.buffer.len() < STREAM_CHUNK_BYTES {
            match self.events.as_mut().poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(event))) => {
                    self.ended = event.write(&mut self.buffer);
                    self.whole = self.ended;
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(%error, "an event stream broke off");
                    encoder::comment(&mut self.buffer, "interrupted, reconnect with Last-Event-ID");
                    self.ended = true;
                }
                Poll::Ready(None) => self.ended = true,
            }
        }
    }

    /// In place of a long event for which there is no room: who comes back with
    /// the last id gets it then.
    fn give_way(&mut self) -> Bytes {
        encoder::retry(&mut self.buffer, RECONNECT_MS);
        encoder::comment(&mut self.buffer, "busy, reconnect with Last-Event-ID");
        (self.ended, self.whole) = (true, false);
        self.buffer.split().freeze()
    }

    /// Where and when to come back, as the node goes away.
    fn last_words(&mut self) {
        let pause = spread(self.lot);
        encoder::retry(&mut self.buffer, pause);
        encoder::comment(&mut self.buffer, "going away, reconnect with Last-Event-ID");
        self.ended = true;
    }

    fn put_off_heartbeat(&mut self) {
        let silence = if self.closing { CLOSING_LOOK } else { HEARTBEAT };
        self.speak_at = Instant::now() + silence;
        if self.speak_at < self.rings_at {
            self.ring_at(self.speak_at);
        }
    }

    fn ring_at(&mut self, at: Instant) {
        self.heartbeat.as_mut().reset(at);
        (self.rings_at, self.is_timed) = (at, false);
    }

    /// Ready when it was silent for too long. Of many readers that are woken together, none touches its timer before.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if self.is_timed && now < self.rings_at {
                return Poll::Pending;
            }
            self.is_timed = true;
            ready!(self.heartbeat.as_mut().poll(cx));
            if now >= self.speak_at {
                return Poll::Ready(());
            }
            self.ring_at(self.speak_at);
        }
    }
}

impl<T: Shown, S: Stream<Item = Result<T, BrokerError>>> Body for Live<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.ends.poll(cx);
        if !self.ended && self.ends.is_revoked() {
            // What is gathered is still the reader's; nothing more is looked up for it.
            encoder::comment(&mut self.buffer, "key revoked, reconnect with a valid one and Last-Event-ID");
            self.ended = true;
        }
        self.fill(cx);
        if self.endless && !self.ended && self.ends.is_closing() {
            self.last_words();
        }
        if self.buffer.is_empty() {
            if self.ended {
                if let Some(then) = self.once_delivered.take().filter(|_| self.whole) {
                    then();
                }
                return Poll::Ready(None);
            }
            if !self.closing && self.ends.is_closing() {
                self.closing = true;
                self.put_off_heartbeat();
            }
            ready!(self.poll_silence(cx));
            if self.closing {
                self.last_words();
            } else {
                encoder::comment(&mut self.buffer, "keep-alive");
            }
        }
        self.put_off_heartbeat();
        let chunk = self.buffer.split().freeze();
        let chunk = match self.room.hold(chunk) {
            Some(chunk) => chunk,
            None => self.give_way(),
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

/// When a reader comes back to a node that went away: not all at once.
fn spread(lot: u64) -> u32 {
    let (least, more) = RECONNECT_SPREAD_MS;
    least + u32::try_from(lot % u64::from(more)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::turn::OfTurn;
    use http_body_util::BodyExt;
    use turnwise_broker::{TurnError, TurnEvent};
    use turnwise_core::MessageId;

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments_until_the_shutdown() {
        let shutdown = CancellationToken::new();
        let silence = futures_util::stream::pending::<Result<OfTurn, BrokerError>>();
        let mut body =
            Box::pin(Live::new(2, silence, Room::new(0), shutdown.clone(), CancellationToken::new()));
        let start = Instant::now();
        let mut next = async || match body.frame().await {
            Some(Ok(frame)) => frame.into_data().ok(),
            _ => None,
        };
        assert_eq!(next().await.as_deref(), Some(b"retry: 2000\n\n".as_slice()));
        for beat in 1..=3 {
            assert_eq!(next().await.as_deref(), Some(b": keep-alive\n\n".as_slice()));
            assert_eq!(start.elapsed(), HEARTBEAT * beat);
        }
        shutdown.cancel();
        let last = next().await.unwrap_or_default();
        let last = String::from_utf8_lossy(&last).into_owned();
        let (retry, comment) = last.split_once("\n\n").expect("two lines");
        let pause: u32 = retry.strip_prefix("retry: ").expect("a pause").parse().expect("a number");
        let (least, more) = RECONNECT_SPREAD_MS;
        assert!((least..least + more).contains(&pause), "{last}");
        assert!(comment.starts_with(": going away"), "{last}");
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn events_that_are_there_share_a_chunk_and_nothing_follows_the_last() {
        let error =
            TurnError { code: "agent_timeout".to_owned(), status: 504, detail: "a \"b\"\n".to_owned() };
        let position = "1-2".parse().expect("a position in its own form");
        let events = [TurnEvent::Queued, TurnEvent::Error { position, error }, TurnEvent::Queued];
        let of_turn = |event| Ok(OfTurn { id: MessageId::new(1, 2), event });
        let stream = futures_util::stream::iter(events.map(of_turn));
        let body = Live::new(2, stream, Room::new(0), CancellationToken::new(), CancellationToken::new());
        let mut body = Box::pin(body);
        let first = body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        let text = String::from_utf8(first.unwrap_or_default().to_vec()).unwrap_or_default();
        assert!(text.starts_with("retry: 2000\n\nevent: queued\ndata: {\"message_id\":\""), "{text}");
        assert!(
            text.contains("event: error\ndata: {\"error\":\"a \\\"b\\\"\\n\",\"code\":\"agent_timeout\""),
            "{text}"
        );
        assert!(text.ends_with("}\n\n"));
        assert!(body.frame().await.is_none());
    }
}

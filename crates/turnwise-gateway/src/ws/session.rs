//! One connection: what it reads, what it is sent, and how it ends. A single
//! task that holds no buffer while nothing happens.

use super::agents::{self, Agent};
use super::connections::Entry;
use super::frames;
use super::framing::{self, Broken, CloseCode, Incoming, Reader};
use super::out::{Out, Piece};
use super::requests::{self, Answer, Asked};
use super::topics::Topics;
use crate::app::App;
use crate::auth::Caller;
use crate::body::UNIT_BYTES;
use crate::drain::Phase;
use crate::ends::Ends;
use crate::limits::{
    LAST_WORD, SMALL_BODY_BYTES_MAX, STREAM_CHUNK_BYTES, WS_ANSWERS_BYTES_MAX, WS_CLOSE_TIME_MAX,
    WS_PING_EVERY, WS_READ_BYTES, WS_SILENCE_MAX,
};
use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use turnwise_api::ServerFrame;
use turnwise_broker::{BusClosed, BusEvent, Sharing};

/// What every part of a connection needs.
pub(super) struct About {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) entry: Entry,
    pub(super) manner: Manner,
}

/// How an agent takes part.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    pub(super) sharing: Sharing,
    pub(super) presence: bool,
}

/// Where a connection is on its way to its end.
enum Stage {
    Open,
    /// Our close frame is on its way, or was sent.
    Closing {
        until: Instant,
        /// The client has closed, or has left.
        heard: bool,
        /// We have said that nothing more comes.
        shut: bool,
    },
}

pub(super) struct Session {
    about: About,
    stream: TcpStream,
    reader: Reader,
    /// Bytes that came and are not read yet.
    unread: Bytes,
    share: Share,
    out: Out,
    topics: Topics,
    /// Once it is connected as one.
    agent: Option<Agent>,
    /// Requests to other agents that wait for their answers.
    requests: FuturesUnordered<BoxFuture<'static, Bytes>>,
    /// What the client has asked for and waits for; it is heard again when that is answered.
    asked: Option<BoxFuture<'static, Answer>>,
    stage: Stage,
    /// The last sign of life.
    heard: Instant,
    ping_at: Instant,
    /// Since then nothing could be written.
    stalled: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// It was polled since it was set.
    is_timed: bool,
    ends: Ends,
}

/// Serves a connection until it ends. `early` came right behind the handshake.
pub(super) async fn run(
    about: About,
    stream: TcpStream,
    early: Bytes,
    refused: Option<(CloseCode, &'static str)>,
) {
    let now = Instant::now();
    let mut session = Session {
        reader: Reader::new(about.app.config.ws_frame_bytes_max),
        unread: early,
        share: Share { app: Arc::clone(&about.app), units: 0 },
        out: Out::default(),
        topics: Topics::default(),
        agent: None,
        requests: FuturesUnordered::new(),
        asked: None,
        stage: Stage::Open,
        heard: now,
        ping_at: now + WS_PING_EVERY,
        stalled: None,
        timer: Box::pin(sleep(WS_PING_EVERY)),
        is_timed: false,
        ends: Ends::new(about.app.drain.closing(), about.caller.revoked()),
        about,
        stream,
    };
    match refused {
        Some((code, reason)) => session.close(code, reason),
        None => {
            let timestamp = requests::now(&session.about);
            let connection_id = session.about.entry.id();
            session.out.push(frames::piece(&ServerFrame::Connected { connection_id, timestamp }));
            session.asked = agents::join(&session.about);
        }
    }
    let ended = poll_fn(|cx| session.poll(cx)).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a WebSocket connection broke off");
    }
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_around(cx);
        loop {
            let mut moved = self.poll_asked(cx);
            let more = self.poll_events(cx) | self.poll_agent(cx);
            self.poll_write(cx)?;
            // What there was no room for, now there may be.
            moved |= more && self.has_room();
            moved |= self.poll_read(cx)?;
            if let Poll::Ready(()) = self.poll_end(cx) {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Whether more is taken for the client.
    fn has_room(&self) -> bool {
        matches!(self.stage, Stage::Open) && self.out.bytes() < STREAM_CHUNK_BYTES
    }

    /// What comes from elsewhere than the client: the node stops, the key is taken away, time passes.
    fn look_around(&mut self, cx: &mut Context<'_>) {
        if matches!(self.stage, Stage::Open) {
            self.ends.poll(cx);
            if self.ends.is_revoked() {
                self.close(CloseCode::Unauthorized, "key_revoked");
            } else if self.ends.is_closing() {
                self.close(CloseCode::GoingAway, "going_away");
            }
        }
        // Once polled, it wakes by itself.
        while !self.is_timed || self.timer.is_elapsed() {
            self.is_timed = true;
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            let now = Instant::now();
            self.tick(now);
            let next = self.next_tick(now);
            self.timer.as_mut().reset(next);
            self.is_timed = false;
        }
    }

    fn tick(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        let stall_max = self.about.app.config.write_stall_max;
        if self.stalled.is_some_and(|since| now >= since + stall_max) {
            self.about.app.counters.stalled.one();
            self.out.give_up();
            return self.close(CloseCode::TooSlow, "too_slow");
        }
        if now >= self.heard + WS_SILENCE_MAX {
            self.out.give_up();
            return self.close(CloseCode::Silent, "silent");
        }
        if now >= self.ping_at {
            self.ping_at = now + WS_PING_EVERY;
            let mut both = BytesMut::new();
            framing::ping(&mut both);
            frames::put(&mut both, &ServerFrame::Ping { timestamp: requests::now(&self.about) });
            self.out.push(Piece::Frame(both.freeze()));
        }
    }

    fn next_tick(&self, now: Instant) -> Instant {
        let next = match self.stage {
            Stage::Closing { until, .. } => until,
            Stage::Open => {
                let stall_max = self.about.app.config.write_stall_max;
                let stalled = self.stalled.map(|since| since + stall_max);
                let silent = (self.heard + WS_SILENCE_MAX).min(self.ping_at);
                stalled.map_or(silent, |stalled| stalled.min(silent))
            }
        };
        // A time that is past and was answered comes no second time at once.
        next.max(now + std::time::Duration::from_millis(1))
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(asked) = &mut self.asked else { return false };
        let Poll::Ready(answer) = asked.as_mut().poll(cx) else { return false };
        self.asked = None;
        match answer {
            Answer::Frame(frame) => self.out.push(Piece::Frame(frame)),
            Answer::Joined(agent) => self.agent = Some(*agent),
            Answer::NotJoined(code, reason) => self.close(code, reason),
            Answer::Subscribed(subscribed) => self.topics.begin(*subscribed, &self.about.entry),
            Answer::Add(wish) => {
                let id = wish.id.clone();
                if let Err(failure) = self.topics.add(wish, &self.about.entry) {
                    self.out.push(Piece::Frame(frames::error(&failure, id.as_deref())));
                }
            }
            Answer::Remove(wish, id) => match self.topics.remove(wish, id.as_deref(), &self.about.entry) {
                Ok(None) => {}
                Ok(Some(frame)) => self.out.push(Piece::Frame(frame)),
                Err(failure) => self.out.push(Piece::Frame(frames::error(&failure, id.as_deref()))),
            },
        }
        true
    }

    /// Takes what the topics have, as far as it can be written soon; true if there may be more.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> bool {
        if !matches!(self.stage, Stage::Open) {
            return false;
        }
        match self.topics.poll(cx, &mut self.out, &self.about) {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "a WebSocket's subscription broke off");
                self.close(CloseCode::Internal, "store_unavailable");
                false
            }
        }
    }

    /// Takes what other agents say, as far as it can be written soon; true if there may be more.
    fn poll_agent(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.requests.is_empty()
            && let Poll::Ready(Some(answer)) = self.requests.poll_next_unpin(cx)
        {
            self.out.push(Piece::Frame(answer));
        }
        while self.has_room() {
            let Some(agent) = &mut self.agent else { return false };
            let Poll::Ready(Some(event)) = agent.events.poll_next_unpin(cx) else { return false };
            match event {
                BusEvent::Closed(BusClosed::TooSlow) => self.close(CloseCode::TooSlow, "too_slow"),
                BusEvent::Closed(BusClosed::GoingAway) => self.close(CloseCode::GoingAway, "going_away"),
                event => {
                    if let Some(frame) = agents::shown(&event).filter(|frame| !frame.is_empty()) {
                        self.out.push(Piece::Frame(frame));
                    }
                }
            }
        }
        self.agent.is_some()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.out.poll_write(&self.stream, cx) {
            Poll::Ready(done) => {
                self.stalled = None;
                done
            }
            Poll::Pending => {
                if self.stalled.is_none() {
                    let now = Instant::now();
                    self.stalled = Some(now);
                    let next = self.next_tick(now);
                    if next < self.timer.deadline() {
                        self.timer.as_mut().reset(next);
                        // Registers it: it is not looked at again before it is due.
                        let _ = self.timer.as_mut().poll(cx);
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether the client is listened to: it waits for no answer, and takes those it got.
    fn listens(&self) -> bool {
        match self.stage {
            Stage::Closing { heard, .. } => !heard,
            Stage::Open => {
                self.asked.is_none()
                    && !self.topics.is_changing()
                    && self.out.answers() < WS_ANSWERS_BYTES_MAX
            }
        }
    }

    /// Reads on; true if something came of it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while self.listens() {
            if !self.unread.is_empty() {
                let bytes = std::mem::take(&mut self.unread);
                let mut rest = &*bytes;
                self.take(&mut rest);
                self.unread = bytes.slice_ref(rest);
                moved = true;
                continue;
            }
            if self.stream.poll_read_ready(cx)?.is_pending() {
                return Ok(moved);
            }
            let mut scratch = [0; WS_READ_BYTES];
            let read = match self.stream.try_read(&mut scratch) {
                Ok(0) => {
                    self.left();
                    return Ok(true);
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            moved = true;
            let mut rest = scratch.get(..read).unwrap_or_default();
            self.take(&mut rest);
            self.unread = Bytes::copy_from_slice(rest);
        }
        Ok(moved)
    }

    /// The client sends nothing more.
    fn left(&mut self) {
        self.unread = Bytes::new();
        match &mut self.stage {
            Stage::Closing { heard, .. } => *heard = true,
            Stage::Open => {
                self.out.give_up();
                self.stage = Stage::Closing { until: Instant::now(), heard: true, shut: false };
            }
        }
    }

    /// Reads frames for as long as the client is listened to.
    fn take(&mut self, bytes: &mut &[u8]) {
        while !bytes.is_empty() && self.listens() {
            match self.reader.read(bytes) {
                Ok(None) => {}
                Ok(Some(incoming)) => {
                    self.heard = Instant::now();
                    self.take_one(incoming);
                }
                Err(Broken { code, reason }) => {
                    *bytes = &[];
                    match &mut self.stage {
                        // What cannot be read on will not become a close frame any more.
                        Stage::Closing { heard, .. } => *heard = true,
                        Stage::Open => self.close(code, reason),
                    }
                }
            }
        }
        if self.share.grow_to(self.reader.held()).is_err() && matches!(self.stage, Stage::Open) {
            self.close(CloseCode::Full, "too many long messages at once");
        }
    }

    fn take_one(&mut self, incoming: Incoming) {
        match (incoming, &mut self.stage) {
            (Incoming::Close(_), Stage::Closing { heard, .. }) => *heard = true,
            (Incoming::Close(code), Stage::Open) => {
                let answer = code.map_or_else(framing::bare_close, |code| framing::close(code, ""));
                self.out.push(Piece::Frame(answer));
                self.end_within(true);
            }
            (Incoming::Ping(payload), Stage::Open) => self.out.push(Piece::Frame(framing::pong(&payload))),
            (Incoming::Text(text), Stage::Open) => {
                let waiting = self.requests.len();
                match requests::read(&self.about, self.agent.as_ref(), waiting, &text, &self.topics) {
                    Asked::Now(frame) => self.out.push(Piece::Frame(frame)),
                    Asked::Later(later) => self.asked = Some(later),
                    Asked::Beside(beside) => self.requests.push(beside),
                    Asked::Nothing => {}
                }
            }
            (Incoming::Pong, _) | (Incoming::Ping(_) | Incoming::Text(_), Stage::Closing { .. }) => {}
        }
    }

    /// Ends the connection, saying why and where the client may go on.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        let reason = match self.out.place() {
            Some(place) => format!("{reason} resume={place}"),
            None => reason.to_owned(),
        };
        self.out.push(Piece::Frame(framing::close(code.number(), &reason)));
        self.about.app.sockets.closed(code);
        self.end_within(false);
    }

    fn end_within(&mut self, heard: bool) {
        self.asked = None;
        self.topics = Topics::default();
        self.agent = None;
        self.requests = FuturesUnordered::new();
        self.about.entry.ends();
        let now = Instant::now();
        let mut until = now + WS_CLOSE_TIME_MAX;
        if self.about.app.drain.phase() == Phase::Closing {
            until = until.min(self.about.app.drain.ends_at().max(now) + LAST_WORD);
        }
        self.stage = Stage::Closing { until, heard, shut: false };
    }

    /// Ready when nothing is left to be done: everything is written and both sides have closed, or it took too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Closing { until, heard, shut } = &mut self.stage else { return Poll::Pending };
        if Instant::now() >= *until {
            return Poll::Ready(());
        }
        if self.timer.deadline() > *until {
            self.timer.as_mut().reset(*until);
            let _ = self.timer.as_mut().poll(cx);
        }
        if *heard && self.out.bytes() == 0 && !*shut {
            *shut = true;
            if Pin::new(&mut self.stream).poll_shutdown(cx).is_pending() {
                return Poll::Pending;
            }
        }
        if !*shut {
            return Poll::Pending;
        }
        // What is still coming is thrown away: closing over unread bytes would reset the connection, and the client
        // might never see our last frame.
        let mut scratch = [0; WS_READ_BYTES];
        loop {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => match self.stream.try_read(&mut scratch) {
                    Ok(0) => return Poll::Ready(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Poll::Ready(()),
                },
            }
        }
    }
}

/// A long message's part of the memory for long bodies.
struct Share {
    app: Arc<App>,
    units: u32,
}

impl Share {
    fn grow_to(&mut self, bytes: usize) -> Result<(), ()> {
        // A buffer that grows is up to twice as long as what is in it.
        let bytes = if bytes <= SMALL_BODY_BYTES_MAX { 0 } else { bytes * 2 };
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(drop)?;
        if units > self.units {
            let more = self.app.large_bodies.try_acquire_many(units - self.units).map_err(drop)?;
            more.forget();
        } else {
            self.app.large_bodies.add_permits((self.units - units) as usize);
        }
        self.units = units;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.app.large_bodies.add_permits(self.units as usize);
    }
}

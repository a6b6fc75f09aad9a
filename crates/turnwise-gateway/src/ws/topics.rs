//! What one connection follows: one subscription whose topics change.

use super::connections::Entry;
use super::frames;
use super::out::{Out, Piece};
use super::session::About;
use crate::error::Failure;
use crate::limits::STREAM_CHUNK_BYTES;
use bytes::Bytes;
use futures_util::Stream;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use turnwise_api::{Code, ServerFrame, Topics as Named};
use turnwise_broker::{
    BrokerError, SubscribeFrom, Subscribed, Subscription, SubscriptionChanges, SubscriptionPlace,
};

/// What is asked for, as it was named.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// As the client wrote them, and as patterns.
    pub(super) topics: Vec<(String, String)>,
    pub(super) from: SubscribeFrom,
    pub(super) id: Option<String>,
}

impl Wish {
    pub(super) fn patterns(&self) -> Vec<String> {
        self.topics.iter().map(|(_, pattern)| pattern.clone()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.topics.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// A subscription that has begun.
pub(super) struct Begun {
    pub(super) wish: Wish,
    pub(super) events: Subscription,
    pub(super) changes: SubscriptionChanges,
}

#[derive(Default)]
pub(super) struct Topics {
    /// By pattern, as the client wrote it.
    named: BTreeMap<String, String>,
    open: Option<Open>,
    /// Asked for, and answered when it holds.
    changing: Option<(Wish, Change)>,
}

struct Open {
    events: Subscription,
    changes: SubscriptionChanges,
}

enum Change {
    /// The subscription's first item is the answer.
    Begin,
    /// These patterns are new.
    Add(Vec<String>),
    Remove,
}

impl Topics {
    /// The client's last wish is not fulfilled yet.
    pub(super) fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    /// Topics and patterns it would follow with these.
    pub(super) fn count_with(&self, wish: &Wish) -> usize {
        let new = wish.topics.iter().filter(|(_, pattern)| !self.named.contains_key(pattern));
        self.named.len() + new.count()
    }

    /// Whether there is a subscription to be changed.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A subscription has begun; the answer is its first item's.
    pub(super) fn begin(&mut self, begun: Begun, entry: &Entry) {
        self.name(&begun.wish, entry);
        self.open = Some(Open { events: begun.events, changes: begun.changes });
        self.changing = Some((begun.wish, Change::Begin));
    }

    fn name(&mut self, wish: &Wish, entry: &Entry) {
        self.named.extend(wish.topics.iter().map(|(name, pattern)| (pattern.clone(), name.clone())));
        entry.follows(self.named.values().cloned().collect());
    }

    /// Adds to the subscription that is open.
    pub(super) fn add(&mut self, wish: Wish, entry: &Entry) -> Result<(), Failure> {
        let Some(open) = &self.open else { return Err(too_busy()) };
        if !open.changes.add(&wish.patterns(), wish.from)? {
            return Err(too_busy());
        }
        let mut new = wish.patterns();
        new.retain(|pattern| !self.named.contains_key(pattern));
        self.name(&wish, entry);
        self.changing = Some((wish, Change::Add(new)));
        Ok(())
    }

    /// Follows these no longer, or none at all. The answer, if there is nothing to wait for.
    pub(super) fn remove(
        &mut self,
        wish: Option<Wish>,
        id: Option<&str>,
        entry: &Entry,
    ) -> Result<Option<Bytes>, Failure> {
        let Some(wish) = wish else {
            self.end(entry);
            return Ok(Some(frames::bytes(&ServerFrame::Unsubscribed { topics: Named::All("all"), id })));
        };
        for (_, pattern) in &wish.topics {
            self.named.remove(pattern);
        }
        entry.follows(self.named.values().cloned().collect());
        if self.named.is_empty() {
            self.end(entry);
        }
        let Some(open) = &self.open else { return Ok(Some(unsubscribed(&wish))) };
        if !open.changes.remove(&wish.patterns())? {
            return Err(too_busy());
        }
        self.changing = Some((wish, Change::Remove));
        Ok(None)
    }

    fn end(&mut self, entry: &Entry) {
        (self.open, self.changing) = (None, None);
        self.named.clear();
        entry.follows(Vec::new());
    }

    /// Puts what is there into `out`, up to one write; true if there may be more.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        about: &About,
    ) -> Result<bool, BrokerError> {
        let mut events = 0;
        let more = loop {
            let Some(open) = &mut self.open else { break false };
            if out.bytes() >= STREAM_CHUNK_BYTES {
                break true;
            }
            let Poll::Ready(next) = Pin::new(&mut open.events).poll_next(cx) else { break false };
            match next {
                Some(Ok(Subscribed::Event(event))) => {
                    events += 1;
                    if !event.frame.get_or_init(|| frames::of_event(&event)).is_empty() {
                        out.push(Piece::Event(event));
                    }
                }
                Some(Ok(Subscribed::Place(place))) => {
                    self.has_begun(place, out);
                    out.push(Piece::Place(place));
                }
                Some(Ok(Subscribed::Changed(place))) => self.has_changed(place, out),
                Some(Ok(Subscribed::Gap(place))) => {
                    self.has_begun(place, out);
                    out.push(frames::piece(&ServerFrame::Gap { resume: &place.to_string() }));
                    out.push(Piece::Place(place));
                }
                Some(Ok(Subscribed::Refused)) => self.refuse(out, &about.entry),
                Some(Err(error)) => return Err(error),
                None => self.open = None,
            }
        };
        about.app.counts.stream_events.add(events);
        Ok(more)
    }

    /// The first item of the subscription is here.
    fn has_begun(&mut self, place: SubscriptionPlace, out: &mut Out) {
        if let Some((wish, _)) = self.changing.take_if(|(_, change)| matches!(change, Change::Begin)) {
            subscribed(&wish, place, out);
        }
    }

    /// The wish that waits holds from here on.
    fn has_changed(&mut self, place: SubscriptionPlace, out: &mut Out) {
        match self.changing.take() {
            None => {}
            Some((wish, Change::Begin | Change::Add(_))) => subscribed(&wish, place, out),
            Some((wish, Change::Remove)) => out.push(Piece::Frame(unsubscribed(&wish))),
        }
    }

    fn refuse(&mut self, out: &mut Out, entry: &Entry) {
        let Some((wish, change)) = self.changing.take() else { return };
        if let Change::Add(new) = change {
            self.named.retain(|pattern, _| !new.contains(pattern));
        }
        entry.follows(self.named.values().cloned().collect());
        out.push(Piece::Frame(frames::error(&too_busy(), wish.id.as_deref())));
    }
}

fn subscribed(wish: &Wish, place: SubscriptionPlace, out: &mut Out) {
    let (topics, place) = (wish.names(), place.to_string());
    let id = wish.id.as_deref();
    out.push(frames::piece(&ServerFrame::Subscribed { topics: &topics, place: &place, id }));
}

fn unsubscribed(wish: &Wish) -> Bytes {
    let topics = wish.names();
    frames::bytes(&ServerFrame::Unsubscribed { topics: Named::Some(&topics), id: wish.id.as_deref() })
}

fn too_busy() -> Failure {
    Failure::new(Code::RateLimited, "Too many topics are being replayed on this connection: wait for them")
        .retry_after(1)
}

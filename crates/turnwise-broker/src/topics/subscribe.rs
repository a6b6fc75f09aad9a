//! Following several topics and patterns as one stream, from now, from the
//! oldest or from a place. Everything comes from the store; what is new, all
//! subscriptions of an organisation on this node read together.

use super::feed::{Listening, Standing, Stretch, events_of};
use super::place::SubscriptionPlace;
use super::{TopicEvent, pattern};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{LOOK_AGAIN, PLACE_INTERVAL, SUBSCRIBED_PAGE};
use crate::wait::next_hint;
use futures_core::stream::BoxStream;
use futures_util::stream::unfold;
use futures_util::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use turnwise_core::{StorePosition, TopicFilter, TopicName, TopicPattern};

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// With what is published from now on.
    Now,
    /// With the oldest that is kept.
    Earliest,
    /// Behind this place.
    After(SubscriptionPlace),
}

/// What a subscriber sees.
#[derive(Clone, Debug)]
pub enum Subscribed {
    /// An event; its place is there.
    Event(Arc<TopicEvent>),
    /// Nothing new, but a place to resume from: first of all, and now and then in a long silence.
    Place(SubscriptionPlace),
    /// Events that followed the last place may not be kept any longer. It goes on here.
    Gap(SubscriptionPlace),
}

/// The events of a subscription. It has no end, but after an error.
pub type Subscription = BoxStream<'static, Result<Subscribed, BrokerError>>;

impl Broker {
    /// Follows public topics of an org: those with these names, or that match these patterns. Each event comes
    /// once, however many of them it matches, in the order in which they were stored.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn subscribe(
        &self,
        org: &str,
        patterns: &[String],
        from: SubscribeFrom,
    ) -> Result<Subscription, BrokerError> {
        let patterns: Result<Arc<[TopicPattern]>, _> =
            patterns.iter().map(|matching| pattern(org, matching)).collect();
        let patterns = patterns?;
        // Before the end is known: what is published behind it is hinted at.
        let hints = self.0.store.watch(TopicFilter::Patterns(patterns.to_vec()));
        let end = self.0.store.end().await?;
        let feed = self.0.feeds.join(org, &patterns, end)?;
        let now = SubscriptionPlace::behind(end);
        let (place, first) = match from {
            SubscribeFrom::Now => (now, Subscribed::Place(now)),
            SubscribeFrom::Earliest => {
                let place = SubscriptionPlace::earliest(end.epoch);
                (place, Subscribed::Place(place))
            }
            // Of this history, but not yet there: it is none that was given out.
            SubscribeFrom::After(place) if place.epoch == end.epoch && place.read_after() > end => {
                (now, Subscribed::Gap(now))
            }
            SubscribeFrom::After(place) => (place, Subscribed::Place(place)),
        };
        let subscriber = Subscriber {
            broker: self.clone(),
            wanted: Some(feed.begun()),
            feed,
            patterns,
            hints: Some(hints),
            place,
            told: (place, Instant::now()),
            pending: VecDeque::from([first]),
            expects: false,
            took: false,
            pause: self.0.config.poll_interval,
            finished: false,
        };
        Ok(unfold(subscriber, Subscriber::step).boxed())
    }
}

struct Subscriber {
    broker: Broker,
    feed: Listening,
    patterns: Arc<[TopicPattern]>,
    hints: Option<BoxStream<'static, TopicName>>,
    place: SubscriptionPlace,
    /// The last place that the reader knows, and since when.
    told: (SubscriptionPlace, Instant),
    pending: VecDeque<Subscribed>,
    /// A look at the store with a greater number than this is wanted.
    wanted: Option<u64>,
    /// A hint came and what it is about did not.
    expects: bool,
    /// Something came since the last hint.
    took: bool,
    /// Until the next look without a hint.
    pause: Duration,
    finished: bool,
}

type Step = Option<(Result<Subscribed, BrokerError>, Subscriber)>;

impl Subscriber {
    async fn step(mut self) -> Step {
        loop {
            if let Some(next) = self.pending.pop_front() {
                let place = match &next {
                    Subscribed::Event(event) => event.place,
                    Subscribed::Place(place) | Subscribed::Gap(place) => Some(*place),
                };
                if let Some(place) = place {
                    self.told = (place, Instant::now());
                }
                return Some((Ok(next), self));
            }
            if self.finished {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.finished = true;
                return Some((Err(error), self));
            }
        }
    }

    /// Puts what is new into `pending`, or waits until there may be something.
    async fn advance(&mut self) -> Result<(), BrokerError> {
        match self.feed.standing(self.place) {
            Standing::Next(stretch) => {
                self.take(&stretch);
                Ok(())
            }
            Standing::Behind(start) => self.catch_up(start).await,
            Standing::AtEnd(end) => {
                self.place = self.place.max(SubscriptionPlace::behind(end));
                match self.wanted {
                    Some(since) if !self.feed.has_looked(since) => self.feed.look(&self.broker, since).await,
                    Some(_) => {
                        self.wanted = None;
                        // A look may have come to the end between our two questions.
                        Ok(())
                    }
                    None => {
                        self.wait().await;
                        Ok(())
                    }
                }
            }
        }
    }

    /// Takes what is ours of events that all read together.
    fn take(&mut self, stretch: &Stretch) {
        if stretch.gap {
            self.gap(stretch.events.first().and_then(|event| event.place));
        }
        for event in &stretch.events {
            let Some(place) = event.place else { continue };
            if place > self.place && self.is_mine(&event.topic) {
                self.pending.push_back(Subscribed::Event(Arc::clone(event)));
            }
        }
        self.took |= !self.pending.is_empty();
        self.place = SubscriptionPlace::behind(stretch.to);
    }

    /// Reads a page for this reader alone, who is behind what the feed holds.
    async fn catch_up(&mut self, start: StorePosition) -> Result<(), BrokerError> {
        let after = self.place.read_after();
        let page = self.broker.0.store.read_many(&self.patterns, after, SUBSCRIBED_PAGE).await?;
        let (next, gap, is_empty) = (page.next, page.gap, page.events.is_empty());
        let is_same = next.epoch == after.epoch;
        let events = events_of(page);
        if gap && (!is_same || self.broker.may_have_missed(&self.patterns, self.place).await?) {
            self.gap(events.first().and_then(|event| event.place).or(Some(SubscriptionPlace::behind(next))));
        }
        for event in events {
            let Some(place) = event.place else { continue };
            if place > self.place || !is_same {
                self.pending.push_back(Subscribed::Event(Arc::new(event)));
            }
        }
        self.took |= !self.pending.is_empty();
        let has_moved = next != after;
        self.place = SubscriptionPlace::behind(next);
        if is_empty && !has_moved {
            if start.epoch == next.epoch {
                // All that the feed begins after was there when this was read, and there was nothing.
                self.place = self.place.max(SubscriptionPlace::behind(start));
            } else {
                // The feed does not know yet that the store came back with another history.
                self.feed.look(&self.broker, self.feed.begun()).await?;
            }
        }
        Ok(())
    }

    /// Tells that something is missing before `first`, the next that is there.
    fn gap(&mut self, first: Option<SubscriptionPlace>) {
        self.pending.push_back(Subscribed::Gap(first.map_or(self.place, SubscriptionPlace::before)));
    }

    fn is_mine(&self, topic: &TopicName) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Waits for a hint, or until it is time to look without one.
    async fn wait(&mut self) {
        let poll_interval = self.broker.0.config.poll_interval;
        if self.expects && !self.took {
            // What was hinted at is stored, but not to be seen yet: other writes that began before it still run.
            self.pause = LOOK_AGAIN.min(poll_interval);
            self.expects = false;
        }
        tokio::select! {
            biased;
            hint = next_hint(self.hints.as_mut()) => {
                if hint.is_none() {
                    self.hints = None;
                }
                // Those that came meanwhile are about the same look.
                while let Some(Some(Some(_))) = self.hints.as_mut().map(|hints| hints.next().now_or_never()) {}
                self.wanted = Some(self.feed.begun());
                (self.expects, self.took, self.pause) = (!self.took, false, poll_interval);
            }
            () = sleep(self.pause) => {
                self.wanted = Some(self.feed.begun_before(self.pause / 2));
                self.pause = (self.pause * 2).min(poll_interval);
                let (told, at) = self.told;
                if self.place > told && at.elapsed() >= PLACE_INTERVAL {
                    self.pending.push_back(Subscribed::Place(self.place));
                }
            }
        }
    }
}

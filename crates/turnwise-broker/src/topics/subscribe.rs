//! Following several topics and patterns as one stream, from now, from the
//! oldest or from a place. Everything comes from the store; what is new, all
//! subscriptions of an organisation on this node read together.

use super::changes::{Change, Changes, SubscriptionChanges};
use super::feed::{Listening, Standing, Stretch, events_of};
use super::place::SubscriptionPlace;
use super::wanted::Wanted;
use super::{TopicEvent, pattern};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::SUBSCRIBED_PAGE;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use turnwise_core::{NameError, StorePosition, TopicPattern};

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
    /// What was asked for last holds from here on; the place from which newly wanted events come.
    Changed(SubscriptionPlace),
    /// What was asked for last cannot be had: as many replays as may be are under way. Nothing was changed.
    Refused,
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
        Ok(self.subscribe_changing(org, patterns, from).await?.0)
    }

    /// The same, and its topics and patterns can be changed while it goes on. Events of those that are added come
    /// in the one order of all, each once: when they begin before what was handed out, what was is not
    /// handed out again, and newer events wait behind them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn subscribe_changing(
        &self,
        org: &str,
        patterns: &[String],
        from: SubscribeFrom,
    ) -> Result<(Subscription, SubscriptionChanges), BrokerError> {
        let patterns = patterns_of(org, patterns)?;
        let end = self.0.store.end().await?;
        let feed = self.0.feeds.join(self, org, &patterns, end)?;
        let (place, is_gap) = from.begin(end);
        let first = if is_gap { Subscribed::Gap(place) } else { Subscribed::Place(place) };
        let changes = Arc::<Changes>::default();
        let handle = changes.handle(org);
        // Boxed: a step moves it.
        let subscriber = Box::new(Subscriber {
            broker: self.clone(),
            look_after: Some(feed.begun()),
            news: feed.news(),
            waits_since: feed.begun(),
            wanted: Wanted::new(feed.patterns(), place),
            changes,
            place,
            told: place,
            told_lately: true,
            beat: feed.beats(),
            pending: VecDeque::from([first]),
            finished: false,
            feed,
        });
        Ok((unfold(subscriber, Subscriber::step).boxed(), handle))
    }
}

impl SubscribeFrom {
    /// The place it stands for while the store ends here, and whether something is missing before it.
    fn begin(self, end: StorePosition) -> (SubscriptionPlace, bool) {
        match self {
            SubscribeFrom::Now => (SubscriptionPlace::behind(end), false),
            SubscribeFrom::Earliest => (SubscriptionPlace::earliest(end.epoch), false),
            // Of this history, but not yet there: it is none that was given out.
            SubscribeFrom::After(place) if place.epoch == end.epoch && place.read_after() > end => {
                (SubscriptionPlace::behind(end), true)
            }
            SubscribeFrom::After(place) => (place, false),
        }
    }
}

/// Patterns of one organisation.
pub(super) fn patterns_of(org: &str, patterns: &[String]) -> Result<Arc<[TopicPattern]>, NameError> {
    patterns.iter().map(|matching| pattern(org, matching)).collect()
}

struct Subscriber {
    broker: Broker,
    feed: Listening,
    wanted: Wanted,
    changes: Arc<Changes>,
    news: watch::Receiver<()>,
    /// Looks with a greater number than this were begun since.
    waits_since: u64,
    place: SubscriptionPlace,
    /// The last place that the reader knows.
    told: SubscriptionPlace,
    /// Since the last beat of the feed.
    told_lately: bool,
    /// Its number.
    beat: u64,
    pending: VecDeque<Subscribed>,
    /// A look at the store with a greater number than this is wanted.
    look_after: Option<u64>,
    finished: bool,
}

type Step = Option<(Result<Subscribed, BrokerError>, Box<Subscriber>)>;

impl Subscriber {
    async fn step(mut self: Box<Self>) -> Step {
        loop {
            if let Some(change) = self.changes.take()
                && let Err(error) = self.change(change).await
            {
                self.finished = true;
                return Some((Err(error), self));
            }
            if let Some(next) = self.pending.pop_front() {
                let place = match &next {
                    Subscribed::Event(event) => event.place,
                    Subscribed::Place(place) | Subscribed::Gap(place) | Subscribed::Changed(place) => {
                        Some(*place)
                    }
                    Subscribed::Refused => None,
                };
                if let Some(place) = place {
                    (self.told, self.told_lately) = (place, true);
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
            Standing::Next(stretches) => {
                for stretch in &stretches {
                    self.take(stretch);
                }
                Ok(())
            }
            Standing::Behind(start) => self.catch_up(start).await,
            Standing::AtEnd(end) => {
                self.come_to(self.place.max(SubscriptionPlace::behind(end)));
                match self.look_after {
                    Some(since) if !self.feed.has_looked(since) => self.feed.look(&self.broker, since).await,
                    Some(_) => {
                        self.look_after = None;
                        // A look may have come to the end between our two questions.
                        Ok(())
                    }
                    None => {
                        let (begun, beat) = self.feed.begun_well(self.waits_since)?;
                        self.waits_since = begun;
                        let is_beat = std::mem::replace(&mut self.beat, beat) != beat;
                        if is_beat && !std::mem::take(&mut self.told_lately) && self.place > self.told {
                            self.pending.push_back(Subscribed::Place(self.place));
                            return Ok(());
                        }
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
            if place > self.place && self.wanted.takes(&event.topic, place) {
                self.pending.push_back(Subscribed::Event(Arc::clone(event)));
            }
        }
        self.come_to(SubscriptionPlace::behind(stretch.to));
    }

    fn come_to(&mut self, place: SubscriptionPlace) {
        self.place = place;
        self.wanted.read_up_to(place);
    }

    /// Reads a page for this reader alone, who is behind what the feed holds.
    async fn catch_up(&mut self, start: StorePosition) -> Result<(), BrokerError> {
        let after = self.place.read_after();
        let page = self.broker.0.store.read_many(self.feed.patterns(), after, SUBSCRIBED_PAGE).await?;
        let (next, gap, is_empty) = (page.next, page.gap, page.events.is_empty());
        let is_same = next.epoch == after.epoch;
        let events = events_of(page);
        let missed = self.wanted.patterns_at(self.place);
        if gap && (!is_same || self.broker.may_have_missed(&missed, self.place).await?) {
            self.gap(events.first().and_then(|event| event.place).or(Some(SubscriptionPlace::behind(next))));
        }
        for event in events {
            let Some(place) = event.place else { continue };
            if (place > self.place || !is_same) && self.wanted.takes(&event.topic, place) {
                self.pending.push_back(Subscribed::Event(Arc::new(event)));
            }
        }
        let has_moved = next != after;
        self.come_to(SubscriptionPlace::behind(next));
        if is_empty && !has_moved {
            if start.epoch == next.epoch {
                // All that the feed begins after was there when this was read, and there was nothing.
                self.come_to(self.place.max(SubscriptionPlace::behind(start)));
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

    /// Wants something else from now on.
    async fn change(&mut self, change: Change) -> Result<(), BrokerError> {
        let begin = match change {
            Change::Remove(gone) => {
                self.wanted.remove(&gone);
                self.feed.listen_for(&self.wanted.patterns().into());
                // Of what was read but not handed out, nothing that is not wanted any longer.
                let patterns = Arc::clone(self.feed.patterns());
                self.pending.retain(|next| match next {
                    Subscribed::Event(event) => patterns.iter().any(|pattern| pattern.matches(&event.topic)),
                    Subscribed::Place(_)
                    | Subscribed::Gap(_)
                    | Subscribed::Changed(_)
                    | Subscribed::Refused => true,
                });
                self.place
            }
            Change::Add(new, from) => {
                let mut all = self.wanted.patterns();
                all.extend(new.iter().cloned());
                self.feed.listen_for(&all.into());
                let end = self.broker.0.store.end().await?;
                let (begin, is_gap) = from.begin(end);
                let Some(place) = self.wanted.add(&new, begin, self.place) else {
                    self.feed.listen_for(&self.wanted.patterns().into());
                    self.pending.push_back(Subscribed::Refused);
                    return Ok(());
                };
                self.feed.listen_for(&self.wanted.patterns().into());
                self.place = place;
                self.look_after = Some(self.feed.begun());
                if is_gap {
                    self.gap(Some(begin));
                }
                begin
            }
        };
        self.pending.push_back(Subscribed::Changed(begin));
        Ok(())
    }

    /// Waits until there may be something new, or until it is time to tell the place.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            // The feed is ours, too: it does not go away.
            _ = self.news.changed() => {}
            () = self.changes.wait() => {}
        }
    }
}

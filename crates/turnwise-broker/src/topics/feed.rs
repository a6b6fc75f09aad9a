//! What all subscriptions of one organisation on this node read together: the
//! newest of its public events, read from the store once for all of them. Who
//! is further behind reads for himself. Nobody needs it: the store has it all.

use super::bells::Bells;
use super::place::SubscriptionPlace;
use super::{TopicEvent, pattern, pump};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{
    FEED_BYTES_MAX, FEED_EMPTY_PAGES_MAX, FEED_PAGE, FEED_STRETCHES_MAX, STRETCHES_BYTES_TAKEN,
};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnwise_core::{
    Event, NameError, ReadMany, StoreError, StorePosition, TopicFilter, TopicName, TopicPattern,
};
use turnwise_metrics::Counter;

/// The feeds of this node, by organisation.
#[derive(Default)]
pub(crate) struct Feeds {
    by_org: Mutex<HashMap<String, Weak<Feed>>>,
    /// One reads for each feed that is there.
    pumps: TaskTracker,
    /// Events that were stored, repeats among them.
    pub(crate) published: Counter,
}

impl Feeds {
    /// Takes part in an org's feed, which begins at `end` if nobody else does.
    pub(super) fn join(
        &self,
        broker: &Broker,
        org: &str,
        patterns: &Arc<[TopicPattern]>,
        end: StorePosition,
    ) -> Result<Listening, NameError> {
        let everything = [pattern(org, ">")?];
        let mut feeds = self.by_org.lock();
        let feed = match feeds.get(org).and_then(Weak::upgrade) {
            Some(feed) => feed,
            None => {
                feeds.retain(|_, feed| feed.strong_count() > 0);
                let feed = Arc::new(Feed::new(everything, end));
                feeds.insert(org.to_owned(), Arc::downgrade(&feed));
                let (deserted, stirred) = (feed.deserted.clone(), Arc::clone(&feed.stirred));
                // From here on what is published is hinted at.
                let hints = broker.0.store.watch(TopicFilter::Patterns(feed.everything.to_vec()));
                let pumped = Arc::downgrade(&feed);
                self.pumps.spawn(pump::run(broker.clone(), pumped, hints, stirred, deserted));
                feed
            }
        };
        drop(feeds);
        let patterns = feed.listening.lock().add(patterns);
        Ok(Listening { feed, patterns })
    }

    /// Subscriptions that this topic belongs to.
    pub(super) fn subscribers(&self, topic: &TopicName) -> u64 {
        let feed = self.by_org.lock().get(topic.org()).and_then(Weak::upgrade);
        feed.map_or(0, |feed| feed.listening.lock().of(topic))
    }
}

/// One subscription's part in a feed; it leaves when dropped.
pub(super) struct Listening {
    feed: Arc<Feed>,
    patterns: Arc<[TopicPattern]>,
}

impl Listening {
    /// What it is about.
    pub(super) fn patterns(&self) -> &Arc<[TopicPattern]> {
        &self.patterns
    }

    /// It is about these from now on.
    pub(super) fn listen_for(&mut self, patterns: &Arc<[TopicPattern]>) {
        let mut listening = self.feed.listening.lock();
        let patterns = listening.add(patterns);
        listening.remove(&std::mem::replace(&mut self.patterns, patterns));
    }
}

impl std::ops::Deref for Listening {
    type Target = Feed;

    fn deref(&self) -> &Feed {
        &self.feed
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.feed.listening.lock().remove(&self.patterns);
    }
}

/// How many listen for the same: most of many readers do.
#[derive(Default)]
struct Listeners(HashMap<Arc<[TopicPattern]>, u64>);

impl Listeners {
    /// One more for these; all that listen for the same share them.
    fn add(&mut self, patterns: &Arc<[TopicPattern]>) -> Arc<[TopicPattern]> {
        let known = self.0.get_key_value(patterns).map(|(known, _)| Arc::clone(known));
        let shared = known.unwrap_or_else(|| Arc::clone(patterns));
        *self.0.entry(Arc::clone(&shared)).or_default() += 1;
        shared
    }

    fn remove(&mut self, patterns: &Arc<[TopicPattern]>) {
        let Some(count) = self.0.get_mut(patterns) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(patterns);
        }
    }

    fn of(&self, topic: &TopicName) -> u64 {
        let is_of = |patterns: &[TopicPattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        self.0.iter().filter(|(patterns, _)| is_of(patterns)).map(|(_, count)| count).sum()
    }
}

/// The newest events of one organisation.
pub(super) struct Feed {
    everything: [TopicPattern; 1],
    bells: Bells,
    /// There is something new, and whoever found it leaves waking the readers to the pump.
    stirred: Arc<Notify>,
    deserted: CancellationToken,
    listening: Mutex<Listeners>,
    ring: Mutex<Ring>,
    /// Held by the one who reads for all.
    reading: tokio::sync::Mutex<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.deserted.cancel();
    }
}

/// Events of one page.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Everything up to here is in it or before it.
    pub(super) to: StorePosition,
    /// Some events before it are not kept any longer.
    pub(super) gap: bool,
    pub(super) events: Vec<Arc<TopicEvent>>,
    bytes: usize,
}

/// Where a reader stands to the feed.
pub(super) enum Standing {
    /// It goes on with these, one after the other.
    Next(Vec<Arc<Stretch>>),
    /// It has seen everything up to here.
    AtEnd(StorePosition),
    /// It is behind what the feed holds, which begins after this.
    Behind(StorePosition),
}

impl Feed {
    fn new(everything: [TopicPattern; 1], end: StorePosition) -> Feed {
        Feed {
            everything,
            bells: Bells::default(),
            stirred: Arc::default(),
            deserted: CancellationToken::new(),
            listening: Mutex::default(),
            ring: Mutex::new(Ring::new(end)),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Changes when there is something new, and when looking for it failed.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.bells.hear(self.ring.lock().news)
    }

    /// Wakes the next readers that were not woken for everything that is new; false if there are none.
    pub(super) fn wake_next(&self) -> bool {
        let news = self.ring.lock().news;
        self.bells.ring(news)
    }

    /// How often there was something new.
    pub(super) fn added(&self) -> u64 {
        self.ring.lock().added
    }

    /// The number of the last look that was begun, unless one that was begun after `since` failed; and that of the
    /// last beat.
    pub(super) fn begun_well(&self, since: u64) -> Result<(u64, u64), BrokerError> {
        let ring = self.ring.lock();
        match &ring.failed {
            Some((number, error)) if *number > since => Err(error.clone()),
            _ => Ok((ring.begun, ring.beats)),
        }
    }

    /// The number of the last beat.
    pub(super) fn beats(&self) -> u64 {
        self.ring.lock().beats
    }

    /// It is time for readers who were told nothing since the last beat to be told where they are.
    pub(super) fn beat(&self) {
        let mut ring = self.ring.lock();
        ring.beats += 1;
        ring.news += 1;
    }

    /// Where a reader at this place goes on.
    pub(super) fn standing(&self, place: SubscriptionPlace) -> Standing {
        self.ring.lock().standing(place)
    }

    /// The number of the last look that was begun: whoever wants to see what is there now wants one with a
    /// greater number.
    pub(super) fn begun(&self) -> u64 {
        self.ring.lock().begun
    }

    /// Whether a look that was begun after that one came to the end.
    pub(super) fn has_looked(&self, since: u64) -> bool {
        self.ring.lock().whole > since
    }

    /// Reads one page on, unless somebody has looked since; his failure is ours.
    pub(super) async fn look(&self, broker: &Broker, since: u64) -> Result<(), BrokerError> {
        let _turn = self.reading.lock().await;
        let (after, number) = {
            let mut ring = self.ring.lock();
            if ring.whole > since {
                return Ok(());
            }
            if let Some((_, error)) = ring.failed.as_ref().filter(|(number, _)| *number > since) {
                return Err(error.clone());
            }
            ring.begun += 1;
            (ring.end, ring.begun)
        };
        let page = self.page(broker, after).await;
        let mut ring = self.ring.lock();
        let before = ring.added;
        let looked = match page {
            Ok(page) => {
                ring.add(after, page, number);
                Ok(())
            }
            Err(error) => {
                let error = BrokerError::from(error);
                ring.failed = Some((number, error.clone()));
                Err(error)
            }
        };
        if looked.is_err() || ring.added != before {
            ring.news += 1;
            // Whoever looked, all are to know.
            self.stirred.notify_one();
        }
        looked
    }
}

impl Feed {
    async fn page(&self, broker: &Broker, after: StorePosition) -> Result<ReadMany, StoreError> {
        let store = &broker.0.store;
        let is_gone = |page: &ReadMany| page.gap && page.events.is_empty() && page.next == after;
        let page = store.read_many(&self.everything, after, FEED_PAGE).await?;
        if !is_gone(&page) {
            return Ok(page);
        }
        // What came since is trimmed already, and nothing else came: told once, and then read on behind it.
        let end = store.end().await?;
        let mut page = store.read_many(&self.everything, after, FEED_PAGE).await?;
        if is_gone(&page) {
            page.next = page.next.max(end);
        }
        Ok(page)
    }
}

/// Stretches one after the other, bounded in number and bytes.
struct Ring {
    /// Before the first stretch.
    start: u64,
    /// Behind the last one.
    end: StorePosition,
    stretches: VecDeque<Arc<Stretch>>,
    /// Stretches that there were.
    added: u64,
    /// How often the readers were to be woken: for these, for beats, and when a look failed.
    news: u64,
    beats: u64,
    bytes: usize,
    begun: u64,
    /// The number of the last look that found the end.
    whole: u64,
    empty_pages: u32,
    failed: Option<(u64, BrokerError)>,
}

impl Ring {
    fn new(end: StorePosition) -> Ring {
        Ring {
            start: end.seq,
            end,
            stretches: VecDeque::new(),
            added: 0,
            news: 0,
            beats: 0,
            bytes: 0,
            begun: 0,
            whole: 0,
            empty_pages: 0,
            failed: None,
        }
    }

    fn standing(&self, place: SubscriptionPlace) -> Standing {
        if place.epoch != self.end.epoch || place.read_after().seq < self.start {
            return Standing::Behind(StorePosition { epoch: self.end.epoch, seq: self.start });
        }
        let seen = self.stretches.partition_point(|stretch| stretch.to.seq < place.seq);
        let mut room = STRETCHES_BYTES_TAKEN;
        let fits = |next: &&Arc<Stretch>| {
            // The first, however large it is.
            let fits = room > 0;
            room = room.saturating_sub(next.bytes.max(1));
            fits
        };
        let next: Vec<Arc<Stretch>> = self.stretches.range(seen..).take_while(fits).cloned().collect();
        if next.is_empty() { Standing::AtEnd(self.end) } else { Standing::Next(next) }
    }

    fn add(&mut self, after: StorePosition, page: ReadMany, number: u64) {
        if page.next.epoch != after.epoch {
            // The store came back without some of it: what is here is of another history.
            (self.start, self.bytes) = (0, 0);
            self.stretches.clear();
            self.added += 1;
        }
        let has_moved = page.next != after;
        let (is_empty, gap, to) = (page.events.is_empty(), page.gap, page.next);
        self.end = to;
        // A page without events behind a long stretch of other topics is no end; but neither does a store on
        // which others write ever stand still.
        self.empty_pages = if is_empty && has_moved { self.empty_pages + 1 } else { 0 };
        if is_empty && !gap && (!has_moved || self.empty_pages >= FEED_EMPTY_PAGES_MAX) {
            self.empty_pages = 0;
            self.whole = number;
        }
        if is_empty && !gap {
            return;
        }
        let bytes = page.events.iter().map(|(_, event)| event.bytes()).sum();
        let events = events_of(page).into_iter().map(Arc::new).collect();
        self.stretches.push_back(Arc::new(Stretch { to, gap, events, bytes }));
        self.added += 1;
        self.bytes += bytes;
        // The newest stays, however large it is.
        while self.stretches.len() > 1
            && (self.stretches.len() > FEED_STRETCHES_MAX || self.bytes > FEED_BYTES_MAX)
        {
            let Some(oldest) = self.stretches.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.start = oldest.to.seq;
        }
    }
}

/// The events of a page, each with its place.
pub(super) fn events_of(page: ReadMany) -> Vec<TopicEvent> {
    let epoch = page.next.epoch;
    let placed = page.events.into_iter().zip(page.seqs);
    let of = |((topic, event), seq): ((TopicName, Event), u64)| {
        let place = SubscriptionPlace::of(epoch, seq, topic.name(), event.offset);
        TopicEvent::of(&topic, epoch, event, Some(place))
    };
    let mut events: Vec<TopicEvent> = placed.filter_map(of).collect();
    // Topics that share a step come in no order from the store, and in the same one from here.
    events.sort_by_key(|event| event.place);
    events
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use bytes::Bytes;
    use turnwise_core::{Epoch, Offset, Timestamp};

    fn at(seq: u64) -> StorePosition {
        StorePosition { epoch: Epoch(1), seq }
    }

    /// A page with one event in each of these steps.
    fn page(steps: &[u64], next: StorePosition, bytes: usize) -> ReadMany {
        let topic = super::super::name("acme", "t").unwrap();
        let event = |offset| Event {
            offset: Offset(offset),
            event_type: "j.x".to_owned(),
            data: Bytes::from(vec![b'1'; bytes]),
            appended_at: Timestamp(1),
        };
        let events = steps.iter().map(|seq| (topic.clone(), event(*seq))).collect();
        ReadMany { events, seqs: steps.to_vec(), next, gap: false }
    }

    /// What a reader at this place finds: the steps, or that it is at the end or behind.
    fn found(ring: &Ring, place: SubscriptionPlace) -> Result<Vec<u64>, &'static str> {
        match ring.standing(place) {
            Standing::Next(next) => {
                let events = next.iter().flat_map(|stretch| &stretch.events);
                Ok(events.map(|e| e.place.unwrap().seq).collect())
            }
            Standing::AtEnd(_) => Err("end"),
            Standing::Behind(_) => Err("behind"),
        }
    }

    #[test]
    fn a_reader_is_before_inside_or_behind_what_the_ring_holds() {
        let mut ring = Ring::new(at(10));
        ring.add(at(10), page(&[12, 14], at(15), 1), 1);
        ring.add(at(15), page(&[], at(20), 1), 2);
        ring.add(at(20), page(&[21], at(21), 1), 3);
        let check = |seq, offset, expected| {
            assert_eq!(
                found(&ring, SubscriptionPlace::of(Epoch(1), seq, "t", Offset(offset))),
                expected,
                "{seq}"
            );
        };
        check(9, 0, Err("behind"));
        check(10, 7, Err("behind"));
        check(11, 0, Ok(vec![12, 14, 21]));
        check(14, 14, Ok(vec![12, 14, 21]));
        check(16, 0, Ok(vec![21]));
        check(22, 0, Err("end"));
        let foreign = SubscriptionPlace::of(Epoch(2), 12, "t", Offset(0));
        assert_eq!(found(&ring, foreign), Err("behind"));
    }

    #[test]
    fn only_a_page_without_events_is_the_end_and_a_busy_store_has_one_too() {
        let mut ring = Ring::new(at(0));
        ring.add(at(0), page(&[1], at(1), 1), 1);
        assert_eq!(ring.whole, 0);
        ring.add(at(1), page(&[], at(1), 1), 2);
        assert_eq!(ring.whole, 2);
        for number in 3..3 + u64::from(FEED_EMPTY_PAGES_MAX) {
            assert_eq!(ring.whole, 2, "{number}");
            ring.add(ring.end, page(&[], at(number * 10), 1), number);
        }
        assert_eq!(ring.whole, 2 + u64::from(FEED_EMPTY_PAGES_MAX));
    }

    #[test]
    fn the_ring_is_bounded_and_forgets_the_oldest_first() {
        let mut ring = Ring::new(at(0));
        for seq in 1..=100 {
            ring.add(ring.end, page(&[seq], at(seq), FEED_BYTES_MAX / 4), seq);
            assert!(ring.bytes <= FEED_BYTES_MAX && ring.stretches.len() <= FEED_STRETCHES_MAX);
        }
        assert_eq!(found(&ring, SubscriptionPlace::behind(at(ring.start))).unwrap().len(), 1);
        assert_eq!(found(&ring, SubscriptionPlace::behind(at(ring.start - 1))), Err("behind"));
        ring.add(ring.end, page(&[101], at(101), FEED_BYTES_MAX * 2), 101);
        assert_eq!((ring.stretches.len(), ring.start), (1, 100));
    }
}

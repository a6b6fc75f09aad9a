//! Hints to those who wait: lossy, coalesced, bounded. A hint lost costs time,
//! never correctness. Knows no store.

use futures_core::Stream;
use futures_core::stream::BoxStream;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use turnwise_core::{Name, QueueName, TopicFilter, TopicName};

/// Different names that wait in one watcher; further ones are lost.
pub(crate) const HINTS_WAITING_MAX: usize = 4_096;

/// Hands hints from a store to its watchers.
#[derive(Default)]
pub(crate) struct Hub(Mutex<Watchers>);

#[derive(Default)]
struct Watchers {
    closed: bool,
    last_id: u64,
    queues: HashMap<u64, Arc<Inbox>>,
    exact: HashMap<TopicName, HashMap<u64, Arc<Inbox>>>,
    patterns: HashMap<u64, (TopicFilter, Arc<Inbox>)>,
}

#[derive(Clone)]
enum Interest {
    Queues,
    Topics(TopicFilter),
}

impl Hub {
    /// Tells every queue watcher about these queues.
    pub(crate) fn publish_queues(&self, names: &[QueueName]) {
        let mut wakers = Vec::new();
        let watchers = self.0.lock();
        for inbox in watchers.queues.values() {
            names.iter().for_each(|name| inbox.push(name, &mut wakers));
        }
        drop(watchers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells everybody who watches a topic by its name: what was said meanwhile is lost.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn publish_watched(&self) {
        let names: Vec<TopicName> = self.0.lock().exact.keys().cloned().collect();
        self.publish_topics(&names);
    }

    /// Tells those who watch these topics.
    pub(crate) fn publish_topics(&self, names: &[TopicName]) {
        let mut wakers = Vec::new();
        let watchers = self.0.lock();
        for name in names {
            for inbox in watchers.exact.get(name).into_iter().flat_map(HashMap::values) {
                inbox.push(name, &mut wakers);
            }
            for (filter, inbox) in watchers.patterns.values() {
                if matches(filter, name) {
                    inbox.push(name, &mut wakers);
                }
            }
        }
        drop(watchers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A stream of every queue hinted at from now on.
    pub(crate) fn wakeups(self: &Arc<Self>) -> BoxStream<'static, QueueName> {
        self.register(Interest::Queues)
    }

    /// A stream of every topic of `filter` hinted at from now on.
    pub(crate) fn watch(self: &Arc<Self>, filter: TopicFilter) -> BoxStream<'static, TopicName> {
        self.register(Interest::Topics(filter))
    }

    /// Ends all streams, and those asked for later at once.
    pub(crate) fn close(&self) {
        let mut watchers = self.0.lock();
        watchers.closed = true;
        let inboxes: Vec<Arc<Inbox>> = std::mem::take(&mut watchers.queues)
            .into_values()
            .chain(std::mem::take(&mut watchers.exact).into_values().flat_map(HashMap::into_values))
            .chain(std::mem::take(&mut watchers.patterns).into_values().map(|(_, inbox)| inbox))
            .collect();
        drop(watchers);
        inboxes.iter().for_each(|inbox| inbox.close());
    }

    fn register(self: &Arc<Self>, interest: Interest) -> BoxStream<'static, Name> {
        let inbox = Arc::new(Inbox::default());
        let mut watchers = self.0.lock();
        watchers.last_id += 1;
        let id = watchers.last_id;
        if watchers.closed {
            inbox.close();
        } else {
            match interest.clone() {
                Interest::Queues => {
                    watchers.queues.insert(id, Arc::clone(&inbox));
                }
                Interest::Topics(TopicFilter::One(name)) => {
                    watchers.exact.entry(name).or_default().insert(id, Arc::clone(&inbox));
                }
                Interest::Topics(filter @ TopicFilter::Patterns(_)) => {
                    watchers.patterns.insert(id, (filter, Arc::clone(&inbox)));
                }
            }
        }
        drop(watchers);
        Box::pin(Watcher { hub: Arc::clone(self), interest, id, inbox })
    }

    fn forget(&self, interest: &Interest, id: u64) {
        let mut watchers = self.0.lock();
        match interest {
            Interest::Queues => {
                watchers.queues.remove(&id);
            }
            Interest::Topics(TopicFilter::One(name)) => {
                if let Some(inboxes) = watchers.exact.get_mut(name) {
                    inboxes.remove(&id);
                    if inboxes.is_empty() {
                        watchers.exact.remove(name);
                    }
                }
            }
            Interest::Topics(TopicFilter::Patterns(_)) => {
                watchers.patterns.remove(&id);
            }
        }
    }

    /// How many watchers there are.
    #[cfg(test)]
    fn watching(&self) -> usize {
        let watchers = self.0.lock();
        watchers.queues.len() + watchers.exact.len() + watchers.patterns.len()
    }
}

fn matches(filter: &TopicFilter, name: &TopicName) -> bool {
    match filter {
        TopicFilter::One(one) => one == name,
        TopicFilter::Patterns(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
    }
}

/// What one watcher has not seen yet, each name once.
#[derive(Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    names: VecDeque<Name>,
    known: HashSet<Name>,
    waker: Option<Waker>,
    closed: bool,
}

impl Inbox {
    fn push(&self, name: &Name, wakers: &mut Vec<Waker>) {
        let mut waiting = self.0.lock();
        if waiting.names.len() >= HINTS_WAITING_MAX || !waiting.known.insert(name.clone()) {
            return;
        }
        waiting.names.push_back(name.clone());
        wakers.extend(waiting.waker.take());
    }

    fn close(&self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Name>> {
        let mut waiting = self.0.lock();
        if let Some(name) = waiting.names.pop_front() {
            waiting.known.remove(&name);
            return Poll::Ready(Some(name));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

struct Watcher {
    hub: Arc<Hub>,
    interest: Interest,
    id: u64,
    inbox: Arc<Inbox>,
}

impl Stream for Watcher {
    type Item = Name;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Name>> {
        self.inbox.poll(context)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.forget(&self.interest, self.id);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures_util::{FutureExt, StreamExt};
    use turnwise_core::{Kind, TopicPattern};

    fn topic(name: &str) -> TopicName {
        Name::new("acme", Kind::Public, name).unwrap()
    }

    fn seen(stream: &mut BoxStream<'static, Name>) -> Vec<String> {
        let next = || stream.next().now_or_never().flatten();
        std::iter::from_fn(next).map(|name| name.name().to_owned()).collect()
    }

    #[test]
    fn a_watcher_sees_each_name_once_and_only_what_it_asked_for() {
        let hub = Arc::new(Hub::default());
        let mut one = hub.watch(TopicFilter::One(topic("a")));
        let mut some = hub.watch(TopicFilter::Patterns(vec![TopicPattern(topic("b.*"))]));
        hub.publish_topics(&[topic("a"), topic("b.1"), topic("a"), topic("c"), topic("b.2")]);
        assert_eq!(seen(&mut one), ["a"]);
        assert_eq!(seen(&mut some), ["b.1", "b.2"]);
        hub.publish_topics(&[topic("a")]);
        assert_eq!(seen(&mut one), ["a"]);
    }

    #[test]
    fn a_dropped_watcher_leaves_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let all = (
            hub.wakeups(),
            hub.watch(TopicFilter::One(topic("a"))),
            hub.watch(TopicFilter::Patterns(vec![])),
        );
        assert_eq!(hub.watching(), 3);
        drop(all);
        assert_eq!(hub.watching(), 0);
    }

    #[test]
    fn hints_are_bounded_and_streams_end_with_the_hub() {
        let hub = Arc::new(Hub::default());
        let mut stream = hub.wakeups();
        let names: Vec<Name> = (0..HINTS_WAITING_MAX + 10).map(|n| topic(&n.to_string())).collect();
        hub.publish_queues(&names);
        hub.close();
        assert_eq!(seen(&mut stream).len(), HINTS_WAITING_MAX);
        assert_eq!(stream.next().now_or_never(), Some(None));
        assert_eq!(hub.wakeups().next().now_or_never(), Some(None));
    }
}

//! Waking those who wait for a message of a queue: one for each hint, the one
//! who has waited longest. Whoever is woken and finds more than it takes wakes
//! the next. Hints are only hints (clause Q16): every queue that somebody waits
//! for is also asked once in a poll interval.

use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use turnwise_core::QueueName;

/// A bell for each queue that somebody waits for.
pub(crate) struct Bells {
    by_queue: Mutex<HashMap<QueueName, Arc<Bell>>>,
    /// Read by one of those who wait, whoever it is, for all of them.
    hints: tokio::sync::Mutex<Option<BoxStream<'static, QueueName>>>,
}

#[derive(Default)]
struct Bell {
    rung: Notify,
    /// When this node last asked the store for a message of the queue.
    asked_at: Mutex<Option<Instant>>,
}

/// A place among those who wait for one queue. Taken before the first look, it misses no hint.
pub(crate) struct Seat<'b> {
    bells: &'b Bells,
    queue: QueueName,
    bell: Arc<Bell>,
}

impl Bells {
    pub(crate) fn new(hints: BoxStream<'static, QueueName>) -> Bells {
        Bells { by_queue: Mutex::default(), hints: tokio::sync::Mutex::new(Some(hints)) }
    }

    pub(crate) fn seat(&self, queue: &QueueName) -> Seat<'_> {
        let bell = Arc::clone(self.by_queue.lock().entry(queue.clone()).or_default());
        Seat { bells: self, queue: queue.clone(), bell }
    }

    /// There may be a message in this queue.
    pub(crate) fn ring(&self, queue: &QueueName) {
        // Under the lock: a bell that is held on to would not go with its last seat.
        if let Some(bell) = self.by_queue.lock().get(queue) {
            bell.rung.notify_one();
        }
    }

    /// Queues that somebody waits for.
    pub(crate) fn len(&self) -> usize {
        self.by_queue.lock().len()
    }

    /// Rings for every hint, for ever; one caller at a time does.
    async fn pass_hints_on(&self) {
        let mut hints = self.hints.lock().await;
        while let Some(source) = hints.as_mut() {
            let next = source.next().await;
            match next {
                Some(queue) => self.ring(&queue),
                None => *hints = None,
            }
        }
        std::future::pending().await
    }
}

impl Seat<'_> {
    /// The store is asked now.
    pub(crate) fn asked(&self) {
        *self.bell.asked_at.lock() = Some(Instant::now());
    }

    /// There may be more than was taken: the next one's turn.
    pub(crate) fn wake_next(&self) {
        self.bell.rung.notify_one();
    }

    /// Waits until it is worth asking.
    pub(crate) async fn woken(&self, poll_interval: Duration) {
        tokio::select! {
            biased;
            () = self.bell.rung.notified() => {}
            () = self.bells.pass_hints_on() => {}
            () = self.due(poll_interval) => {}
        }
    }

    /// Ends for one of those who wait, when nobody has asked for a poll interval.
    async fn due(&self, poll_interval: Duration) {
        while let Some(later) = self.ask_or_wait(poll_interval) {
            sleep_until(later).await;
        }
    }

    /// Until when there is nothing to ask; none if it is the caller's turn to ask now.
    fn ask_or_wait(&self, poll_interval: Duration) -> Option<Instant> {
        let mut asked_at = self.bell.asked_at.lock();
        let now = Instant::now();
        let next = asked_at.map_or(now, |at| at + poll_interval);
        if next > now {
            return Some(next);
        }
        *asked_at = Some(now);
        None
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut by_queue = self.bells.by_queue.lock();
        // The table's own and this one: seats are taken under the same lock.
        if Arc::strong_count(&self.bell) <= 2 {
            by_queue.remove(&self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnwise_core::{Kind, Name};

    fn queue(name: &str) -> QueueName {
        Name::new("o", Kind::Public, name).expect("a good name")
    }

    fn bells() -> Bells {
        Bells::new(Box::pin(futures_util::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_those_who_wait_asks_once_in_a_poll_interval() {
        let (bells, interval) = (bells(), Duration::from_secs(1));
        let (first, second) = (bells.seat(&queue("q")), bells.seat(&queue("q")));
        first.asked();
        let begun = Instant::now();
        for round in 1..=3 {
            tokio::select! {
                () = first.woken(interval) => {}
                () = second.woken(interval) => {}
            }
            assert_eq!(begun.elapsed().as_secs(), round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_before_the_wait_is_not_lost_and_wakes_one() {
        let bells = bells();
        let (first, second) = (bells.seat(&queue("q")), bells.seat(&queue("q")));
        let other = bells.seat(&queue("r"));
        for seat in [&first, &second, &other] {
            seat.asked();
        }
        bells.ring(&queue("q"));
        let begun = Instant::now();
        first.woken(Duration::from_secs(60)).await;
        assert!(begun.elapsed().is_zero());
        second.woken(Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed().as_secs(), 60, "one ring wakes one");
    }

    #[test]
    fn a_bell_goes_with_the_last_who_waits() {
        let bells = bells();
        let (first, second) = (bells.seat(&queue("q")), bells.seat(&queue("q")));
        drop(first);
        assert_eq!(bells.len(), 1);
        drop(second);
        assert_eq!(bells.len(), 0);
    }
}

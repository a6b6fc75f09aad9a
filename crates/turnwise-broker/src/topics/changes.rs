//! How the reader of a subscription asks it for other topics.

use super::subscribe::{SubscribeFrom, patterns_of};
use crate::error::BrokerError;
use crate::limits::CHANGES_WAITING_MAX;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use turnwise_core::TopicPattern;

/// What is asked for.
pub(super) enum Change {
    /// These as well.
    Add(Arc<[TopicPattern]>, SubscribeFrom),
    /// These no longer.
    Remove(Arc<[TopicPattern]>),
}

/// Asks a subscription for other topics and patterns. Each change that is taken is answered in the stream, with
/// [`Subscribed::Changed`](super::Subscribed::Changed) or
/// [`Subscribed::Refused`](super::Subscribed::Refused).
pub struct SubscriptionChanges {
    org: String,
    changes: Arc<Changes>,
}

impl SubscriptionChanges {
    /// These as well, from this place. False: too many changes wait for the reader to read on.
    ///
    /// # Errors
    /// A name that is none.
    pub fn add(&self, patterns: &[String], from: SubscribeFrom) -> Result<bool, BrokerError> {
        Ok(self.changes.put(Change::Add(patterns_of(&self.org, patterns)?, from)))
    }

    /// These, as they were named, no longer. False as above.
    ///
    /// # Errors
    /// A name that is none.
    pub fn remove(&self, patterns: &[String]) -> Result<bool, BrokerError> {
        Ok(self.changes.put(Change::Remove(patterns_of(&self.org, patterns)?)))
    }
}

/// Those that wait for the subscription.
#[derive(Default)]
pub(super) struct Changes {
    waiting: Mutex<VecDeque<Change>>,
    reader: AtomicWaker,
}

impl Changes {
    fn put(&self, change: Change) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.len() < CHANGES_WAITING_MAX;
        if fits {
            waiting.push_back(change);
        }
        drop(waiting);
        self.reader.wake();
        fits
    }

    /// One that waits.
    pub(super) fn take(&self) -> Option<Change> {
        self.waiting.lock().pop_front()
    }

    /// Until there is one. One at a time may wait.
    pub(super) async fn wait(&self) {
        poll_fn(|cx| {
            self.reader.register(cx.waker());
            if self.waiting.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// How to ask for some.
    pub(super) fn handle(self: &Arc<Changes>, org: &str) -> SubscriptionChanges {
        SubscriptionChanges { org: org.to_owned(), changes: Arc::clone(self) }
    }
}

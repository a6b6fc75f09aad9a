//! A turn in the hands of dispatch, and what it may do with it.

use crate::callback::CallbackNote;
use crate::news::News;
use crate::timeline::StepKind;
use crate::turn::TurnError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnwise_core::{MessageId, OrderingKey, Receipt, Timestamp};

/// A turn handed out under a lease. Dropping it changes nothing in the store:
/// the lease runs out. Clones share the lease.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its id; the agent gets it as its Idempotency-Key.
    pub id: MessageId,
    /// Its org.
    pub org: String,
    /// Who submitted it.
    pub user: String,
    /// Through which client.
    pub client: String,
    /// 1 for the first call.
    pub attempt: u32,
    /// The JSON body for the agent.
    pub request: Bytes,
    /// A reader is there or may come.
    pub prefer_stream: bool,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// When it was stored.
    pub accepted_at: Timestamp,
    /// When the first call started.
    pub first_claimed_at: Timestamp,
    /// Proof of the lease.
    pub receipt: Receipt,
    /// An agent event of an earlier call is stored: do not call again, fail it
    /// with [`TurnError::answer_interrupted`].
    pub interrupted: bool,
    pub(crate) callback: Option<CallbackNote>,
    pub(crate) redrive_of: Option<MessageId>,
    pub(crate) busy_since: Option<Timestamp>,
    pub(crate) key: Option<OrderingKey>,
    pub(crate) lease: Arc<Lease>,
}

impl Turn {
    /// Resolves when a client of this node asks to stop the turn. Other nodes
    /// are heard through `renew`.
    pub async fn stopped(&self) {
        self.lease.stop.cancelled().await;
    }

    /// The trace it belongs to, 32 hex digits.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.split('-').nth(1)
    }

    /// News of this call.
    pub(crate) fn news(&self, step: StepKind, at: Timestamp) -> News {
        News {
            id: self.id,
            org: self.org.clone(),
            user: self.user.clone(),
            step,
            at,
            attempt: Some(self.attempt),
            after: None,
            code: None,
        }
    }

    /// When the lease ends unless it is renewed.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.lease.deadline()
    }
}

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease lives on.
    Ok,
    /// It lives on, but the client wants the turn stopped.
    Stop,
    /// It is over: stop, nothing more is written.
    Lost,
}

/// One event of an agent's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    /// The agent's own name for it.
    pub name: Option<String>,
    /// Unchanged.
    pub data: Bytes,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnOutcome {
    /// Answered.
    Completed {
        /// The agent's JSON, if there is one as a whole.
        answer: Option<Bytes>,
        /// Events not appended yet; stored in the same step.
        unsaved: Vec<AgentEvent>,
    },
    /// Given up on.
    Failed(TurnError),
    /// Stopped for its client.
    Cancelled,
    /// The agent is busy: again after this time, from the same place.
    RetryAfter(Duration),
    /// Not tried: back to its place at once. Once an event was stored this
    /// fails the turn with `answer_interrupted` instead.
    Release,
}

/// What all clones of a [`Turn`] know about their lease.
pub(crate) struct Lease {
    id: MessageId,
    deadline_micros: AtomicI64,
    /// Over by then whatever the store's clock says: a step back revives nothing (X4).
    ends_at: Mutex<Instant>,
    lost: AtomicBool,
    /// `processing` is stored.
    pub(crate) processing_stored: AtomicBool,
    /// An agent event is stored.
    pub(crate) events_stored: AtomicBool,
    pub(crate) started_at: Timestamp,
    pub(crate) stop: CancellationToken,
    /// When a client of this node asked to stop, in microseconds; 0 if none did.
    stop_asked_at: AtomicI64,
    /// Held for writing while an append or settlement of this turn runs, so
    /// that readers of this node show nothing before it returned.
    pub(crate) gate: RwLock<()>,
    running: Running,
}

/// The turns in the hands of this node.
pub(crate) type Running = Arc<Mutex<HashMap<MessageId, Weak<Lease>>>>;

impl Lease {
    pub(crate) fn register(
        running: &Running,
        id: MessageId,
        (deadline, ends_at): (Timestamp, Instant),
        started_at: Timestamp,
        earlier: (bool, bool),
    ) -> Arc<Lease> {
        let lease = Arc::new(Lease {
            id,
            deadline_micros: AtomicI64::new(deadline.0),
            ends_at: Mutex::new(ends_at),
            lost: AtomicBool::new(false),
            processing_stored: AtomicBool::new(earlier.0),
            events_stored: AtomicBool::new(earlier.1),
            started_at,
            stop: CancellationToken::new(),
            stop_asked_at: AtomicI64::new(0),
            gate: RwLock::new(()),
            running: Arc::clone(running),
        });
        running.lock().insert(id, Arc::downgrade(&lease));
        lease
    }

    /// A client wants it stopped. The first time counts.
    pub(crate) fn ask_to_stop(&self, now: Timestamp) {
        let _earlier = self.stop_asked_at.compare_exchange(0, now.0, Ordering::AcqRel, Ordering::Acquire);
        self.stop.cancel();
    }

    pub(crate) fn stop_asked_at(&self) -> Option<Timestamp> {
        Some(self.stop_asked_at.load(Ordering::Acquire)).filter(|at| *at != 0).map(Timestamp)
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline_micros.load(Ordering::Acquire))
    }

    pub(crate) fn renewed_until(&self, deadline: Timestamp, ends_at: Instant) {
        self.deadline_micros.store(deadline.0, Ordering::Release);
        *self.ends_at.lock() = ends_at;
    }

    /// Nothing is written under it any more; true if that is news.
    pub(crate) fn lose(&self) -> bool {
        !self.lost.swap(true, Ordering::AcqRel)
    }

    /// Still ours at `now` and for more than `margin`, as far as this node knows.
    pub(crate) fn is_held(&self, now: Timestamp, margin: Duration) -> bool {
        !self.lost.load(Ordering::Acquire)
            && now.after(margin) < self.deadline()
            && Instant::now() + margin < *self.ends_at.lock()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if running.get(&self.id).is_some_and(|lease| lease.strong_count() == 0) {
            running.remove(&self.id);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

//! Handing turns to dispatch, slots round robin over orgs (clauses C1, C5, C8).

use crate::broker::{Broker, reply_topic_of, turns_queue};
use crate::error::BrokerError;
use crate::lease::{Lease, Renewed, Turn, TurnOutcome};
use crate::limits::{EVENTS_PAGE, QUEUES_PAGE};
use crate::news::News;
use crate::pages::each_event;
use crate::record::{BusyRecord, Stored, TurnHeaders, kind_of, parse_busy};
use crate::submit::one;
use crate::timeline::StepKind;
use crate::turn::TurnError;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use turnwise_core::limits::CLAIM_LIMIT_MAX;
use turnwise_core::{
    Claim, Delivery, Extended, Kind, NameError, Outcome, QueueName, Settlement, StoreError, Timestamp,
    TopicName,
};

/// Orgs that may have a turn, or a callback, to claim; next one first.
pub(crate) struct Ring {
    kind: Kind,
    state: Mutex<RingState>,
    woken: Notify,
    hints: tokio::sync::Mutex<Option<BoxStream<'static, QueueName>>>,
}

#[derive(Default)]
struct RingState {
    order: VecDeque<String>,
    members: HashSet<String>,
    polled_at: Option<Timestamp>,
}

impl Ring {
    pub(crate) fn new(kind: Kind, hints: BoxStream<'static, QueueName>) -> Ring {
        Ring {
            kind,
            state: Mutex::default(),
            woken: Notify::new(),
            hints: tokio::sync::Mutex::new(Some(hints)),
        }
    }

    /// Notes that an org may have something to claim, and wakes a claimer.
    pub(crate) fn mark(&self, org: &str) {
        self.add(org);
        self.woken.notify_one();
    }

    pub(crate) fn add(&self, org: &str) {
        let mut state = self.state.lock();
        if !state.members.contains(org) {
            state.members.insert(org.to_owned());
            state.order.push_back(org.to_owned());
        }
    }

    /// The next org, and how many there are with it.
    pub(crate) fn take(&self) -> Option<(String, usize)> {
        let mut state = self.state.lock();
        let count = state.order.len();
        let org = state.order.pop_front()?;
        state.members.remove(&org);
        Some((org, count))
    }

    fn poll_is_due(&self, now: Timestamp, interval: Duration) -> bool {
        let mut state = self.state.lock();
        let due = state.polled_at.is_none_or(|at| now < at || now.since(at) >= interval);
        if due {
            state.polled_at = Some(now);
        }
        due
    }

    fn poll_failed(&self) {
        self.state.lock().polled_at = None;
    }

    /// Waits for a hint, or a poll interval.
    pub(crate) async fn wake(&self, poll_interval: Duration) {
        let hint = async {
            let mut hints = self.hints.lock().await;
            loop {
                let next = match hints.as_mut() {
                    Some(hints) => hints.next().await,
                    None => std::future::pending().await,
                };
                match next {
                    Some(queue) if queue.kind() == self.kind => {
                        self.add(queue.org());
                        return;
                    }
                    Some(_) => {}
                    None => *hints = None,
                }
            }
        };
        tokio::select! {
            biased;
            () = self.woken.notified() => {}
            () = hint => {}
            () = sleep(poll_interval) => {}
        }
    }
}

/// A message that an org's share brought.
pub(crate) struct Leased {
    pub(crate) org: String,
    pub(crate) delivery: Delivery,
    /// On this node's clock, never after the store lets it run out.
    pub(crate) ends_at: Instant,
}

/// What earlier calls left in the reply topic.
#[derive(Default)]
struct Earlier {
    processing: bool,
    agent_event: bool,
    busy: Option<BusyRecord>,
    busy_retries: u32,
}

impl Broker {
    /// Leases up to `limit` turns, at most one per conversation. Never waits.
    /// Do not drop the future halfway: turns leased by then would rest until
    /// their lease is over.
    ///
    /// # Errors
    /// When the store does not answer and no turn was leased.
    pub async fn claim_turns(&self, limit: u32) -> Result<Vec<Turn>, BrokerError> {
        let leased = self.claim_shares(&self.0.ring, limit, self.0.config.turn_lease, turns_queue).await?;
        let mut turns = Vec::new();
        for Leased { org, delivery, ends_at } in leased {
            turns.extend(self.take_on(&org, delivery, ends_at).await);
        }
        Ok(turns)
    }

    /// Leases up to `limit` messages of the queues of one kind, an equal share of each org in turn. Never waits.
    ///
    /// # Errors
    /// When the store does not answer and nothing was leased.
    pub(crate) async fn claim_shares(
        &self,
        ring: &Ring,
        limit: u32,
        lease: Duration,
        queue_of: fn(&str) -> Result<QueueName, NameError>,
    ) -> Result<Vec<Leased>, BrokerError> {
        self.poll(ring).await?;
        let mut leased = Vec::new();
        let mut wanted = limit.min(CLAIM_LIMIT_MAX);
        while wanted > 0
            && let Some((org, orgs)) = ring.take()
        {
            let orgs = u32::try_from(orgs).unwrap_or(u32::MAX).max(1);
            let share = (wanted / orgs).max(1);
            let claim = Claim { queue: queue_of(&org)?, limit: share, lease, durable: false };
            let ends_at = Instant::now() + lease;
            let deliveries = match self.0.store.claim(claim).await {
                Ok(deliveries) => deliveries,
                Err(error) => {
                    ring.add(&org);
                    if leased.is_empty() {
                        return Err(error.into());
                    }
                    break;
                }
            };
            let got = u32::try_from(deliveries.len()).unwrap_or(share);
            if got >= share {
                ring.add(&org);
            }
            wanted = wanted.saturating_sub(got);
            leased.extend(deliveries.into_iter().map(|delivery| Leased {
                org: org.clone(),
                delivery,
                ends_at,
            }));
        }
        Ok(leased)
    }

    /// Works without any hint: asks now and then which queues hold messages.
    async fn poll(&self, ring: &Ring) -> Result<(), StoreError> {
        let due = ring.poll_is_due(self.0.now(), self.0.config.poll_interval);
        let answer = if due { self.mark_all_with_messages(ring).await } else { Ok(()) };
        if answer.is_err() {
            ring.poll_failed();
        }
        answer
    }

    async fn mark_all_with_messages(&self, ring: &Ring) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.0.store.queues(after, QUEUES_PAGE).await?;
            for queue in page.iter().filter(|queue| queue.kind() == ring.kind) {
                ring.add(queue.org());
            }
            match page.last() {
                Some(last) if page.len() >= QUEUES_PAGE as usize => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Waits until there may be a turn to claim: a hint, or a poll interval.
    pub async fn wake(&self) {
        self.0.ring.wake(self.0.config.poll_interval).await;
    }

    /// Makes a turn of a delivery; `None` when it ended or went back instead.
    async fn take_on(&self, org: &str, delivery: Delivery, ends_at: Instant) -> Option<Turn> {
        let id = delivery.receipt.id;
        let receipt = delivery.receipt.clone();
        match self.prepare(org, delivery, ends_at).await {
            Ok(turn) => turn,
            Err(error) => {
                // Without its history a call could be a second one: not now.
                tracing::warn!(message_id = %id, %error, "a turn could not be prepared and goes back");
                let back = Settlement { receipt, outcome: Outcome::Release, effects: Vec::new() };
                if let Err(error) = self.0.store.settle(vec![back]).await {
                    tracing::warn!(message_id = %id, %error, "its lease will run out instead");
                }
                None
            }
        }
    }

    async fn prepare(
        &self,
        org: &str,
        delivery: Delivery,
        ends_at: Instant,
    ) -> Result<Option<Turn>, BrokerError> {
        let inner = &self.0;
        let id = delivery.receipt.id;
        let headers = TurnHeaders::read(&delivery.headers, delivery.enqueued_at);
        // A call of a former process may have left events without a count of its lease.
        let earlier = if delivery.attempt > 1 || headers.accepted_at <= inner.started_at {
            self.earlier(&reply_topic_of(org, id)?).await?
        } else {
            Earlier::default()
        };
        let former = inner.running.lock().get(&id).and_then(std::sync::Weak::upgrade);
        if let Some(former) = former {
            self.lost(&former);
        }
        let now = inner.now();
        let stored = (earlier.processing, earlier.agent_event);
        let lease = Lease::register(&inner.running, id, (delivery.expires_at, ends_at), now, stored);
        let first_claimed = earlier.busy.as_ref().map(|busy| Timestamp(busy.first_claimed));
        let turn = Turn {
            id,
            org: org.to_owned(),
            user: headers.user,
            client: headers.client,
            attempt: delivery.attempt,
            request: delivery.payload,
            callback: headers.callback,
            redrive_of: headers.redrive_of,
            prefer_stream: headers.prefer_stream,
            traceparent: headers.traceparent,
            accepted_at: headers.accepted_at,
            first_claimed_at: first_claimed.unwrap_or(now),
            receipt: delivery.receipt,
            interrupted: earlier.agent_event,
            busy_since: earlier.busy.map(|busy| Timestamp(busy.since)),
            key: delivery.key,
            lease,
        };
        if let Some(key) = &turn.key {
            inner.counters.claimed(org, key.clone());
        }
        let lapsed = (turn.attempt - 1).saturating_sub(earlier.busy_retries);
        if turn.attempt == 1 {
            inner.counts.started(now.since(turn.accepted_at));
        }
        if lapsed > 0 {
            inner.counts.again.one("lost");
        }
        inner
            .board
            .tell(|| News { after: Some(now.since(turn.accepted_at)), ..turn.news(StepKind::Claimed, now) });
        if lapsed >= inner.config.turn_attempts_max && !turn.interrupted {
            let error = TurnError::attempts_exhausted(lapsed);
            self.finish(&turn, TurnOutcome::Failed(error)).await?;
            return Ok(None);
        }
        inner.local.leased(id);
        Ok(Some(turn))
    }

    async fn earlier(&self, topic: &TopicName) -> Result<Earlier, StoreError> {
        let mut earlier = Earlier::default();
        each_event(self.0.store.as_ref(), topic, EVENTS_PAGE, |event| {
            match kind_of(&event.event_type) {
                Stored::Processing => earlier.processing = true,
                Stored::Busy => {
                    earlier.busy_retries = earlier.busy_retries.saturating_add(1);
                    earlier.busy = parse_busy(&event.data).or(earlier.busy.take());
                }
                Stored::Agent(_) => {
                    earlier.agent_event = true;
                    return ControlFlow::Break(());
                }
                Stored::Terminal(_) | Stored::Other => {}
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(earlier)
    }

    /// Whether the turn's lease still lives, as far as this node knows. Costs nothing to ask.
    #[must_use]
    pub fn holds(&self, turn: &Turn) -> bool {
        turn.lease.is_held(self.0.now(), Duration::ZERO)
    }

    /// A lease ended under its holder.
    pub(crate) fn lost(&self, lease: &Lease) {
        if lease.lose() {
            self.0.counts.leases_lost.one();
        }
    }

    /// Lets the lease live on for a whole lease time; call it every third of one.
    ///
    /// # Errors
    /// When the store does not answer; the lease may still be good until
    /// [`Turn::deadline`].
    pub async fn renew(&self, turn: &Turn) -> Result<Renewed, BrokerError> {
        let lease = self.0.config.turn_lease;
        let ends_at = Instant::now() + lease;
        let answers = self.0.store.extend(vec![turn.receipt.clone()], lease).await?;
        match one(answers)?? {
            Extended::Until(until) => {
                turn.lease.renewed_until(until, ends_at);
                Ok(if turn.lease.stop.is_cancelled() { Renewed::Stop } else { Renewed::Ok })
            }
            Extended::Stop(until) => {
                turn.lease.renewed_until(until, ends_at);
                turn.lease.stop.cancel();
                Ok(Renewed::Stop)
            }
            Extended::LeaseLost => {
                self.lost(&turn.lease);
                Ok(Renewed::Lost)
            }
        }
    }
}

impl Turn {
    pub(crate) fn events_stored(&self) -> bool {
        self.lease.events_stored.load(Ordering::Acquire)
    }
}

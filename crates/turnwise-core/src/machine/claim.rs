//! Handing out heads of lanes under leases, and extending leases
//! (clauses Q3 to Q9, Q18).

use super::index::LaneKey;
use super::mutants::{Mutant, is_on};
use super::rows::{Bodies, Row};
use super::{Machine, check};
use crate::error::{ItemResult, Result};
use crate::lease::{Claim, Delivery, Extended, Receipt};
use crate::limits::TICK_ITEMS_MAX;
use crate::message::Stage;
use crate::name::QueueName;
use crate::time::Timestamp;
use std::time::Duration;

impl Machine {
    /// See [`crate::QueueStore::claim`]. A lease that is not durable changes
    /// only lazy rows.
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn claim(&mut self, now: Timestamp, claim: &Claim, bodies: &dyn Bodies) -> Result<Vec<Delivery>> {
        check::claim(claim)?;
        self.tick(now, bodies)?;
        let mut deliveries = Vec::new();
        let mut ended = 0;
        while deliveries.len() < claim.limit as usize {
            let Some(seq) = self.first_head(&claim.queue) else {
                break;
            };
            if self.is_expired(now, seq) || self.must_give_up(seq) {
                if ended == TICK_ITEMS_MAX {
                    break;
                }
                ended += 1;
                self.end_head(now, seq, bodies)?;
                continue;
            }
            deliveries.push(self.lease(now, seq, claim, bodies)?);
            if is_on(Mutant::DoubleDispatch) {
                self.offer_again(seq);
                break;
            }
        }
        if ended == TICK_ITEMS_MAX || self.next_due().is_some_and(|due| due <= now) {
            // More may be claimable once more was noticed: whoever claims should come again.
            self.hinted_queues.insert(claim.queue.clone());
        }
        Ok(deliveries)
    }

    /// The head that is next to be leased.
    fn first_head(&self, queue: &QueueName) -> Option<u64> {
        let (_, _, seq) = self.queues.get(queue)?.claimable.first()?;
        Some(*seq)
    }

    /// Ends a head that may not be leased any more.
    fn end_head(&mut self, now: Timestamp, seq: u64, bodies: &dyn Bodies) -> Result<()> {
        if self.must_give_up(seq) {
            return self.give_up(now, seq, "attempts used up: the holder died".into(), bodies);
        }
        self.expire(now, seq, bodies)
    }

    /// A lazy lease died with its process, and it was the last one allowed.
    fn must_give_up(&self, seq: u64) -> bool {
        !is_on(Mutant::AttemptsIgnored)
            && self.entries.get(&seq).is_some_and(|entry| entry.attempt >= entry.max_attempts)
    }

    fn offer_again(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get(&seq)
            && let Some(queue) = self.queues.get_mut(&entry.queue)
            && entry.attempt == 1
        {
            queue.offer(entry);
        }
    }

    fn lease(&mut self, now: Timestamp, seq: u64, claim: &Claim, bodies: &dyn Bodies) -> Result<Delivery> {
        let message = self.body(bodies, seq)?;
        let token = self.next_token(now);
        let expires_at = now.after(claim.lease);
        if let Some(queue) = self.queues.get_mut(&claim.queue) {
            queue.claimable.pop_first();
        }
        self.move_to(seq, Stage::Leased);
        self.leases.insert((expires_at, seq));
        let mut attempt = 1;
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.attempt += 1;
            entry.rest_mut().token = Some(token);
            entry.set_lease_end(Some(expires_at));
            entry.lease_lazy = !claim.durable;
            attempt = entry.attempt;
            let mut row = entry.state();
            if entry.lease_lazy {
                // On disk a lease that dies with this process is none; only the attempt counts.
                row.stage = Stage::Ready;
                row.lease_expires_at = None;
            }
            let key = entry.key.clone();
            self.put(seq, Row::State(row), !claim.durable);
            if is_on(Mutant::LostHeadRule) {
                self.offer_next(&claim.queue, key.as_ref(), seq);
            }
        }
        Ok(Delivery {
            receipt: Receipt { queue: claim.queue.clone(), id: message.id, token },
            key: message.key.clone(),
            priority: message.priority,
            headers: message.headers.clone(),
            payload: message.payload.clone(),
            attempt,
            enqueued_at: message.enqueued_at,
            expires_at,
        })
    }

    fn offer_next(&mut self, name: &QueueName, key: Option<&LaneKey>, after: u64) {
        let (Some(queue), Some(key)) = (self.queues.get_mut(name), key) else {
            return;
        };
        let next = queue.lanes.get(key).and_then(|lane| lane.values().find(|seq| **seq > after).copied());
        if let Some(entry) = next.and_then(|seq| self.entries.get(&seq)) {
            queue.offer(entry);
        }
    }

    /// See [`crate::QueueStore::extend`].
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn extend(
        &mut self,
        now: Timestamp,
        receipts: &[Receipt],
        lease: Duration,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Extended>>> {
        check::batch(receipts.len())?;
        check::lease(lease)?;
        self.tick(now, bodies)?;
        let extend = |receipt: &Receipt| {
            self.notice(now, receipt.id, bodies)?;
            Ok(Ok(self.extend_one(now, receipt, lease)))
        };
        receipts.iter().map(extend).collect()
    }

    fn extend_one(&mut self, now: Timestamp, receipt: &Receipt, lease: Duration) -> Extended {
        let seq = receipt.id.seq();
        if !self.holds(receipt) {
            return Extended::LeaseLost;
        }
        let Some(entry) = self.entries.get_mut(&seq) else {
            return Extended::LeaseLost;
        };
        let until = now.after(lease);
        if let Some(before) = entry.set_lease_end(Some(until)) {
            self.leases.remove(&(before, seq));
        }
        self.leases.insert((until, seq));
        let (stop, lazy) = (entry.stop_requested(), entry.lease_lazy);
        if !lazy {
            self.put_state(seq, false);
        }
        if stop && !is_on(Mutant::StopLost) { Extended::Stop(until) } else { Extended::Until(until) }
    }

    /// Whether this receipt is the message's current lease. Time was noticed before.
    pub(super) fn holds(&self, receipt: &Receipt) -> bool {
        let Some(entry) = self.entries.get(&receipt.id.seq()) else {
            return false;
        };
        let current = entry.stage == Stage::Leased && entry.token() == Some(receipt.token);
        let late = is_on(Mutant::LateAckAccepted) || is_on(Mutant::DoubleDispatch);
        (current || late) && entry.id == receipt.id && entry.queue == receipt.queue
    }

    /// Offers a message if it may be leased now, or withdraws it.
    pub(super) fn refresh(&mut self, seq: u64) {
        let Some(entry) = self.entries.get(&seq) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&entry.queue) else {
            return;
        };
        let head = entry.key.as_ref().is_none_or(|key| queue.head(key) == Some(seq));
        let ready = entry.stage == Stage::Ready && entry.not_before().is_none();
        if head && ready {
            queue.offer(entry);
            self.hinted_queues.insert(entry.queue.clone());
        } else {
            queue.withdraw(entry);
        }
        // A message that joined ahead of the former head takes its place.
        if head
            && let Some(key) = &entry.key
            && let Some(second) = queue.lanes.get(key).and_then(|lane| lane.values().nth(1).copied())
            && let Some(second) = self.entries.get(&second)
            && !is_on(Mutant::LostHeadRule)
        {
            queue.withdraw(second);
        }
    }

    /// Offers the head of a key, if it may be leased now.
    pub(super) fn refresh_head(&mut self, queue: &QueueName, key: Option<&LaneKey>) {
        let Some(key) = key else { return };
        if let Some(head) = self.queues.get(queue).and_then(|queue| queue.head(key)) {
            self.refresh(head);
        }
    }
}

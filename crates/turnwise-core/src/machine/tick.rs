//! What only time brings: due messages, lapsed leases, messages past their
//! time, dedup keys past their window (clauses Q6, Q7, Q8, Q10, Q14).

use super::Machine;
use super::mutants::{Mutant, is_on};
use super::rows::{Bodies, StoredMessage, Table};
use crate::error::Result;
use crate::limits::TICK_ITEMS_MAX;
use crate::message::{ENDED_HEADER, Effect, MessageId, OrderingKey, Stage};
use crate::name::QueueName;
use crate::time::Timestamp;

impl Machine {
    /// See [`crate::QueueStore::sweep`]: also drops topics past their time.
    ///
    /// # Errors
    /// `Corrupt` when a body cannot be read.
    pub fn sweep(&mut self, now: Timestamp, limit: u32, bodies: &dyn Bodies) -> Result<u32> {
        let limit = limit as usize;
        let mut noticed = self.end_expired(now, limit, bodies)?;
        noticed += self.end_lapsed(now, limit.saturating_sub(noticed), bodies)?;
        noticed += self.line_up_due(now, limit.saturating_sub(noticed));
        noticed += self.forget_old_dedup(now, limit.saturating_sub(noticed));
        noticed += self.drop_old_topics(now, limit.saturating_sub(noticed));
        Ok(u32::try_from(noticed).unwrap_or(u32::MAX))
    }

    /// Notices what time has brought, the oldest first and of each kind a limited
    /// number, so that no operation pays for everything that ended in a night. What
    /// an operation touches itself it looks at in any case: see `notice`,
    /// `line_up_key`, and the heads a claim meets.
    pub(super) fn tick(&mut self, now: Timestamp, bodies: &dyn Bodies) -> Result<()> {
        self.end_expired(now, TICK_ITEMS_MAX, bodies)?;
        self.end_lapsed(now, TICK_ITEMS_MAX, bodies)?;
        self.line_up_due(now, TICK_ITEMS_MAX);
        Ok(())
    }

    fn end_expired(&mut self, now: Timestamp, limit: usize, bodies: &dyn Bodies) -> Result<usize> {
        let mut noticed = 0;
        while noticed < limit
            && let Some((at, seq)) = self.expiring.first().copied().filter(|(at, _)| *at <= now)
        {
            self.expiring.remove(&(at, seq));
            self.expire_if_unleased(now, seq, bodies)?;
            noticed += 1;
        }
        Ok(noticed)
    }

    fn end_lapsed(&mut self, now: Timestamp, limit: usize, bodies: &dyn Bodies) -> Result<usize> {
        let mut noticed = 0;
        while noticed < limit
            && !is_on(Mutant::NoExpiry)
            && let Some((at, seq)) = self.leases.first().copied().filter(|(at, _)| *at <= now)
        {
            self.leases.remove(&(at, seq));
            self.lapse(now, seq, bodies)?;
            noticed += 1;
        }
        Ok(noticed)
    }

    fn line_up_due(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut noticed = 0;
        while noticed < limit
            && let Some((at, seq)) = self.due.first().copied().filter(|(at, _)| *at <= now)
        {
            self.due.remove(&(at, seq));
            self.come_due(seq);
            noticed += 1;
        }
        noticed
    }

    /// Q10: what is due in a key takes its place before anything new does.
    pub(super) fn line_up_key(&mut self, now: Timestamp, queue: &QueueName, key: Option<&OrderingKey>) {
        let Some(key) = key else { return };
        let first = |machine: &Machine| machine.queues.get(queue)?.first_scheduled(&key.0);
        while let Some((at, seq)) = first(self).filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, seq));
            self.come_due(seq);
        }
    }

    /// Notices what time has brought to this one message, so that nothing is
    /// done to it, or answered about it, as if it were still what it was (Q5, Q14, X4).
    pub(super) fn notice(&mut self, now: Timestamp, id: MessageId, bodies: &dyn Bodies) -> Result<()> {
        let seq = id.seq();
        let Some(entry) = self.entries.get(&seq).filter(|entry| entry.id == id) else {
            return Ok(());
        };
        let lapsed = entry.lease_expires_at().is_some_and(|until| until <= now);
        match entry.stage {
            Stage::Leased if lapsed && !is_on(Mutant::NoExpiry) => self.lapse(now, seq, bodies),
            Stage::Scheduled | Stage::Ready if self.is_expired(now, seq) => self.expire(now, seq, bodies),
            Stage::Leased | Stage::Scheduled | Stage::Ready | Stage::Dead => Ok(()),
        }
    }

    pub(super) fn is_expired(&self, now: Timestamp, seq: u64) -> bool {
        let end = self.entries.get(&seq).and_then(|entry| entry.expires_at);
        end.is_some_and(|end| end <= now) && !is_on(Mutant::ExpiredLeased)
    }

    fn expire_if_unleased(&mut self, now: Timestamp, seq: u64, bodies: &dyn Bodies) -> Result<()> {
        let Some(entry) = self.entries.get(&seq) else {
            return Ok(());
        };
        match entry.stage {
            Stage::Leased | Stage::Dead => Ok(()),
            Stage::Scheduled | Stage::Ready if is_on(Mutant::ExpiredLeased) => Ok(()),
            Stage::Scheduled | Stage::Ready => self.expire(now, seq, bodies),
        }
    }

    /// The store ends a message whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp, seq: u64, bodies: &dyn Bodies) -> Result<()> {
        let at_end = last_words(self.body(bodies, seq)?.as_ref());
        if let Some(queue) = self.forget(seq) {
            queue.depth.expired += 1;
        }
        if !is_on(Mutant::AtEndForgotten) {
            self.apply(now, at_end, bodies)?;
        }
        Ok(())
    }

    /// The store gives a message up: its attempts are used up.
    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        seq: u64,
        reason: String,
        bodies: &dyn Bodies,
    ) -> Result<()> {
        let at_end = last_words(self.body(bodies, seq)?.as_ref());
        self.bury(seq, reason);
        if !is_on(Mutant::AtEndForgotten) {
            self.apply(now, at_end, bodies)?;
        }
        Ok(())
    }

    fn lapse(&mut self, now: Timestamp, seq: u64, bodies: &dyn Bodies) -> Result<()> {
        let Some(entry) = self.entries.get(&seq) else {
            return Ok(());
        };
        if entry.stage != Stage::Leased {
            return Ok(());
        }
        self.return_to_place(now, seq, None, bodies)
    }

    /// Back to its place after a retry or lapse, or dead, or expired.
    pub(super) fn return_to_place(
        &mut self,
        now: Timestamp,
        seq: u64,
        reason: Option<&str>,
        bodies: &dyn Bodies,
    ) -> Result<()> {
        let Some(entry) = self.entries.get(&seq) else {
            return Ok(());
        };
        let used_up = entry.attempt >= entry.max_attempts && !is_on(Mutant::AttemptsIgnored);
        if used_up {
            let cause = reason.unwrap_or("the lease ran out");
            let reason = format!("attempts used up ({}): {cause}", entry.attempt);
            return self.give_up(now, seq, reason, bodies);
        }
        if self.is_expired(now, seq) {
            return self.expire(now, seq, bodies);
        }
        let lazy = entry.lease_lazy;
        // Its time may have been noticed while it was leased, on a clock that stepped back since.
        let expiring = entry.expires_at.map(|at| (at, seq));
        self.expiring.extend(expiring);
        self.move_to(seq, Stage::Ready);
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.set_lease_end(None);
            entry.set_stop(false);
            if let Some(reason) = reason {
                entry.rest_mut().reason = Some(reason.to_owned());
            }
        }
        self.put_state(seq, lazy);
        self.refresh(seq);
        Ok(())
    }

    fn come_due(&mut self, seq: u64) {
        let Some(entry) = self.entries.get(&seq) else {
            return;
        };
        match entry.stage {
            Stage::Scheduled => {
                let place = if is_on(Mutant::DueJumpsQueue) { seq } else { self.next_seq() };
                self.move_to(seq, Stage::Ready);
                if let Some(entry) = self.entries.get_mut(&seq) {
                    entry.place = place;
                    if let Some(queue) = self.queues.get_mut(&entry.queue) {
                        queue.unschedule(entry);
                        queue.join(entry);
                    }
                }
                self.put_state(seq, false);
            }
            Stage::Ready => {
                if let Some(entry) = self.entries.get_mut(&seq) {
                    entry.set_not_before(None);
                }
            }
            Stage::Leased | Stage::Dead => return,
        }
        self.refresh(seq);
    }

    /// Moves a message to another stage and keeps the counters.
    pub(super) fn move_to(&mut self, seq: u64, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        let before = std::mem::replace(&mut entry.stage, stage);
        if let Some(until) = entry.lease_expires_at()
            && before == Stage::Leased
        {
            self.leases.remove(&(until, seq));
        }
        if let Some(queue) = self.queues.get_mut(&entry.queue) {
            queue.count_out(before, seq);
            queue.count_in(stage, seq);
        }
    }

    /// Makes a message a dead letter of its queue.
    pub(super) fn bury(&mut self, seq: u64, reason: String) {
        self.move_to(seq, Stage::Dead);
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        entry.set_lease_end(None);
        entry.set_not_before(None);
        entry.set_stop(false);
        entry.rest_mut().reason = Some(reason);
        let key = entry.key.clone();
        let name = entry.queue.clone();
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.leave(entry);
        }
        self.put_state(seq, false);
        self.refresh_head(&name, key.as_ref());
    }

    /// Takes a message out of every index; the caller counts why.
    pub(super) fn forget(&mut self, seq: u64) -> Option<&mut super::index::Queue> {
        let entry = self.entries.remove(&seq)?;
        if let Some(until) = entry.lease_expires_at() {
            self.leases.remove(&(until, seq));
        }
        for at in [entry.deliver_at(), entry.not_before()].into_iter().flatten() {
            self.due.remove(&(at, seq));
        }
        if let Some(at) = entry.expires_at {
            self.expiring.remove(&(at, seq));
        }
        if let Some(queue) = self.queues.get_mut(&entry.queue) {
            queue.count_out(entry.stage, seq);
            queue.unschedule(&entry);
            queue.leave(&entry);
        }
        self.delete(Table::Message, seq);
        self.delete(Table::State, seq);
        self.refresh_head(&entry.queue, entry.key.as_ref());
        self.queues.get_mut(&entry.queue)
    }
}

/// The `at_end` effects of a message, its messages with the header that names it.
fn last_words(ended: &StoredMessage) -> Vec<Effect> {
    let mut effects = ended.at_end.clone();
    for effect in &mut effects {
        if let Effect::Enqueue(message) = effect
            && !is_on(Mutant::EndedUnnamed)
        {
            message.headers.push((ENDED_HEADER.to_owned(), ended.id.to_string()));
        }
    }
    effects
}

//! How leases and messages end: settle, remove, stop, redrive
//! (clauses Q5, Q7, Q8, Q12, Q14, Q18).

use super::mutants::{Mutant, is_on};
use super::rows::Bodies;
use super::{Machine, check};
use crate::error::{ItemResult, Result};
use crate::lease::{Outcome, Settled, Settlement};
use crate::message::{Effect, MessageId, Stage};
use crate::name::QueueName;
use crate::store::{Removed, StopRequested};
use crate::time::Timestamp;
use std::time::Duration;

impl Machine {
    /// See [`crate::QueueStore::settle`].
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn settle(
        &mut self,
        now: Timestamp,
        batch: Vec<Settlement>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Settled>>> {
        check::batch(batch.len())?;
        batch.iter().try_for_each(check::settlement)?;
        self.tick(now, bodies)?;
        batch.into_iter().map(|settlement| self.settle_one(now, settlement, bodies).map(Ok)).collect()
    }

    fn settle_one(&mut self, now: Timestamp, settlement: Settlement, bodies: &dyn Bodies) -> Result<Settled> {
        let seq = settlement.receipt.id.seq();
        self.notice(now, settlement.receipt.id, bodies)?;
        if !self.holds(&settlement.receipt) {
            if is_on(Mutant::EffectsWithoutLease) {
                self.apply(now, settlement.effects, bodies)?;
            }
            return Ok(Settled::LeaseLost);
        }
        match settlement.outcome {
            Outcome::Ack => {
                if let Some(queue) = self.forget(seq) {
                    queue.depth.acked += 1;
                }
            }
            Outcome::Retry { delay, reason } => self.retry(now, seq, delay, &reason, bodies)?,
            Outcome::Release => self.release(now, seq, bodies)?,
            Outcome::Dead { reason } => self.bury(seq, reason),
        }
        self.apply(now, settlement.effects, bodies)?;
        Ok(Settled::Done)
    }

    fn retry(
        &mut self,
        now: Timestamp,
        seq: u64,
        delay: Duration,
        reason: &str,
        bodies: &dyn Bodies,
    ) -> Result<()> {
        let not_before = Some(now.after(delay)).filter(|at| *at > now && !is_on(Mutant::DelayIgnored));
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.lease_lazy = false;
            entry.set_not_before(not_before);
        }
        if is_on(Mutant::LifoRetry) {
            self.move_to_tail(seq);
        }
        self.return_to_place(now, seq, Some(reason), bodies)?;
        if let Some(entry) = self.entries.get(&seq)
            && entry.stage == Stage::Ready
            && let Some(at) = entry.not_before()
        {
            self.due.insert((at, seq));
        }
        Ok(())
    }

    fn release(&mut self, now: Timestamp, seq: u64, bodies: &dyn Bodies) -> Result<()> {
        if let Some(entry) = self.entries.get_mut(&seq)
            && !is_on(Mutant::ReleaseCounts)
        {
            entry.attempt = entry.attempt.saturating_sub(1);
        }
        if let Some(entry) = self.entries.get_mut(&seq) {
            // What was answered as given back stays given back (Q7): this row is not lazy.
            entry.lease_lazy = false;
        }
        self.return_to_place(now, seq, None, bodies)
    }

    fn move_to_tail(&mut self, seq: u64) {
        let place = self.next_seq();
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        let (name, key) = (entry.queue.clone(), entry.key.clone());
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.leave(entry);
            entry.place = place;
            queue.join(entry);
        }
        self.refresh_head(&name, key.as_ref());
    }

    /// See [`crate::QueueStore::remove`].
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn remove(
        &mut self,
        now: Timestamp,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
        bodies: &dyn Bodies,
    ) -> Result<Vec<ItemResult<Removed>>> {
        check::batch(unleased.len())?;
        unleased.iter().try_for_each(|(_, effects)| check::effects(effects))?;
        self.tick(now, bodies)?;
        let remove = |(id, effects)| {
            self.notice(now, id, bodies)?;
            Ok(Ok(self.remove_one(now, queue, id, effects, bodies)?))
        };
        unleased.into_iter().map(remove).collect()
    }

    fn remove_one(
        &mut self,
        now: Timestamp,
        queue: &QueueName,
        id: MessageId,
        effects: Vec<Effect>,
        bodies: &dyn Bodies,
    ) -> Result<Removed> {
        Ok(match self.stage_of(queue, id) {
            None => Removed::NotFound,
            Some(Stage::Leased) => Removed::Leased,
            Some(Stage::Dead) if !effects.is_empty() && !is_on(Mutant::DeadRemovedAgain) => Removed::Dead,
            Some(Stage::Scheduled | Stage::Ready | Stage::Dead) => {
                if let Some(queue) = self.forget(id.seq()) {
                    queue.depth.removed += 1;
                }
                self.apply(now, effects, bodies)?;
                Removed::Done
            }
        })
    }

    /// Where a message is; `None` for another queue's or another nonce.
    fn stage_of(&self, queue: &QueueName, id: MessageId) -> Option<Stage> {
        let entry = self.entries.get(&id.seq())?;
        (entry.id == id && entry.queue == *queue).then_some(entry.stage)
    }

    /// See [`crate::QueueStore::request_stop`].
    ///
    /// # Errors
    /// `Corrupt` when a body cannot be read.
    pub fn request_stop(
        &mut self,
        now: Timestamp,
        queue: &QueueName,
        id: MessageId,
        bodies: &dyn Bodies,
    ) -> Result<StopRequested> {
        self.tick(now, bodies)?;
        self.notice(now, id, bodies)?;
        match self.stage_of(queue, id) {
            None => Ok(StopRequested::NotFound),
            Some(Stage::Scheduled | Stage::Ready | Stage::Dead) => Ok(StopRequested::NotLeased),
            Some(Stage::Leased) => {
                if let Some(entry) = self.entries.get_mut(&id.seq()) {
                    entry.set_stop(true);
                    if !entry.lease_lazy {
                        self.put_state(id.seq(), false);
                    }
                }
                Ok(StopRequested::Asked)
            }
        }
    }

    /// See [`crate::QueueStore::redrive`].
    ///
    /// # Errors
    /// `Invalid` over a limit; `Corrupt` when a body cannot be read.
    pub fn redrive(
        &mut self,
        now: Timestamp,
        queue: &QueueName,
        dead: &[MessageId],
        bodies: &dyn Bodies,
    ) -> Result<u32> {
        check::batch(dead.len())?;
        self.tick(now, bodies)?;
        let mut count = 0;
        for id in dead {
            self.notice(now, *id, bodies)?;
            if self.stage_of(queue, *id) == Some(Stage::Dead) {
                self.redrive_one(now, id.seq());
                count += 1;
            }
        }
        Ok(count)
    }

    fn redrive_one(&mut self, now: Timestamp, seq: u64) {
        if let Some(entry) = self.entries.get(&seq) {
            let (queue, key) = (entry.queue.clone(), entry.ordering_key());
            self.line_up_key(now, &queue, key.as_ref());
        }
        let place = self.next_seq();
        self.move_to(seq, Stage::Ready);
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.place = place;
            if !is_on(Mutant::RedriveKeepsAttempts) {
                entry.attempt = 0;
            }
            if let Some(at) = entry.expires_at {
                self.expiring.insert((at, seq));
            }
            if let Some(queue) = self.queues.get_mut(&entry.queue) {
                queue.join(entry);
            }
        }
        self.put_state(seq, false);
        self.refresh(seq);
    }
}

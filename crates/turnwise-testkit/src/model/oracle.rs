//! The queue rules once more, as naively as can be: one Vec, scanned for every
//! question. Written from the clauses alone, never from the machine.

use super::events::Events;
use super::ops::{Answer, Op};
use crate::trial::Verdict;
use crate::{Broken, hold, same};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher as _};
use std::rc::Rc;
use std::time::Duration;
use turnwise_core::{
    ENDED_HEADER, Effect, Enqueued, Epoch, Extended, ItemResult, LeaseToken, MessageId, NewEvent, NewMessage,
    OrderingKey, Outcome, Position, QueueName, Receipt, Removed, Settled, Settlement, Stage, StopRequested,
    Timestamp,
};

/// One message as the oracle sees it.
#[derive(Clone, Debug)]
pub struct Known {
    /// As sent.
    pub sent: Rc<NewMessage>,
    /// Not known for what an effect stored, until it is handed out.
    pub id: Option<MessageId>,
    /// When it was stored.
    pub enqueued_at: Timestamp,
    /// Where it is; `None` when it is gone.
    pub stage: Option<Stage>,
    /// Its place among all.
    pub place: u64,
    /// Whether the contract settles its place against other keys' messages.
    pub sure: bool,
    /// Leases that counted.
    pub attempt: u32,
    /// The attempts that may be found after a crash, because leases were lazy.
    pub attempts_after_crash: (u32, u32),
    /// A retry delay; what a crash brings back beside it.
    pub delay: Option<Timestamp>,
    pub(super) kept_delay: Option<Timestamp>,
    /// The running lease: token, end, lazy.
    pub lease: Option<(LeaseToken, Timestamp, bool)>,
    /// The holder was asked to stop.
    pub stop: bool,
}

/// Counters of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Ever acknowledged.
    pub acked: u64,
    /// Ever removed.
    pub removed: u64,
    /// Ever expired.
    pub expired: u64,
}

/// How often a history reached what it is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    /// Leases that ran out.
    pub lapsed: u64,
    /// Settlements and extensions refused.
    pub stale: u64,
    /// Repeats recognised.
    pub dedup: u64,
    /// Dead letters made by the store.
    pub dead: u64,
    /// Reads that met a gap.
    pub gaps: u64,
    /// Messages handed out.
    pub claimed: u64,
}

/// A dedup key in use: queue, key, content, end of its window, the first id.
type Repeat = (QueueName, Vec<u8>, [u8; 16], Timestamp, MessageId);

/// What a reopened store says of a message's attempts.
pub type Found<'a> = &'a mut dyn FnMut(&QueueName, MessageId) -> Option<u32>;

/// The naive model.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Every message that ever was.
    pub messages: Vec<Known>,
    /// Topics.
    pub events: Events,
    /// Counters by queue.
    pub totals: Vec<(QueueName, Totals)>,
    /// What was reached.
    pub reached: Reached,
    /// Steps may have met others at the same time: then a claim may hand out less than there is, and need not begin
    /// with what ranks first among different keys (Q9); it hands out heads of lanes only all the same. And of two
    /// enqueues that overlap the later one may have the lower number; nothing is said of their messages' places
    /// against one another, unless they have one key.
    pub meets_others: bool,
    dedups: Vec<Repeat>,
    last_place: u64,
    pub(super) last_token: LeaseToken,
    last_seq: u64,
}

pub(super) type Index = usize;

impl Oracle {
    /// Of an empty store.
    #[must_use]
    pub fn new(epoch: Epoch) -> Oracle {
        Oracle {
            messages: Vec::new(),
            events: Events::new(epoch),
            totals: Vec::new(),
            reached: Reached::default(),
            meets_others: false,
            dedups: Vec::new(),
            last_place: 0,
            last_token: LeaseToken(0),
            last_seq: 0,
        }
    }

    /// Compares one answer with the rules, then takes the step itself.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn step(&mut self, now: Timestamp, op: &Op, answer: &Answer) -> Verdict {
        if let Some(verdict) = self.on_topics(now, op, answer) {
            return verdict;
        }
        self.notice(now);
        match (op, answer) {
            (Op::Enqueue(batch), Answer::Enqueued(answers)) => {
                same!(answers.len(), batch.len(), "answers to an enqueue");
                for (sent, answer) in batch.iter().zip(answers) {
                    let answer = answer.as_ref().map_err(|error| Broken(error.to_string()))?;
                    self.enqueued(now, sent, answer)?;
                }
                Ok(())
            }
            (Op::AppendHeld(receipt, batch), Answer::AppendedHeld(answers)) => {
                self.appended_held(now, receipt, batch, answers.as_deref())
            }
            (Op::Claim(claim), Answer::Claimed(deliveries)) => self.claimed(now, claim, deliveries),
            (Op::Extend(receipts, lease), Answer::Extended(answers)) => {
                same!(answers.len(), receipts.len(), "answers to an extend");
                for (receipt, answer) in receipts.iter().zip(answers) {
                    same!(*answer, Ok(self.extend(now, receipt, *lease)), "extend of {receipt:?}");
                }
                Ok(())
            }
            (Op::Settle(batch), Answer::Settled(answers)) => {
                same!(answers.len(), batch.len(), "answers to a settle");
                for (settlement, answer) in batch.iter().zip(answers) {
                    same!(*answer, Ok(self.settle(now, settlement)), "settling {settlement:?}");
                }
                Ok(())
            }
            (Op::Remove(queue, items), Answer::Removed(answers)) => {
                same!(answers.len(), items.len(), "answers to a remove");
                for ((id, effects), answer) in items.iter().zip(answers) {
                    same!(*answer, Ok(self.remove(now, queue, *id, effects)), "removing {id}");
                }
                Ok(())
            }
            (Op::RequestStop(queue, id), Answer::Stop(answer)) => {
                same!(*answer, self.request_stop(queue, *id), "asking {id} to stop");
                Ok(())
            }
            (Op::Redrive(queue, ids), Answer::Count(count)) => {
                let dead = ids.iter().filter(|id| self.redrive(queue, **id)).count();
                same!(*count as usize, dead, "dead letters redriven");
                Ok(())
            }
            (Op::Sweep, Answer::Count(_)) => {
                self.dedups.retain(|known| known.3 > now);
                self.events.forget(now);
                Ok(())
            }
            (op, answer) => Err(Broken(format!("{op:?} was answered {answer:?}"))),
        }
    }

    /// What time alone brings, for every queue.
    pub fn notice(&mut self, now: Timestamp) {
        let mut due: Vec<(Timestamp, Index)> = Vec::new();
        for at in 0..self.messages.len() {
            let Some(known) = self.messages.get_mut(at) else { continue };
            if known.lease.is_some_and(|(_, until, _)| until <= now) {
                self.reached.lapsed += 1;
                self.give_back(now, at);
            }
            let Some(known) = self.messages.get_mut(at) else { continue };
            if known.delay.is_some_and(|delay| delay <= now) {
                known.delay = None;
            }
            let over = known.sent.expires_at.is_some_and(|end| end <= now);
            match known.stage {
                Some(Stage::Scheduled | Stage::Ready) if over => self.expire(now, at),
                Some(Stage::Scheduled) => {
                    due.extend(known.sent.deliver_at.filter(|time| *time <= now).map(|time| (time, at)));
                }
                Some(Stage::Ready | Stage::Leased | Stage::Dead) | None => {}
            }
        }
        due.sort();
        for (_, at) in due {
            let place = self.next_place();
            if let Some(known) = self.messages.get_mut(at) {
                (known.stage, known.place, known.sure) = (Some(Stage::Ready), place, false);
            }
        }
    }

    fn next_place(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }

    fn total(&mut self, queue: &QueueName) -> &mut Totals {
        let at = match self.totals.iter().position(|(name, _)| name == queue) {
            Some(at) => at,
            None => {
                self.totals.push((queue.clone(), Totals::default()));
                self.totals.len() - 1
            }
        };
        let (_, totals) = self.totals.get_mut(at).expect("just found or pushed");
        totals
    }

    fn end(&mut self, at: Index) -> Option<Rc<NewMessage>> {
        let known = self.messages.get_mut(at)?;
        (known.stage, known.lease) = (None, None);
        Some(Rc::clone(&known.sent))
    }

    fn expire(&mut self, now: Timestamp, at: Index) {
        let id = self.messages.get(at).and_then(|known| known.id);
        if let Some(sent) = self.end(at) {
            self.total(&sent.queue).expired += 1;
            self.apply(now, &last_words(&sent.at_end, id), false);
        }
    }

    pub(super) fn bury(&mut self, now: Timestamp, at: Index, by_store: bool) {
        let Some(known) = self.messages.get_mut(at) else { return };
        (known.stage, known.lease, known.delay, known.kept_delay) = (Some(Stage::Dead), None, None, None);
        known.stop = false;
        known.attempts_after_crash = (known.attempt, known.attempt);
        let (sent, id) = (Rc::clone(&known.sent), known.id);
        if by_store {
            self.reached.dead += 1;
            self.apply(now, &last_words(&sent.at_end, id), false);
        }
    }

    /// A lease is over and the message goes back, or dead, or is past its time.
    fn give_back(&mut self, now: Timestamp, at: Index) {
        let Some(known) = self.messages.get_mut(at) else { return };
        (known.stage, known.stop) = (Some(Stage::Ready), false);
        let lazy = known.lease.take().is_some_and(|(_, _, lazy)| lazy);
        if !lazy {
            known.attempts_after_crash = (known.attempt, known.attempt);
            known.kept_delay = known.delay;
        }
        if known.attempt >= known.sent.max_attempts {
            self.bury(now, at, true);
        } else if known.sent.expires_at.is_some_and(|end| end <= now) {
            self.expire(now, at);
        }
    }

    fn apply(&mut self, now: Timestamp, effects: &[Effect], sure: bool) {
        for effect in effects {
            match effect {
                Effect::Enqueue(message) => self.store(now, message, None, sure),
                Effect::Publish(event) => self.events.publish(now, event),
            }
        }
    }

    fn store(&mut self, now: Timestamp, sent: &NewMessage, id: Option<MessageId>, sure: bool) {
        let later = sent.deliver_at.is_some_and(|at| at > now);
        let place = self.next_place();
        self.messages.push(Known {
            sent: Rc::new(sent.clone()),
            id,
            enqueued_at: now,
            stage: Some(if later { Stage::Scheduled } else { Stage::Ready }),
            place,
            sure: sure && !self.meets_others,
            attempt: 0,
            attempts_after_crash: (0, 0),
            delay: None,
            kept_delay: None,
            lease: None,
            stop: false,
        });
    }

    /// Ready and leased messages of a key, first to last.
    #[must_use]
    pub fn lane(&self, queue: &QueueName, key: &OrderingKey) -> Vec<&Known> {
        let mut lane: Vec<&Known> = self
            .messages
            .iter()
            .filter(|known| {
                known.sent.queue == *queue
                    && known.sent.key.as_ref() == Some(key)
                    && matches!(known.stage, Some(Stage::Ready | Stage::Leased))
            })
            .collect();
        lane.sort_by_key(|known| known.place);
        lane
    }

    fn enqueued(&mut self, now: Timestamp, sent: &NewMessage, answer: &Enqueued) -> Verdict {
        if let Some(dedup) = &sent.dedup {
            self.dedups
                .retain(|known| !(known.0 == sent.queue && known.1 == dedup.key[..] && known.3 <= now));
            let known = self.dedups.iter().find(|known| known.0 == sent.queue && known.1 == dedup.key[..]);
            if let Some((_, _, hash, _, id)) = known {
                let repeat = *hash == dedup.content_hash;
                let expected = if repeat { Enqueued::Duplicate(*id) } else { Enqueued::DedupConflict(*id) };
                same!(*answer, expected, "a dedup key in use");
                self.reached.dedup += 1;
                return Ok(());
            }
        }
        let lane = sent.key.as_ref().map(|key| self.lane(&sent.queue, key)).unwrap_or_default();
        let (ahead, busy) = (lane.len() as u64, lane.iter().any(|known| known.stage == Some(Stage::Leased)));
        if sent.key.is_some() && sent.lane_max.is_some_and(|max| ahead >= u64::from(max)) {
            same!(*answer, Enqueued::LaneFull, "a full lane");
            return Ok(());
        }
        let Enqueued::New { id, position, in_flight } = answer else {
            return Err(Broken(format!("a new message was answered {answer:?}")));
        };
        hold!(self.meets_others || id.seq() > self.last_seq, "the sequence of {id} did not rise");
        self.last_seq = self.last_seq.max(id.seq());
        same!(id.nonce(), sent.nonce, "the nonce");
        if sent.deliver_at.is_none_or(|at| at <= now) {
            let expected = if sent.key.is_some() { (ahead + 1, busy) } else { (1, false) };
            same!((*position, *in_flight), expected, "the place told");
        }
        self.store(now, sent, Some(*id), true);
        if let Some(dedup) = &sent.dedup {
            let until = now.after(dedup.window);
            self.dedups.push((sent.queue.clone(), dedup.key.to_vec(), dedup.content_hash, until, *id));
        }
        Ok(())
    }

    fn holder(&mut self, receipt: &Receipt) -> Option<Index> {
        let at = self.messages.iter().position(|known| {
            known.id == Some(receipt.id)
                && known.sent.queue == receipt.queue
                && known.lease.is_some_and(|(token, ..)| token == receipt.token)
        });
        if at.is_none() {
            self.reached.stale += 1;
        }
        at
    }

    /// What has nothing to do with any queue; `None` for the rest.
    fn on_topics(&mut self, now: Timestamp, op: &Op, answer: &Answer) -> Option<Verdict> {
        Some(match (op, answer) {
            (Op::Append(batch), Answer::Appended(answers)) => {
                self.events.append(now, batch, answers, &mut self.reached)
            }
            (Op::Read(topic, from, limit), Answer::Read(read)) => {
                self.events.read(topic, *from, *limit, read, &mut self.reached)
            }
            (Op::Trim(topic, before), Answer::Done) => {
                self.events.trim(topic, before.0);
                Ok(())
            }
            (Op::Advance(topic, from, to), Answer::Moved(moved)) => {
                self.events.advance(topic, *from, *to, *moved)
            }
            (Op::Enqueue(batch), Answer::Enqueued(answers)) if batch.is_empty() => match answers.len() {
                0 => Ok(()),
                more => Err(Broken(format!("{more} answers to an empty batch"))),
            },
            _ => return None,
        })
    }

    fn appended_held(
        &mut self,
        now: Timestamp,
        receipt: &Receipt,
        batch: &[NewEvent],
        answers: Option<&[ItemResult<Position>]>,
    ) -> Verdict {
        let held = self.holder(receipt).is_some();
        same!(answers.is_some(), held, "an append for the holder of {receipt:?}");
        answers.map_or(Ok(()), |answers| self.events.append(now, batch, answers, &mut self.reached))
    }

    fn extend(&mut self, now: Timestamp, receipt: &Receipt, lease: Duration) -> Extended {
        let at = self.holder(receipt);
        let Some(known) = at.and_then(|at| self.messages.get_mut(at)) else { return Extended::LeaseLost };
        let until = now.after(lease);
        known.lease = known.lease.map(|(token, _, lazy)| (token, until, lazy));
        if known.stop { Extended::Stop(until) } else { Extended::Until(until) }
    }

    fn settle(&mut self, now: Timestamp, settlement: &Settlement) -> Settled {
        let Some(at) = self.holder(&settlement.receipt) else { return Settled::LeaseLost };
        match &settlement.outcome {
            Outcome::Ack => {
                if let Some(sent) = self.end(at) {
                    self.total(&sent.queue).acked += 1;
                }
            }
            Outcome::Retry { delay, .. } => {
                if let Some(known) = self.messages.get_mut(at) {
                    known.delay = Some(now.after(*delay)).filter(|until| *until > now);
                    known.lease = known.lease.map(|(token, until, _)| (token, until, false));
                }
                self.give_back(now, at);
            }
            Outcome::Release => {
                if let Some(known) = self.messages.get_mut(at) {
                    known.attempt = known.attempt.saturating_sub(1);
                }
                self.give_back(now, at);
            }
            Outcome::Dead { .. } => self.bury(now, at, false),
        }
        self.apply(now, &settlement.effects, true);
        Settled::Done
    }

    fn by_id(&self, queue: &QueueName, id: MessageId) -> Option<Index> {
        self.messages
            .iter()
            .position(|known| known.id == Some(id) && known.sent.queue == *queue && known.stage.is_some())
    }

    fn remove(&mut self, now: Timestamp, queue: &QueueName, id: MessageId, effects: &[Effect]) -> Removed {
        let Some(at) = self.by_id(queue, id) else { return Removed::NotFound };
        match self.messages.get(at).and_then(|known| known.stage) {
            Some(Stage::Leased) => return Removed::Leased,
            Some(Stage::Dead) if !effects.is_empty() => return Removed::Dead,
            Some(Stage::Scheduled | Stage::Ready | Stage::Dead) | None => {}
        }
        if let Some(sent) = self.end(at) {
            self.total(&sent.queue).removed += 1;
        }
        self.apply(now, effects, true);
        Removed::Done
    }

    fn request_stop(&mut self, queue: &QueueName, id: MessageId) -> StopRequested {
        let at = self.by_id(queue, id);
        match at.and_then(|at| self.messages.get_mut(at)) {
            None => StopRequested::NotFound,
            Some(known) if known.stage == Some(Stage::Leased) => {
                known.stop = true;
                StopRequested::Asked
            }
            Some(_) => StopRequested::NotLeased,
        }
    }

    fn redrive(&mut self, queue: &QueueName, id: MessageId) -> bool {
        let place = self.next_place();
        let at = self.by_id(queue, id);
        let Some(known) = at.and_then(|at| self.messages.get_mut(at)) else { return false };
        if known.stage != Some(Stage::Dead) {
            return false;
        }
        (known.stage, known.attempt, known.place) = (Some(Stage::Ready), 0, place);
        known.sure &= !self.meets_others;
        known.attempts_after_crash = (0, 0);
        true
    }

    /// Learns the id of a message that an effect stored, where it is not known yet.
    pub fn bind(&mut self, queue: &QueueName, id: MessageId, payload: &[u8]) {
        if self.messages.iter().any(|known| known.id == Some(id)) {
            return;
        }
        let fits = |known: &&mut Known| {
            known.id.is_none()
                && known.stage.is_some()
                && known.sent.queue == *queue
                && known.sent.payload == payload
        };
        if let Some(known) = self.messages.iter_mut().find(fits) {
            known.id = Some(id);
        }
    }

    /// A crash: leases that were lazy end, or live on in `kept`.
    ///
    /// `found` answers what the reopened store says of a message.
    ///
    /// # Errors
    /// When an attempt count is impossible.
    pub fn crash(&mut self, found: Found<'_>) -> Verdict {
        self.totals.clear();
        for known in &mut self.messages {
            let lazy = known.lease.is_some_and(|(_, _, lazy)| lazy);
            if lazy {
                (known.stage, known.lease, known.stop) = (Some(Stage::Ready), None, false);
            }
            known.delay = known.kept_delay;
            let (Some(_), Some(id), (floor, peak)) = (known.stage, known.id, known.attempts_after_crash)
            else {
                continue;
            };
            if floor == peak && known.attempt == floor {
                continue;
            }
            if let Some(attempt) = found(&known.sent.queue, id) {
                hold!((floor..=peak).contains(&attempt), "attempt {attempt} after a crash of {known:?}");
                known.attempt = attempt;
                known.attempts_after_crash = (attempt, attempt);
            }
        }
        Ok(())
    }

    /// Tells states apart that differ in what any operation may answer from now on. What has no order among itself
    /// counts the same in any.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let message = |known: &Known| {
            let place = if known.sure { known.place } else { self.ahead(known) };
            let content = (&known.sent.queue, &known.sent.key, &known.sent.payload);
            let lease = (known.attempt, known.delay, known.lease, known.stop);
            hash(&(content, known.id, known.stage, known.sure, place, lease))
        };
        let total =
            |(queue, total): &(QueueName, Totals)| hash(&(queue, total.acked, total.removed, total.expired));
        let parts = [
            self.messages.iter().map(message).fold(0, u64::wrapping_add),
            self.totals.iter().map(total).fold(0, u64::wrapping_add),
            self.dedups.iter().map(hash).fold(0, u64::wrapping_add),
            self.events.fingerprint(),
        ];
        hash(&(parts, self.last_token, self.last_seq))
    }

    /// How many messages of its key are before one that waits for its turn.
    fn ahead(&self, known: &Known) -> u64 {
        let waits = |known: &&Known| matches!(known.stage, Some(Stage::Ready | Stage::Leased));
        let Some(key) = known.sent.key.as_ref().filter(|_| waits(&known)) else { return 0 };
        let before = |other: &&Known| {
            other.place < known.place
                && other.sent.queue == known.sent.queue
                && other.sent.key.as_ref() == Some(key)
        };
        self.messages.iter().filter(waits).filter(before).count() as u64
    }

    /// The highest token and sequence any client has seen, which no crash takes back.
    #[must_use]
    pub fn seen(&self) -> (LeaseToken, u64) {
        (self.last_token, self.last_seq)
    }

    /// Raises what clients have seen.
    pub fn raise(&mut self, seen: (LeaseToken, u64)) {
        self.last_token = self.last_token.max(seen.0);
        self.last_seq = self.last_seq.max(seen.1);
    }
}

pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Q12: the messages that the store puts name the one it ended.
fn last_words(at_end: &[Effect], ended: Option<MessageId>) -> Vec<Effect> {
    let named = |effect: &Effect| match (effect, ended) {
        (Effect::Enqueue(message), Some(id)) => {
            let mut message = message.clone();
            message.headers.push((ENDED_HEADER.to_owned(), id.to_string()));
            Effect::Enqueue(message)
        }
        (other, _) => other.clone(),
    };
    at_end.iter().map(named).collect()
}

//! What the rules say of a claim: heads only, by priority then place, under a
//! token that rises.

use super::oracle::{Index, Known, Oracle};
use crate::trial::Verdict;
use crate::{Broken, hold, same};
use std::rc::Rc;
use turnwise_core::{Claim, Delivery, QueueName, Stage, Timestamp};

impl Oracle {
    /// Heads that may be leased.
    fn eligible(&self, queue: &QueueName) -> Vec<Index> {
        let lanes = |known: &Known| match &known.sent.key {
            None => true,
            Some(key) => self.messages.iter().all(|other| {
                other.sent.queue != *queue
                    || other.sent.key.as_ref() != Some(key)
                    || !matches!(other.stage, Some(Stage::Ready | Stage::Leased))
                    || other.place >= known.place
            }),
        };
        let ready = |known: &Known| {
            known.sent.queue == *queue && known.stage == Some(Stage::Ready) && known.delay.is_none()
        };
        let all = self.messages.iter().enumerate();
        all.filter(|(_, known)| ready(known) && lanes(known)).map(|(at, _)| at).collect()
    }

    pub(super) fn claimed(&mut self, now: Timestamp, claim: &Claim, deliveries: &[Delivery]) -> Verdict {
        hold!(
            deliveries.len() <= claim.limit as usize,
            "a claim of {} got {}",
            claim.limit,
            deliveries.len()
        );
        // A claim's heads are those at its start; leasing one frees no other.
        for delivery in deliveries {
            let at = self.find(delivery)?;
            self.doom(now, &claim.queue, Some(at));
            self.unblock(now, at);
            self.ranked(&claim.queue, at)?;
            self.delivered(now, claim, at, delivery)?;
        }
        if deliveries.len() < claim.limit as usize && !self.meets_others {
            self.doom(now, &claim.queue, None);
            let left = self.eligible(&claim.queue);
            let left: Vec<_> = left.iter().filter_map(|at| self.messages.get(*at)).collect();
            hold!(left.is_empty(), "a claim with room left these: {left:?}");
        }
        Ok(())
    }

    fn find(&self, delivery: &Delivery) -> Result<Index, Broken> {
        let id = delivery.receipt.id;
        let by_id = self.messages.iter().position(|known| known.id == Some(id));
        let by_text = || {
            let fits = |known: &Known| {
                known.id.is_none()
                    && known.stage == Some(Stage::Ready)
                    && known.sent.queue == delivery.receipt.queue
                    && known.sent.payload == delivery.payload
            };
            self.messages.iter().position(fits)
        };
        by_id.or_else(by_text).ok_or_else(|| Broken(format!("handed out, never sent: {delivery:?}")))
    }

    /// Buries heads whose last allowed lease was lazy and died in a crash, as
    /// far as they rank before the message at `before`.
    fn doom(&mut self, now: Timestamp, queue: &QueueName, before: Option<Index>) {
        let rank = |known: &Known| (u8::MAX - known.sent.priority.0, known.place);
        loop {
            let limit = before.and_then(|at| self.messages.get(at)).map(rank);
            let doomed = self.eligible(queue).into_iter().find(|at| {
                self.messages.get(*at).is_some_and(|known| {
                    known.attempt >= known.sent.max_attempts && limit.is_none_or(|limit| rank(known) < limit)
                })
            });
            let Some(at) = doomed else { return };
            self.bury(now, at, true);
        }
    }

    /// Buries the head of a message's key if its last allowed lease died in a
    /// crash, and such heads before that one.
    fn unblock(&mut self, now: Timestamp, at: Index) {
        let Some(Known { sent, .. }) = self.messages.get(at) else { return };
        let sent = Rc::clone(sent);
        for head in self.eligible(&sent.queue) {
            let blocks = self.messages.get(head).is_some_and(|known| {
                head != at && known.sent.key == sent.key && known.attempt >= known.sent.max_attempts
            });
            if blocks && sent.key.is_some() {
                self.doom(now, &sent.queue, Some(head));
                self.bury(now, head, true);
            }
        }
    }

    /// Q2 and Q9: it is an eligible head, and none before it is passed over.
    fn ranked(&self, queue: &QueueName, at: Index) -> Verdict {
        let Some(known) = self.messages.get(at) else { return Ok(()) };
        let eligible = self.eligible(queue);
        hold!(eligible.contains(&at), "handed out though not an eligible head: {known:?}");
        if self.meets_others {
            return Ok(());
        }
        for other in eligible.iter().filter_map(|at| self.messages.get(*at)) {
            hold!(
                other.sent.priority <= known.sent.priority,
                "{known:?} passed {other:?} of higher priority"
            );
            let before = other.sent.priority == known.sent.priority && other.place < known.place;
            hold!(!(before && other.sure && known.sure), "{known:?} passed {other:?} before it");
        }
        Ok(())
    }

    fn delivered(&mut self, now: Timestamp, claim: &Claim, at: Index, delivery: &Delivery) -> Verdict {
        let Some(known) = self.messages.get_mut(at) else { return Ok(()) };
        hold!(known.sent.expires_at.is_none_or(|end| end > now), "handed out past its time: {known:?}");
        known.id = Some(delivery.receipt.id);
        known.attempt += 1;
        let (floor, peak) = known.attempts_after_crash;
        known.attempts_after_crash =
            if claim.durable { (known.attempt, known.attempt) } else { (floor, peak.max(known.attempt)) };
        let (token, until) = (delivery.receipt.token, now.after(claim.lease));
        hold!(token > self.last_token, "{token:?} after {:?}", self.last_token);
        hold!(token.0 >= u64::try_from(now.0).unwrap_or(0), "{token:?} is below the store time");
        self.last_token = token;
        same!(delivery.expires_at, until, "the end of the lease");
        same!(delivery.attempt, known.attempt, "the attempt");
        same!((&delivery.payload, &delivery.headers), (&known.sent.payload, &known.sent.headers), "content");
        same!((&delivery.key, delivery.priority), (&known.sent.key, known.sent.priority), "key, priority");
        same!(delivery.enqueued_at, known.enqueued_at, "when it was stored");
        known.stage = Some(Stage::Leased);
        known.lease = Some((token, until, !claim.durable));
        if claim.durable {
            known.kept_delay = None;
        }
        self.reached.claimed += 1;
        Ok(())
    }
}

//! What the store answered and what the agents saw, written down as it
//! happens: leases, calls, ends. Says at once what may not be.

use super::counts::Counts;
use super::lock;
use super::weather::SimClock;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use turnwise_core::{
    Claim, Delivery, Extended, ItemResult, LeaseToken, MessageId, OrderingKey, Outcome, QueueName, Receipt,
    Removed, Settled, Settlement, Timestamp,
};
use turnwise_mock::{Call, CallOutcome};

/// Cheap to share.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<Pages>>);

type Lane = (QueueName, OrderingKey);

#[derive(Debug)]
struct Lease {
    receipt: Receipt,
    attempt: u32,
    expires: Timestamp,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Settled,
    /// Its holder died with the store's process.
    Orphan,
}

#[derive(Debug, Default)]
struct Pages {
    counts: Counts,
    broken: Vec<String>,
    leases: BTreeMap<Lane, Lease>,
    over: BTreeSet<MessageId>,
    last_token: Option<LeaseToken>,
    /// The latest time any operation has seen.
    latest: Option<Timestamp>,
    calls: Vec<Call>,
    /// Of each call: the submission it carries, and its lease.
    of_calls: Vec<(u64, Option<Receipt>)>,
    /// Calls that ran beside each other because a lease had lapsed: running, started.
    excused: BTreeSet<(String, String)>,
    ticks: u64,
    /// Where attempts were taken back: those of one message by a release, all
    /// that were not on disk by a crash.
    taken_back: Vec<(u64, Option<MessageId>)>,
    story: Vec<String>,
}

impl Pages {
    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    fn lease_of(&mut self, receipt: &Receipt) -> Option<&mut Lease> {
        self.leases.values_mut().find(|lease| lease.receipt == *receipt)
    }

    fn is_live(&self, receipt: &Receipt, now: Timestamp) -> bool {
        let live = |lease: &Lease| lease.state == State::Open && lease.expires > now;
        self.leases.values().find(|lease| lease.receipt == *receipt).is_some_and(live)
    }
}

impl Book {
    /// Counts something.
    pub fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut lock(&self.0).counts);
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.0).counts
    }

    /// Notes what may not be.
    pub fn broken(&self, what: String) {
        lock(&self.0).broken.push(what);
    }

    /// Everything that may not be, so far.
    #[must_use]
    pub fn all_broken(&self) -> Vec<String> {
        lock(&self.0).broken.clone()
    }

    /// The next place in the one order of everything that clients and agents do.
    pub fn tick(&self) -> u64 {
        let mut pages = lock(&self.0);
        pages.ticks += 1;
        pages.ticks
    }

    /// Adds a line to the story that a replayed seed tells.
    pub fn tell(&self, clock: &SimClock, line: &dyn Display) {
        let us = clock.elapsed_us();
        lock(&self.0).story.push(format!("{us:>9} us  {line}"));
    }

    /// The story so far.
    #[must_use]
    pub fn story(&self) -> String {
        lock(&self.0).story.join("\n")
    }

    /// The store's process died: those who held leases died with it.
    pub fn power_cut(&self) {
        let mut pages = lock(&self.0);
        pages.ticks += 1;
        let now = pages.ticks;
        pages.taken_back.push((now, None));
        for lease in pages.leases.values_mut().filter(|lease| lease.state == State::Open) {
            lease.state = State::Orphan;
        }
    }

    pub(super) fn seen(&self, now: Timestamp) {
        let mut pages = lock(&self.0);
        pages.counts.operations += 1;
        pages.latest = pages.latest.max(Some(now));
    }

    pub(super) fn claimed(&self, claim: &Claim, deliveries: &[Delivery]) {
        let mut pages = lock(&self.0);
        let pages = &mut *pages;
        for delivery in deliveries {
            let receipt = delivery.receipt.clone();
            let lane = (claim.queue.clone(), delivery.key.clone().unwrap_or(OrderingKey("".into())));
            let former = pages.leases.get(&lane).map(|lease| (lease.state, lease.expires));
            if let Some((State::Open, expires)) = former {
                let lapsed = Some(expires) <= pages.latest;
                pages.counts.lapsed += u64::from(lapsed);
                pages.require(lapsed, || format!("{} got a lease beside a live one", receipt.id));
            }
            let over = pages.over.contains(&receipt.id);
            pages.require(!over, || format!("{} was handed out after its end", receipt.id));
            let greater = pages.last_token < Some(receipt.token);
            pages.require(greater, || format!("the token of {} is not greater than the last", receipt.id));
            pages.last_token = pages.last_token.max(Some(receipt.token));
            let (attempt, expires) = (delivery.attempt, delivery.expires_at);
            pages.leases.insert(lane, Lease { receipt, attempt, expires, state: State::Open });
        }
    }

    pub(super) fn extended(&self, now: Timestamp, receipts: &[Receipt], answers: &[ItemResult<Extended>]) {
        let mut pages = lock(&self.0);
        for (receipt, answer) in receipts.iter().zip(answers) {
            match answer {
                Ok(Extended::Until(until) | Extended::Stop(until)) => {
                    let live = pages.is_live(receipt, now);
                    pages.require(live, || format!("the lost lease of {} was extended", receipt.id));
                    if let Some(lease) = pages.lease_of(receipt) {
                        lease.expires = *until;
                    }
                }
                Ok(Extended::LeaseLost) => pages.counts.stale += 1,
                Err(_) => {}
            }
        }
    }

    pub(super) fn settled(&self, now: Timestamp, batch: &[Settlement], answers: &[ItemResult<Settled>]) {
        let mut pages = lock(&self.0);
        for (item, answer) in batch.iter().zip(answers) {
            match answer {
                Ok(Settled::Done) => {
                    let receipt = &item.receipt;
                    let live = pages.is_live(receipt, now);
                    pages.require(live, || format!("the lost lease of {} was settled", receipt.id));
                    if let Some(lease) = pages.lease_of(receipt) {
                        lease.state = State::Settled;
                    }
                    match &item.outcome {
                        Outcome::Ack => {
                            pages.over.insert(receipt.id);
                        }
                        Outcome::Dead { .. } => {
                            pages.counts.dead += 1;
                            pages.over.insert(receipt.id);
                        }
                        Outcome::Retry { .. } => pages.counts.retries += 1,
                        Outcome::Release => {
                            pages.ticks += 1;
                            let now = pages.ticks;
                            pages.taken_back.push((now, Some(receipt.id)));
                        }
                    }
                }
                Ok(Settled::LeaseLost) => pages.counts.stale += 1,
                Err(_) => {}
            }
        }
    }

    pub(super) fn removed(&self, ids: &[MessageId], answers: &[ItemResult<Removed>]) {
        let mut pages = lock(&self.0);
        for (id, answer) in ids.iter().zip(answers) {
            if let Ok(Removed::Done) = answer {
                pages.over.insert(*id);
            }
        }
    }

    /// An agent has read a request. Answers the number of the call.
    pub(super) fn call_started(&self, now: (Timestamp, u64), call: Call, submission: u64) -> usize {
        let mut pages = lock(&self.0);
        let pages = &mut *pages;
        pages.counts.calls += 1;
        pages.ticks += 1;
        let of_call =
            |lease: &&Lease| lease.receipt.id.to_string() == call.message_id && lease.attempt == call.attempt;
        let receipt = pages.leases.values().find(of_call).map(|lease| lease.receipt.clone());
        for (running, (_, of_running)) in pages.calls.iter().zip(&pages.of_calls) {
            if running.ended.is_some() || running.conversation != call.conversation {
                continue;
            }
            let settled =
                |lease: &Lease| Some(&lease.receipt) == of_running.as_ref() && lease.state == State::Settled;
            let live = of_running.as_ref().is_some_and(|receipt| pages.is_live(receipt, now.0));
            if !live && !pages.leases.values().any(settled) {
                pages.counts.overtaken += 1;
                pages.excused.insert((running.message_id.clone(), call.message_id.clone()));
            }
        }
        pages.calls.push(Call { started: pages.ticks, started_us: now.1, ..call });
        pages.of_calls.push((submission, receipt));
        pages.calls.len() - 1
    }

    pub(super) fn call_ended(&self, now_us: u64, number: usize, outcome: CallOutcome) {
        let mut pages = lock(&self.0);
        pages.ticks += 1;
        let ended = pages.ticks;
        if let Some(call) = pages.calls.get_mut(number).filter(|call| call.ended.is_none()) {
            call.ended = Some(ended);
            call.ended_us = Some(now_us);
            call.outcome = Some(outcome);
        }
    }

    /// Everything the agents saw.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0).calls.clone()
    }

    /// The submissions that agents were called with.
    #[must_use]
    pub fn submissions_called(&self) -> BTreeSet<u64> {
        lock(&self.0).of_calls.iter().map(|(submission, _)| *submission).collect()
    }

    /// Whether a message lost the count of a call between two places in the order of everything.
    #[must_use]
    pub fn lost_count(&self, id: &str, from: u64, to: u64) -> bool {
        let of_it = |whose: &Option<MessageId>| whose.is_none_or(|whose| whose.to_string() == id);
        lock(&self.0).taken_back.iter().any(|(at, whose)| (from..to).contains(at) && of_it(whose))
    }

    /// Whether one call may have run beside the other: the lease of the first had lapsed.
    #[must_use]
    pub fn is_excused(&self, running: &str, started: &str) -> bool {
        lock(&self.0).excused.contains(&(running.to_owned(), started.to_owned()))
    }
}

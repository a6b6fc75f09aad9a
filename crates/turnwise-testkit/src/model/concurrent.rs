//! Random histories of several clients at once, on one node or several: there must be an order of their operations,
//! in which each lies between its call and its answer, that the naive model answers the same way (Herlihy and Wing,
//! "Linearizability", 1990). Only of a claim that meets others less is asked: see [`Oracle::meets_others`].

use super::generate::Generator;
use super::ops::{self, Answer, Op};
use super::oracle::{Oracle, Reached};
use super::{SEED_ENV, compare, learn, seeds};
use crate::harness::Harness;
use crate::hold;
use crate::trial::{Broken, PAGE, Trial, Verdict, secs};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use turnwise_core::{Claim, QueueName, Read, ReadFrom, Stage, Store, Timestamp};

/// Clients of a history.
const CLIENTS: usize = 4;
/// Operations of each between two moments in which nobody does anything.
const STEPS: usize = 2;
/// States that one moment may have; more cannot be told apart in time.
const STATES_MAX: usize = 50_000;

/// One operation, and when it ran: numbers of one counter.
#[derive(Clone, Debug)]
pub struct Done {
    /// When it was called.
    pub began: u64,
    /// When it was answered.
    pub ended: u64,
    /// What was asked.
    pub op: Op,
    /// What was answered.
    pub answer: Answer,
}

/// Runs random histories; what they reached, and how many pairs of operations overlapped.
///
/// # Errors
/// The first history that no order explains, with its seed.
pub async fn run(harness: &dyn Harness, count: u64, rounds: u32) -> Result<(Reached, u64), Broken> {
    let (mut reached, mut overlaps) = (Reached::default(), 0);
    for seed in seeds(count) {
        let mut crowd = Crowd::open(harness, seed).await;
        if let Err(broken) = crowd.run(rounds).await {
            return Err(Broken(format!("{SEED_ENV}={seed} on {}: {broken}", harness.name())));
        }
        if let Some(oracle) = crowd.oracles.first() {
            reached.add(&oracle.reached);
        }
        overlaps += crowd.overlaps;
    }
    Ok((reached, overlaps))
}

struct Crowd<'a> {
    trial: Trial<'a>,
    /// All on the same data.
    nodes: Vec<Arc<dyn Store>>,
    generator: Generator,
    /// Every state that explains what was answered so far.
    oracles: Vec<Oracle>,
    overlaps: u64,
}

impl<'a> Crowd<'a> {
    async fn open(harness: &'a dyn Harness, seed: u64) -> Crowd<'a> {
        harness.clock().set(crate::clock::START);
        let trial = Trial::new(harness).await;
        let mut nodes = vec![Arc::clone(&trial.store)];
        nodes.extend(harness.open_another().await);
        let mut generator = Generator::new(seed, false);
        generator.options.lazy &= !harness.keeps_lazy_leases();
        let oracles = vec![Oracle::new(trial.store.epoch())];
        Crowd { trial, nodes, generator, oracles, overlaps: 0 }
    }

    async fn run(&mut self, rounds: u32) -> Verdict {
        for _ in 0..rounds {
            let Some(oracle) = self.oracles.first() else { return Err(Broken("no state is left".into())) };
            let now = self.generator.time(self.trial.clock.now(), oracle);
            self.trial.clock.set(now);
            let mut plans: Vec<Vec<Op>> = Vec::new();
            for _ in 0..CLIENTS {
                plans.push((0..STEPS).map(|_| self.generator.op(now, oracle)).collect());
            }
            let all = self.at_once(plans).await?;
            self.oracles = explain(std::mem::take(&mut self.oracles), now, &all)?;
            for done in &all {
                learn(&mut self.generator, &done.op, &done.answer);
            }
            self.overlaps += all.iter().map(|one| overlapping(one, &all)).sum::<u64>() / 2;
            self.inspect(now).await?;
        }
        Ok(())
    }

    /// Lets every client do its operations, one after another, beside the others.
    async fn at_once(&self, plans: Vec<Vec<Op>>) -> Result<Vec<Done>, Broken> {
        let count = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for (plan, node) in plans.into_iter().zip(self.nodes.iter().cycle()) {
            let (count, node) = (Arc::clone(&count), Arc::clone(node));
            clients.spawn(async move {
                let mut all = Vec::new();
                for op in plan {
                    let began = count.fetch_add(1, Ordering::SeqCst);
                    let answer = ops::run(&*node, &op).await?;
                    all.push(Done { began, ended: count.fetch_add(1, Ordering::SeqCst), op, answer });
                }
                Ok::<_, Broken>(all)
            });
        }
        let mut all = Vec::new();
        while let Some(done) = clients.join_next().await {
            all.extend(done.map_err(|error| Broken(error.to_string()))??);
        }
        Ok(all)
    }

    /// Now that nobody does anything: one claim by all the rules, then everything that can be asked. Keeps the
    /// states that agree.
    async fn inspect(&mut self, now: Timestamp) -> Verdict {
        for _ in 0..100 {
            if let Answer::Count(0) = self.alone(now, Op::Sweep).await? {
                break;
            }
        }
        let [queue, _] = &self.generator.names.queues;
        let (queue, limit) = (queue.clone(), 1 + u32::from(self.generator.random.chance(30)));
        let claim = Claim { queue, limit, lease: secs(1 + self.generator.random.below(20)), durable: true };
        self.alone(now, Op::Claim(claim)).await?;
        let queues: Vec<QueueName> = self.generator.names.all_queues().into_iter().cloned().collect();
        for queue in &queues {
            self.trial.conserve(queue).await?;
            for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
                let found = self.trial.list(queue, stage).await?;
                self.keep(|oracle| compare(oracle, queue, stage, &found))?;
            }
        }
        let topics: Vec<_> = self.generator.names.all_topics().into_iter().cloned().collect();
        for topic in &topics {
            match self.trial.store.read(topic, ReadFrom::Earliest, PAGE).await? {
                Read::Events { events, .. } => {
                    self.keep(|oracle| oracle.events.compare(topic, &events))?;
                }
                gap @ Read::Gap { .. } => return Err(Broken(format!("{gap:?} instead of the oldest"))),
            }
        }
        Ok(())
    }

    async fn alone(&mut self, now: Timestamp, op: Op) -> Result<Answer, Broken> {
        let answer = ops::run(&*self.trial.store, &op).await?;
        learn(&mut self.generator, &op, &answer);
        self.keep(|oracle| {
            oracle.meets_others = false;
            oracle.step(now, &op, &answer)
        })?;
        Ok(answer)
    }

    fn keep(&mut self, mut agrees: impl FnMut(&mut Oracle) -> Verdict) -> Verdict {
        let mut why = Ok(());
        self.oracles.retain_mut(|oracle| match agrees(oracle) {
            Ok(()) => true,
            Err(broken) => {
                why = Err(broken);
                false
            }
        });
        if self.oracles.is_empty() { why } else { Ok(()) }
    }
}

/// How many others ran at the same time for a while.
fn overlapping(one: &Done, all: &[Done]) -> u64 {
    let beside = |other: &&Done| other.began < one.ended && one.began < other.ended;
    all.iter().filter(beside).count() as u64 - 1
}

/// The states after these operations, in every order that time allows and the model agrees with.
///
/// # Errors
/// There is no such order.
pub fn explain(before: Vec<Oracle>, now: Timestamp, all: &[Done]) -> Result<Vec<Oracle>, Broken> {
    let mut states: Vec<(u64, Oracle)> = before.into_iter().map(|oracle| (0, oracle)).collect();
    for _ in all {
        let mut next: HashMap<(u64, u64), Oracle> = HashMap::new();
        let mut why = None;
        for (done, oracle) in &states {
            for at in open(*done, all) {
                let Some(one) = all.get(at) else { continue };
                let mut oracle = oracle.clone();
                oracle.meets_others = true;
                match oracle.step(now, &one.op, &one.answer) {
                    Ok(()) => drop(next.insert((done | 1 << at, oracle.fingerprint()), oracle)),
                    Err(broken) => why = Some(broken),
                }
            }
        }
        if let (true, Some(broken)) = (next.is_empty(), why) {
            return Err(Broken(format!("no order explains this, at last {broken}\n{}", told(all))));
        }
        hold!(next.len() <= STATES_MAX, "too many orders explain this\n{}", told(all));
        states = next.into_iter().map(|((done, _), oracle)| (done, oracle)).collect();
    }
    Ok(states.into_iter().map(|(_, oracle)| oracle).collect())
}

/// What may come next: nothing that is left had been answered before it was called.
fn open(done: u64, all: &[Done]) -> impl Iterator<Item = usize> {
    let left = move |at: &usize| done & (1 << at) == 0;
    let earliest = all.iter().enumerate().filter(move |(at, _)| left(at)).map(|(_, one)| one.ended).min();
    let all = all.iter().enumerate();
    all.filter(move |(at, one)| left(at) && earliest.is_some_and(|end| one.began < end)).map(|(at, _)| at)
}

/// For a person to read.
fn told(all: &[Done]) -> String {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by_key(|done| done.began);
    let mut text = String::new();
    for Done { began, ended, op, answer } in all {
        let _ = writeln!(text, "{began:>3}–{ended:<3} {op:?}\n    -> {answer:?}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::clock::START;
    use crate::trial::{message, queue};
    use turnwise_core::{Delivery, Enqueued, Epoch, LeaseToken, MessageId, Receipt};

    fn done(began: u64, ended: u64, op: Op, answer: Answer) -> Done {
        Done { began, ended, op, answer }
    }

    fn id(seq: u64) -> MessageId {
        MessageId::new(seq, 7)
    }

    fn enqueue(began: u64, ended: u64, text: &str, seq: u64, position: u64) -> Done {
        let stored = Enqueued::New { id: id(seq), position, in_flight: false };
        let op = Op::Enqueue(vec![message(&queue("a"), "k", text)]);
        done(began, ended, op, Answer::Enqueued(vec![Ok(stored)]))
    }

    fn claim(began: u64, ended: u64, handed_out: Option<(&str, u64, u64)>) -> Done {
        let claim = Claim { queue: queue("a"), limit: 1, lease: secs(9), durable: true };
        let delivery = handed_out.map(|(text, seq, token)| {
            let sent = message(&queue("a"), "k", text);
            let token = LeaseToken(token + u64::try_from(START.0).unwrap());
            Delivery {
                receipt: Receipt { queue: queue("a"), id: id(seq), token },
                key: sent.key,
                priority: sent.priority,
                headers: sent.headers,
                payload: sent.payload,
                attempt: 1,
                enqueued_at: START,
                expires_at: START.after(secs(9)),
            }
        });
        done(began, ended, Op::Claim(claim), Answer::Claimed(delivery.into_iter().collect()))
    }

    fn states(all: &[Done]) -> Result<usize, Broken> {
        explain(vec![Oracle::new(Epoch(1))], START, all).map(|states| states.len())
    }

    #[test]
    fn what_overlaps_may_have_happened_in_either_order() {
        let beside = [enqueue(0, 3, "one", 2, 2), enqueue(1, 2, "two", 1, 1)];
        assert_eq!(states(&beside).unwrap(), 1, "the second was first");
        let after = [enqueue(0, 1, "one", 2, 2), enqueue(2, 3, "two", 1, 1)];
        states(&after).unwrap_err();
    }

    #[test]
    fn a_lane_is_handed_out_once_and_from_its_head() {
        let stored = [enqueue(0, 1, "one", 1, 1), enqueue(2, 3, "two", 2, 2)];
        let with = |claims: &[Done]| states(&[&stored, claims].concat());
        with(&[claim(4, 7, Some(("one", 1, 1))), claim(5, 6, None)]).unwrap();
        with(&[claim(4, 7, Some(("one", 1, 1))), claim(5, 6, Some(("two", 2, 2)))]).unwrap_err();
        with(&[claim(4, 7, Some(("one", 1, 1))), claim(5, 6, Some(("one", 1, 2)))]).unwrap_err();
        with(&[claim(4, 5, Some(("two", 2, 1)))]).unwrap_err();
        with(&[claim(4, 5, Some(("three", 3, 1)))]).unwrap_err();
    }

    #[test]
    fn a_message_is_not_handed_out_before_it_is_sent() {
        let early = [claim(0, 1, Some(("one", 1, 1))), enqueue(2, 3, "one", 1, 1)];
        states(&early).unwrap_err();
        let beside = [claim(0, 2, Some(("one", 1, 1))), enqueue(1, 3, "one", 1, 1)];
        assert_eq!(states(&beside).unwrap(), 1);
    }

    #[test]
    fn overlaps_are_counted() {
        let all = [claim(0, 3, None), claim(1, 2, None), claim(4, 5, None)];
        let counts: Vec<u64> = all.iter().map(|one| overlapping(one, &all)).collect();
        assert_eq!(counts, [1, 1, 0]);
        assert_eq!(open(0, &all).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(all[0].ended, 3);
    }
}

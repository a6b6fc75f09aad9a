//! Random histories against a store and against a naive model of the rules.
//!
//! A failing seed is told and can be run again with `TURNWISE_SEED`.

mod claims;
pub mod concurrent;
pub mod events;
pub mod generate;
pub mod ops;
pub mod oracle;

use crate::harness::Harness;
use crate::trial::{Broken, PAGE, Trial, Verdict, secs};
use crate::{hold, same};
use generate::Generator;
use ops::{Answer, Op};
use oracle::{Known, Oracle, Reached};
use std::fmt::Write as _;
use turnwise_core::{Claim, Enqueued, Outcome, QueueName, Receipt, Settlement, Stage};

/// Environment variable that names one seed to run again.
pub const SEED_ENV: &str = "TURNWISE_SEED";
/// Rounds of claiming and acknowledging after which a drain must be over.
const DRAIN_ROUNDS: u32 = 400;

/// The seeds to run: `count` from 1, or the one in the environment.
#[must_use]
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var(SEED_ENV).ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}

/// Runs random histories; what they reached.
///
/// # Errors
/// The first broken history, with its seed and its last steps.
pub async fn run(harness: &dyn Harness, count: u64, steps: u32) -> Result<Reached, Broken> {
    let mut reached = Reached::default();
    for seed in seeds(count) {
        let mut history = History::open(harness, seed).await;
        if let Err(broken) = history.run(steps).await {
            let text = format!("{SEED_ENV}={seed} on {}: {broken}\n{}", harness.name(), history.tail());
            return Err(Broken(text));
        }
        reached.add(&history.oracle.reached);
    }
    Ok(reached)
}

impl Reached {
    /// Adds another history's counts.
    pub fn add(&mut self, other: &Reached) {
        self.lapsed += other.lapsed;
        self.stale += other.stale;
        self.dedup += other.dedup;
        self.dead += other.dead;
        self.gaps += other.gaps;
        self.claimed += other.claimed;
    }
}

/// What a generator's clients and workers learn from an answer.
pub fn learn(generator: &mut Generator, op: &Op, answer: &Answer) {
    match (op, answer) {
        (Op::Claim(_), Answer::Claimed(deliveries)) => generator.learn_leases(deliveries),
        (Op::Enqueue(batch), Answer::Enqueued(answers)) => {
            for (sent, answer) in batch.iter().zip(answers) {
                if let Ok(Enqueued::New { id, .. }) = answer {
                    generator.learn_id(&sent.queue, *id);
                }
            }
        }
        _ => {}
    }
}

struct History<'a> {
    trial: Trial<'a>,
    oracle: Oracle,
    generator: Generator,
    log: Vec<String>,
}

impl<'a> History<'a> {
    async fn open(harness: &'a dyn Harness, seed: u64) -> History<'a> {
        harness.clock().set(crate::clock::START);
        let trial = Trial::new(harness).await;
        let oracle = Oracle::new(trial.store.epoch());
        let mut generator = Generator::new(seed, harness.durable());
        generator.options.lazy &= !harness.keeps_lazy_leases();
        History { trial, oracle, generator, log: Vec::new() }
    }

    /// The last steps, for a person to read.
    fn tail(&self) -> String {
        let mut text = format!("{:?}\n", self.generator.options);
        for line in self.log.iter().rev().take(40).rev() {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    async fn run(&mut self, steps: u32) -> Verdict {
        for _ in 0..steps {
            let now = self.generator.time(self.trial.clock.now(), &self.oracle);
            self.trial.clock.set(now);
            let op = self.generator.op(now, &self.oracle);
            let answer = self.step(&op).await?;
            learn(&mut self.generator, &op, &answer);
            if self.generator.options.crashes && self.generator.random.chance(3) {
                self.crash().await?;
            }
            if self.generator.random.chance(5) {
                self.inspect().await?;
            }
        }
        self.inspect().await?;
        self.drain().await?;
        self.inspect().await
    }

    async fn step(&mut self, op: &Op) -> Result<Answer, Broken> {
        let now = self.trial.clock.now();
        let answer = ops::run(&*self.trial.store, op).await?;
        self.log.push(format!("{} {op:?}\n    -> {answer:?}", now.0 - crate::clock::START.0));
        self.oracle.step(now, op, &answer)?;
        Ok(answer)
    }

    async fn crash(&mut self) -> Verdict {
        self.log.push("crash".into());
        self.trial.crash().await;
        let mut found = Vec::new();
        for queue in self.generator.names.all_queues() {
            for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
                found.extend(self.trial.list(queue, stage).await?);
            }
        }
        self.oracle.crash(&mut |queue, id| {
            let info = found.iter().find(|info| info.id == id && info.queue == *queue)?;
            Some(info.attempt)
        })
    }

    /// Sweeps, then compares everything that can be asked.
    async fn inspect(&mut self) -> Verdict {
        for _ in 0..100 {
            if let Answer::Count(0) = self.step(&Op::Sweep).await? {
                break;
            }
        }
        for queue in self.generator.names.all_queues() {
            self.trial.conserve(queue).await?;
            for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
                compare(&self.oracle, queue, stage, &self.trial.list(queue, stage).await?)?;
            }
            for key in ["k0", "k1", "k2"] {
                let key = turnwise_core::OrderingKey(key.into());
                let lane = self.oracle.lane(queue, &key);
                let last = lane.last().and_then(|known| known.id);
                let told = self.trial.store.lane(queue, &key, last).await?;
                let busy = lane.iter().find(|known| known.stage == Some(Stage::Leased));
                same!(told.length, lane.len() as u64, "the length of a lane");
                same!(told.in_flight, busy.and_then(|known| known.id), "who is in flight");
                same!(told.place, last.map(|_| lane.len() as u64), "the place of the last");
            }
        }
        for topic in self.generator.names.all_topics() {
            let from = turnwise_core::ReadFrom::Earliest;
            let turnwise_core::Read::Events { events, .. } = self.trial.store.read(topic, from, PAGE).await?
            else {
                return Err(Broken("reading from the oldest answers a gap".into()));
            };
            self.oracle.events.compare(topic, &events)?;
        }
        Ok(())
    }

    /// Without faults everything comes to an end.
    async fn drain(&mut self) -> Verdict {
        let queues: Vec<QueueName> = self.generator.names.all_queues().into_iter().cloned().collect();
        for _ in 0..DRAIN_ROUNDS {
            self.trial.clock.advance(secs(5));
            for queue in &queues {
                let claim = Claim { queue: queue.clone(), limit: 50, lease: secs(30), durable: true };
                if let Answer::Claimed(deliveries) = self.step(&Op::Claim(claim)).await? {
                    let receipts: Vec<Receipt> =
                        deliveries.into_iter().map(|delivery| delivery.receipt).collect();
                    let batch = receipts.into_iter().map(|receipt| Settlement {
                        receipt,
                        outcome: Outcome::Ack,
                        effects: Vec::new(),
                    });
                    self.step(&Op::Settle(batch.collect())).await?;
                }
            }
            if open(&self.oracle).next().is_none() {
                return Ok(());
            }
        }
        let left: Vec<&Known> = open(&self.oracle).collect();
        Err(Broken(format!("after a drain these are left: {left:?}")))
    }
}

fn open(oracle: &Oracle) -> impl Iterator<Item = &Known> {
    let waits = |known: &&Known| matches!(known.stage, Some(Stage::Scheduled | Stage::Ready | Stage::Leased));
    oracle.messages.iter().filter(waits)
}

/// Compares one stage's messages with the oracle's.
///
/// # Errors
/// When they differ.
pub fn compare(
    oracle: &Oracle,
    queue: &QueueName,
    stage: Stage,
    found: &[turnwise_core::MessageInfo],
) -> Verdict {
    let mine =
        oracle.messages.iter().filter(|known| known.sent.queue == *queue && known.stage == Some(stage));
    let mut texts: Vec<_> = mine.clone().map(|known| known.sent.payload.clone()).collect();
    let mut told: Vec<_> = found.iter().map(|info| info.payload.clone()).collect();
    texts.sort();
    told.sort();
    same!(told, texts, "messages that are {stage:?} in {queue:?}");
    for known in mine {
        let Some(info) = found.iter().find(|info| Some(info.id) == known.id) else {
            hold!(known.id.is_none(), "{known:?} is not listed as {stage:?}");
            continue;
        };
        same!(info.attempt, known.attempt, "the attempt of {known:?}");
        same!(info.lease_expires_at, known.lease.map(|(_, until, _)| until), "the lease of {known:?}");
        same!(info.stop_requested, known.stop, "the stop request of {known:?}");
        same!((&info.key, info.priority), (&known.sent.key, known.sent.priority), "{known:?}");
        if stage == Stage::Ready {
            same!(info.not_before, known.delay, "the delay of {known:?}");
        }
    }
    Ok(())
}

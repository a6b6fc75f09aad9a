//! The bare machine over a faulty disk: crashes that lose unsynced writes or
//! tear the last one, clock jumps, workers that come late. Millions of steps,
//! each compared with the oracle; what was answered must survive.

pub mod disk;

use crate::clock::START;
use crate::model::generate::Generator;
use crate::model::learn;
use crate::model::ops::{Answer, Op, SUBSCRIPTION, SWEEP};
use crate::model::oracle::{Oracle, Reached};
use crate::model::{SEED_ENV, compare};
use crate::trial::{Broken, PAGE, Verdict, secs};
use crate::{hold, same, tally};
use bytes::Bytes;
use disk::Disk;
use std::collections::BTreeMap;
use std::fmt;
use turnwise_core::machine::Machine;
use turnwise_core::{
    Claim, Epoch, Event, LeaseToken, MessageId, Outcome, QueueName, Read, ReadFrom, Settlement, Stage,
    StoreError, Timestamp, TopicName,
};

/// The epoch of every simulated store.
const EPOCH: Epoch = Epoch(11);
/// Rounds after which everything must have come to an end.
const DRAIN_ROUNDS: u32 = 60;

/// How often each thing happened that the simulation is there for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Histories.
    pub seeds: u64,
    /// Operations.
    pub steps: u64,
    /// Crashes.
    pub crashes: u64,
    /// Crashes that lost written but unsynced records.
    pub crashes_with_unsynced: u64,
    /// Crashes that tore a record.
    pub torn: u64,
    /// Clock steps back.
    pub clock_back: u64,
    /// From the oracle.
    pub reached: Reached,
}

impl Counts {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Counts) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.crashes_with_unsynced += other.crashes_with_unsynced;
        self.torn += other.torn;
        self.clock_back += other.clock_back;
        self.reached.add(&other.reached);
    }

    /// Each count with its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("seeds", self.seeds),
            ("steps", self.steps),
            ("crashes", self.crashes),
            ("crashes with unsynced writes", self.crashes_with_unsynced),
            ("torn records", self.torn),
            ("clock steps back", self.clock_back),
            ("messages handed out", self.reached.claimed),
            ("lapsed leases", self.reached.lapsed),
            ("refused stale tokens", self.reached.stale),
            ("dedup hits", self.reached.dedup),
            ("gaps", self.reached.gaps),
            ("dead letters", self.reached.dead),
        ]
    }

    /// Fails if anything never happened: such a run proves nothing.
    ///
    /// # Errors
    /// The name of the count that is zero.
    pub fn require_all(&self) -> Verdict {
        tally::require_all(self.named())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tally::show(f, self.named())
    }
}

/// Runs seeds `first..first + count` of `steps` operations each.
///
/// # Errors
/// The first broken seed, told so that it can be run again.
pub fn run(first: u64, count: u64, steps: u32) -> Result<Counts, Broken> {
    let mut counts = Counts::default();
    for seed in first..first + count {
        counts.add(&run_seed(seed, steps)?);
    }
    Ok(counts)
}

/// Runs one seed.
///
/// # Errors
/// What broke, with the seed and its last steps.
pub fn run_seed(seed: u64, steps: u32) -> Result<Counts, Broken> {
    let mut world = World::new(seed);
    match world.run(steps) {
        Ok(()) => Ok(Counts { reached: world.oracle.reached, ..world.counts }),
        Err(broken) => Err(Broken(format!("{SEED_ENV}={seed}: {broken}\n{}", world.tail()))),
    }
}

/// A message that a reopened store holds: its queue, id, payload and attempt.
type Left = (QueueName, MessageId, Bytes, u32);

/// One entry of a history: what happened when, or a crash with what it left.
#[derive(Clone, Debug)]
enum Entry {
    Step(Timestamp, Op, Answer),
    Crash(Vec<Left>),
}

struct World {
    machine: Machine,
    disk: Disk,
    oracle: Oracle,
    generator: Generator,
    now: Timestamp,
    history: Vec<Entry>,
    /// Steps before this one were answered, and must survive.
    answered: usize,
    /// What clients have seen of tokens and sequences; no crash takes it back.
    seen: (LeaseToken, u64),
    /// What readers have seen.
    read: BTreeMap<(TopicName, u64), Event>,
    counts: Counts,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            machine: Machine::new(EPOCH),
            disk: Disk::default(),
            oracle: Oracle::new(EPOCH),
            generator: Generator::new(seed, true),
            now: START,
            history: Vec::new(),
            answered: 0,
            seen: (LeaseToken(0), 0),
            read: BTreeMap::new(),
            counts: Counts { seeds: 1, ..Counts::default() },
        };
        let first = world.machine.take_changes();
        world.disk.write(0, first);
        world.disk.sync();
        world
    }

    fn tail(&self) -> String {
        let from = self.history.len().saturating_sub(60);
        let mut text = format!("{:?}\n", self.generator.options);
        for (n, entry) in self.history.iter().enumerate().skip(from) {
            text += &match entry {
                Entry::Step(now, op, answer) => {
                    format!("{n}: {} {op:?}\n    -> {answer:?}\n", now.0 - START.0)
                }
                Entry::Crash(left) => format!("{n}: crash, left {left:?}\n"),
            };
        }
        text
    }

    fn run(&mut self, steps: u32) -> Verdict {
        let eager = self.generator.random.chance(30);
        for _ in 0..steps {
            let before = self.now;
            self.now = self.generator.time(before, &self.oracle);
            self.counts.clock_back += u64::from(self.now < before);
            let op = self.generator.op(self.now, &self.oracle);
            self.step(op)?;
            if eager || self.generator.random.chance(40) {
                self.sync();
            }
            if self.generator.options.crashes && self.generator.random.chance(4) {
                self.crash()?;
            }
        }
        self.sync();
        self.inspect()?;
        self.drain()?;
        self.inspect()
    }

    fn step(&mut self, op: Op) -> Verdict {
        let answer = run_on(&mut self.machine, self.now, &op, &self.disk)?;
        let changes = self.machine.take_changes();
        self.machine.take_hints();
        self.counts.steps += 1;
        let must_wait = changes.iter().any(|change| !change.is_lazy());
        let compared = self.oracle.step(self.now, &op, &answer);
        let at = self.history.len();
        self.history.push(Entry::Step(self.now, op, answer));
        compared?;
        if !changes.is_empty() {
            self.disk.write(at, changes);
        }
        // A step that need not wait is answered at once, unless one before it waits.
        if !must_wait && self.answered == at {
            self.answer();
        }
        Ok(())
    }

    fn sync(&mut self) {
        self.disk.sync();
        self.answer();
    }

    /// Everything so far is answered: clients and workers learn of it.
    fn answer(&mut self) {
        for entry in self.history.get(self.answered..).unwrap_or(&[]) {
            let Entry::Step(_, op, answer) = entry else { continue };
            learn(&mut self.generator, op, answer);
            if let (Op::Read(topic, ..), Answer::Read(Read::Events { events, .. })) = (op, answer) {
                for event in events {
                    self.read.insert((topic.clone(), event.offset.0), event.clone());
                }
            }
        }
        self.answered = self.history.len();
        self.seen = self.oracle.seen();
    }

    fn crash(&mut self) -> Verdict {
        let pending = self.disk.pending();
        let whole = usize::try_from(self.generator.random.below(pending as u64 + 1)).unwrap_or(0);
        let torn = usize::try_from(self.generator.random.below(4)).unwrap_or(0);
        let lost = self.disk.crash(whole, torn)?;
        self.counts.crashes += 1;
        self.counts.crashes_with_unsynced += u64::from(lost.is_some());
        self.counts.torn += u64::from(lost.is_some() && torn > 0);
        if let Some(first) = lost {
            for entry in self.history.get(first..self.answered.max(first)).unwrap_or(&[]) {
                hold!(may_be_lost(entry), "answered, then lost: {entry:?}");
            }
            self.history.truncate(first);
        }
        self.machine = Machine::load(self.disk.rows())?;
        self.rebuild()
    }

    /// Takes the oracle through what survived, then through this crash.
    fn rebuild(&mut self) -> Verdict {
        let reached = self.oracle.reached;
        let mut left = Vec::new();
        for queue in self.generator.names.all_queues() {
            for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
                for info in self.machine.list(self.now, queue, stage, None, PAGE, &self.disk)? {
                    left.push((info.queue, info.id, info.payload, info.attempt));
                }
            }
        }
        self.history.push(Entry::Crash(left));
        let mut oracle = Oracle::new(EPOCH);
        for entry in &self.history {
            match entry {
                Entry::Step(now, op, answer) => oracle.step(*now, op, answer)?,
                Entry::Crash(left) => {
                    for (queue, id, payload, _) in left {
                        oracle.bind(queue, *id, payload);
                    }
                    let attempt = |id| left.iter().find(|(_, known, ..)| *known == id).map(|left| left.3);
                    oracle.crash(&mut |_, id| attempt(id))?;
                }
            }
        }
        oracle.raise(self.seen);
        oracle.reached = reached;
        self.oracle = oracle;
        self.answered = self.history.len();
        self.inspect_without_sweep()
    }

    /// Sweeps, then compares everything.
    fn inspect(&mut self) -> Verdict {
        self.step(Op::Sweep)?;
        self.sync();
        for queue in self.generator.names.all_queues() {
            let depth = self.machine.depth(queue);
            let kept = depth.scheduled + depth.ready + depth.leased + depth.dead;
            same!(
                depth.enqueued,
                depth.acked + depth.removed + depth.expired + kept,
                "enqueued in {depth:?}"
            );
            let mut counted = Vec::new();
            for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
                let found = self.machine.list(self.now, queue, stage, None, PAGE, &self.disk)?;
                compare(&self.oracle, queue, stage, &found)?;
                if stage == Stage::Ready {
                    let oldest = found.first().map(|info| info.enqueued_at);
                    same!(depth.oldest_waiting, oldest, "the oldest that waits in {queue:?}");
                }
                counted.push(found.len() as u64);
            }
            same!(vec![depth.scheduled, depth.ready, depth.leased, depth.dead], counted, "depth");
        }
        self.inspect_without_sweep()
    }

    /// Compares topics, also with what readers saw before any crash.
    fn inspect_without_sweep(&mut self) -> Verdict {
        for topic in self.generator.names.all_topics() {
            let Read::Events { events, .. } =
                self.machine.read(topic, ReadFrom::Earliest, PAGE, &self.disk)?
            else {
                return Err(Broken("reading from the oldest answers a gap".into()));
            };
            self.oracle.events.compare(topic, &events)?;
            for event in &events {
                if let Some(read) = self.read.get(&(topic.clone(), event.offset.0)) {
                    same!(event, read, "an event that a reader had seen in {topic:?}");
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Verdict {
        let queues: Vec<QueueName> = self.generator.names.all_queues().into_iter().cloned().collect();
        for _ in 0..DRAIN_ROUNDS {
            self.now = self.now.after(secs(9));
            for queue in &queues {
                let claim = Claim { queue: queue.clone(), limit: 50, lease: secs(30), durable: true };
                self.step(Op::Claim(claim))?;
                self.sync();
                let Some(Entry::Step(_, _, Answer::Claimed(deliveries))) = self.history.last() else {
                    continue;
                };
                let batch = deliveries.iter().map(|delivery| Settlement {
                    receipt: delivery.receipt.clone(),
                    outcome: Outcome::Ack,
                    effects: Vec::new(),
                });
                let batch = Op::Settle(batch.collect());
                self.step(batch)?;
                self.sync();
            }
            let open = |stage| matches!(stage, Some(Stage::Scheduled | Stage::Ready | Stage::Leased));
            if !self.oracle.messages.iter().any(|known| open(known.stage)) {
                return Ok(());
            }
        }
        Err(Broken("a drain does not end".into()))
    }
}

/// Whether the contract lets a crash take back a step that was answered:
/// leases that die with their process, and what only looks.
fn may_be_lost(entry: &Entry) -> bool {
    match entry {
        Entry::Crash(_) => true,
        Entry::Step(_, Op::Claim(claim), Answer::Claimed(deliveries)) => {
            deliveries.is_empty() || !claim.durable
        }
        Entry::Step(_, Op::Settle(batch), Answer::Settled(answers)) => {
            batch.iter().zip(answers).all(|(item, answer)| {
                // A release gives back a lease; losing it with a lazy lease leaves the message where it was.
                *answer == Ok(turnwise_core::Settled::LeaseLost)
                    || (item.outcome == Outcome::Release && item.effects.is_empty())
            })
        }
        Entry::Step(_, Op::Enqueue(_), Answer::Enqueued(answers)) => {
            !answers.iter().any(|answer| matches!(answer, Ok(turnwise_core::Enqueued::New { .. })))
        }
        Entry::Step(_, Op::Remove(..), Answer::Removed(answers)) => {
            !answers.contains(&Ok(turnwise_core::Removed::Done))
        }
        Entry::Step(_, Op::Redrive(..), Answer::Count(count)) => *count == 0,
        // A sweep promises nothing, and a lapse that was lazy is seen again.
        Entry::Step(_, Op::Sweep | Op::Read(..) | Op::Trim(..) | Op::Extend(..) | Op::RequestStop(..), _) => {
            true
        }
        Entry::Step(_, Op::Advance(..), Answer::Moved(moved)) => !moved,
        Entry::Step(_, Op::AppendHeld(..), Answer::AppendedHeld(answers)) => answers.is_none(),
        Entry::Step(..) => false,
    }
}

fn run_on(machine: &mut Machine, now: Timestamp, op: &Op, disk: &Disk) -> Result<Answer, StoreError> {
    Ok(match op.clone() {
        Op::Enqueue(batch) => Answer::Enqueued(machine.enqueue(now, batch, disk)?),
        Op::Claim(claim) => Answer::Claimed(machine.claim(now, &claim, disk)?),
        Op::Extend(receipts, lease) => Answer::Extended(machine.extend(now, &receipts, lease, disk)?),
        Op::Settle(batch) => Answer::Settled(machine.settle(now, batch, disk)?),
        Op::Remove(queue, items) => Answer::Removed(machine.remove(now, &queue, items, disk)?),
        Op::RequestStop(queue, id) => Answer::Stop(machine.request_stop(now, &queue, id, disk)?),
        Op::Redrive(queue, ids) => Answer::Count(machine.redrive(now, &queue, &ids, disk)?),
        Op::Sweep => Answer::Count(machine.sweep(now, SWEEP, disk)?),
        Op::Append(batch) => Answer::Appended(machine.append(now, batch, disk)?),
        Op::AppendHeld(holder, batch) => {
            Answer::AppendedHeld(machine.append_held(now, &holder, batch, disk)?)
        }
        Op::Read(topic, from, limit) => Answer::Read(machine.read(&topic, from, limit, disk)?),
        Op::Trim(topic, before) => {
            machine.trim(&topic, before);
            Answer::Done
        }
        Op::Advance(topic, from, to) => Answer::Moved(machine.advance(&topic, SUBSCRIPTION, from, to)),
    })
}

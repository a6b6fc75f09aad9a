//! Random operations: what clients and late, confused workers might do.

use super::ops::Op;
use super::oracle::Oracle;
use crate::prng::Prng;
use crate::trial::{event, message, publish, queue, retry, secs, topic};
use std::time::Duration;
use turnwise_core::{
    Claim, Dedup, Delivery, Effect, MessageId, NewEvent, NewMessage, Offset, Outcome, Position, Priority,
    QueueName, ReadFrom, Receipt, Settlement, Timestamp, TopicName,
};

/// Receipts a worker remembers, most of them stale sooner or later.
const RECEIPTS_KEPT: usize = 6;

/// Which kinds of trouble a history has; a seed switches each on or off.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The store crashes.
    pub crashes: bool,
    /// The clock steps back.
    pub clock_back: bool,
    /// Some leases are lazy.
    pub lazy: bool,
    /// Messages have an end.
    pub expiry: bool,
    /// Messages are scheduled.
    pub schedules: bool,
}

impl Options {
    /// The options of a seed. A clock that steps back behind a crash with lazy
    /// leases could bring back a retry delay, which the contract leaves open.
    pub fn draw(random: &mut Prng, durable: bool) -> Options {
        let crashes = durable && random.chance(70);
        let lazy = random.chance(40);
        Options {
            crashes,
            clock_back: !(crashes && lazy) && random.chance(25),
            lazy,
            expiry: random.chance(50),
            schedules: random.chance(50),
        }
    }
}

/// Names used by histories.
#[derive(Debug)]
pub struct Names {
    /// Where clients put messages.
    pub queues: [QueueName; 2],
    /// Where effects put messages.
    pub side: QueueName,
    /// Where events go.
    pub topics: [TopicName; 2],
    /// Where the store's own endings go.
    pub end: TopicName,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            queues: [queue("a"), queue("b")],
            side: queue("side"),
            topics: [topic("log"), topic("log.more")],
            end: topic("end"),
        }
    }
}

impl Names {
    /// All queues.
    #[must_use]
    pub fn all_queues(&self) -> [&QueueName; 3] {
        let [a, b] = &self.queues;
        [a, b, &self.side]
    }

    /// All topics.
    #[must_use]
    pub fn all_topics(&self) -> [&TopicName; 3] {
        let [a, b] = &self.topics;
        [a, b, &self.end]
    }
}

/// Draws operations; remembers what was answered.
#[derive(Debug)]
pub struct Generator {
    /// The one source of chance.
    pub random: Prng,
    /// What trouble there is.
    pub options: Options,
    /// The names in use.
    pub names: Names,
    receipts: Vec<Receipt>,
    ids: Vec<(QueueName, MessageId)>,
    counter: u64,
}

impl Generator {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64, durable: bool) -> Generator {
        let mut random = Prng::new(seed);
        let options = Options::draw(&mut random, durable);
        Generator {
            random,
            options,
            names: Names::default(),
            receipts: Vec::new(),
            ids: Vec::new(),
            counter: 0,
        }
    }

    /// A worker learns of its leases.
    pub fn learn_leases(&mut self, deliveries: &[Delivery]) {
        self.receipts.extend(deliveries.iter().map(|delivery| delivery.receipt.clone()));
        let old = self.receipts.len().saturating_sub(RECEIPTS_KEPT);
        self.receipts.drain(..old);
        let ids = deliveries.iter().map(|delivery| (delivery.receipt.queue.clone(), delivery.receipt.id));
        self.ids.extend(ids);
        self.forget_ids();
    }

    /// A client learns of its message.
    pub fn learn_id(&mut self, queue: &QueueName, id: MessageId) {
        self.ids.push((queue.clone(), id));
        self.forget_ids();
    }

    fn forget_ids(&mut self) {
        let old = self.ids.len().saturating_sub(12);
        self.ids.drain(..old);
    }

    fn name(&mut self) -> String {
        self.counter += 1;
        format!("m{}", self.counter)
    }

    fn queue(&mut self) -> QueueName {
        let [a, b] = &self.names.queues;
        if self.random.chance(80) { a.clone() } else { b.clone() }
    }

    fn topic(&mut self) -> TopicName {
        let [a, b] = &self.names.topics;
        if self.random.chance(75) { a.clone() } else { b.clone() }
    }

    fn dedup(&mut self) -> Option<Dedup> {
        self.random.chance(20).then(|| Dedup {
            key: format!("d{}", self.random.below(3)).into(),
            window: secs(1 + self.random.below(60)),
            content_hash: [u8::try_from(self.random.below(2)).unwrap_or(0); 16],
        })
    }

    fn effects(&mut self) -> Vec<Effect> {
        if !self.random.chance(30) {
            return Vec::new();
        }
        let name = self.name();
        let topic = self.topic();
        let mut effects = vec![publish(&topic, &name)];
        if self.random.chance(50) {
            let key = if self.random.chance(50) { "k0" } else { "" };
            effects.push(Effect::Enqueue(message(&self.names.side, key, &name)));
        }
        effects
    }

    fn message(&mut self, now: Timestamp) -> NewMessage {
        let (queue, name) = (self.queue(), self.name());
        let key =
            ["k0", "k0", "k1", "k2", ""].get(usize::try_from(self.random.below(5)).unwrap_or(0)).copied();
        let mut message = message(&queue, key.unwrap_or(""), &name);
        message.nonce = self.random.below(1 << 62);
        message.priority = Priority(u8::try_from(self.random.below(3) * 4).unwrap_or(0));
        message.max_attempts = 1 + u32::try_from(self.random.below(3)).unwrap_or(0);
        if self.options.schedules && self.random.chance(25) {
            message.deliver_at = Some(now.after(secs(self.random.below(20))));
        } else if self.random.chance(10) {
            message.lane_max = Some(1 + u32::try_from(self.random.below(3)).unwrap_or(0));
        }
        if self.options.expiry && self.random.chance(25) {
            message.expires_at = Some(now.after(secs(1 + self.random.below(40))));
        }
        message.dedup = self.dedup();
        if self.random.chance(30) {
            message.at_end.push(publish(&self.names.end, &name));
            if self.random.chance(30) {
                message.at_end.push(Effect::Enqueue(crate::trial::message(
                    &self.names.side,
                    "",
                    &format!("end of {name}"),
                )));
            }
        }
        message
    }

    fn receipt(&mut self) -> Option<Receipt> {
        // Mostly the newest, sometimes an old one.
        let recent = self.receipts.len().saturating_sub(2);
        let all = self.random.chance(40);
        let from = if all { self.receipts.as_slice() } else { self.receipts.get(recent..).unwrap_or(&[]) };
        self.random.pick(from).cloned()
    }

    fn outcome(&mut self) -> Outcome {
        match self.random.below(10) {
            0..4 => Outcome::Ack,
            4..7 => retry(secs(self.random.below(12)), "again"),
            7..9 => Outcome::Release,
            _ => Outcome::Dead { reason: "given up".into() },
        }
    }

    fn settlement(&mut self) -> Option<Settlement> {
        let receipt = self.receipt()?;
        Some(Settlement { receipt, outcome: self.outcome(), effects: self.effects() })
    }

    fn claim(&mut self) -> Op {
        let queue = if self.random.chance(10) { self.names.side.clone() } else { self.queue() };
        Op::Claim(Claim {
            queue,
            limit: 1 + u32::try_from(self.random.below(4)).unwrap_or(0),
            lease: secs(3 + self.random.below(20)),
            durable: !(self.options.lazy && self.random.chance(60)),
        })
    }

    fn position(&mut self, oracle: &Oracle, topic: &TopicName) -> Position {
        let offset = Offset(self.random.below(oracle.events.last(topic) + 1));
        Position { epoch: oracle.events.epoch(), offset }
    }

    fn on_topic(&mut self, oracle: &Oracle) -> Op {
        let topic = self.topic();
        match self.random.below(9) {
            0..3 => {
                let batch = (0..=self.random.below(3)).map(|_| {
                    let name = self.name();
                    NewEvent { dedup: self.dedup(), ..event(&topic, &name) }
                });
                let batch = batch.collect();
                match self.receipt().filter(|_| self.random.chance(50)) {
                    Some(holder) => Op::AppendHeld(holder, batch),
                    None => Op::Append(batch),
                }
            }
            3..6 => {
                let from = match self.random.below(5) {
                    0 => ReadFrom::Earliest,
                    1 => ReadFrom::Latest,
                    _ => ReadFrom::After(self.position(oracle, &topic)),
                };
                Op::Read(topic, from, 1 + u32::try_from(self.random.below(5)).unwrap_or(0))
            }
            6 | 7 => {
                let offset = self.position(oracle, &topic).offset;
                Op::Trim(topic, offset)
            }
            _ => {
                let here = oracle.events.cursor(&topic);
                let from = if self.random.chance(80) { here } else { None };
                let to = self.position(oracle, &topic);
                Op::Advance(topic, from, to)
            }
        }
    }

    /// The next operation.
    pub fn op(&mut self, now: Timestamp, oracle: &Oracle) -> Op {
        match self.random.below(100) {
            0..26 => {
                let items = 1 + self.random.below(3);
                Op::Enqueue((0..items).map(|_| self.message(now)).collect())
            }
            26..48 => self.claim(),
            48..70 => match self.settlement() {
                Some(first) => {
                    let mut batch = vec![first];
                    if self.random.chance(20) {
                        batch.extend(self.settlement());
                    }
                    Op::Settle(batch)
                }
                None => self.claim(),
            },
            70..75 => match self.receipt() {
                Some(receipt) => Op::Extend(vec![receipt], secs(1 + self.random.below(15))),
                None => Op::Sweep,
            },
            75..80 => match self.random.pick(&self.ids).cloned() {
                Some((queue, id)) => Op::Redrive(queue, vec![id]),
                None => Op::Sweep,
            },
            80..83 => match self.random.pick(&self.ids).cloned() {
                Some((queue, id)) if self.random.chance(60) => {
                    let effects = self.effects();
                    Op::Remove(queue, vec![(id, effects)])
                }
                Some((queue, id)) => Op::RequestStop(queue, id),
                None => Op::Sweep,
            },
            83..85 => Op::Sweep,
            _ => self.on_topic(oracle),
        }
    }

    /// The time of the next operation: mostly a little later, often exactly at
    /// an edge, sometimes back.
    pub fn time(&mut self, now: Timestamp, oracle: &Oracle) -> Timestamp {
        match self.random.below(100) {
            0..45 => now,
            45..60 => now.after(Duration::from_micros(self.random.below(50))),
            60..80 => now.after(secs(self.random.below(8))),
            80..85 => now.after(secs(20 + self.random.below(40))),
            85..97 => {
                let edges: Vec<Timestamp> = oracle
                    .messages
                    .iter()
                    .rev()
                    .take(10)
                    .flat_map(|known| {
                        let lease = known.lease.map(|(_, until, _)| until);
                        [lease, known.delay, known.sent.deliver_at, known.sent.expires_at]
                    })
                    .flatten()
                    .filter(|edge| *edge > now)
                    .collect();
                let before = i64::from(self.random.chance(40));
                self.random.pick(&edges).map_or(now, |edge| Timestamp(edge.0 - before))
            }
            _ if self.options.clock_back => {
                Timestamp(now.0 - i64::try_from(self.random.below(30_000_000)).unwrap_or(0))
            }
            _ => now,
        }
    }
}

//! One simulated history: two nodes on one store, agents, clients, and
//! everything that may go wrong between them, drawn from one seed.

use crate::disk::FusedDisk;
use crate::judge;
use crate::node::Node;
use crate::people::{Letter, People};
use crate::power_cut::PowerCutDisk;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use turnwise_broker::Conversation;
use turnwise_core::MessageId;
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_testkit::Prng;
use turnwise_testkit::turns::{Agents, Book, Counts, Power, Shared, SimClock};

/// Events of one history, before everything heals.
pub(crate) const EVENTS: u32 = 200;
/// Nodes on one store.
const NODES: usize = 2;
/// How long everything may take to come to its end once nothing is wrong any more.
const DRAIN_MAX: Duration = Duration::from_secs(240);
/// Between two looks whether it has.
const DRAIN_LOOK: Duration = Duration::from_millis(500);

/// What a history came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) broken: Vec<String>,
    /// What happened, for whoever has to find out.
    pub(crate) story: String,
}

/// What ends by itself after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Freeze(usize),
    Faults(usize),
    Down(usize),
    ClosedPort,
}

/// A store with the disk under it.
struct Machine {
    disk: FusedDisk,
    power: Arc<Power>,
    shared: Arc<Shared>,
}

pub(crate) struct World {
    random: Prng,
    clock: Arc<SimClock>,
    people: People,
    agents: Arc<Agents>,
    machine: Machine,
    nodes: Vec<Node>,
    troubles: Vec<(Instant, Trouble)>,
    letters: Vec<Letter>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads starts").block_on(async {
        let mut world = World::new(seed);
        for _ in 0..EVENTS {
            world.event().await;
        }
        world.end().await
    })
}

fn open(disk: PowerCutDisk, clock: &Arc<SimClock>, book: &Book, random: &mut Prng) -> Machine {
    let power = Arc::new(Power::default());
    let disk = FusedDisk::new(disk, Arc::clone(&power), Prng::new(random.bits()));
    let fatal = book.clone();
    let config = EmbeddedConfig {
        acts_by_itself: false,
        page_cache_bytes: 4 * 1024 * 1024,
        on_fatal: Arc::new(move |what| fatal.broken(format!("the store gave up: {what}"))),
        ..EmbeddedConfig::default()
    };
    clock.now();
    let store = EmbeddedStore::open_with_backend(disk.clone(), config, clock.shown().reader());
    let store = store.expect("the store opens on what a crash left");
    let random = Prng::new(random.bits());
    let shared = Shared::new(store, book.clone(), Arc::clone(clock), Arc::clone(&power), random);
    Machine { disk, power, shared: Arc::new(shared) }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Prng::new(seed);
        let (clock, book) = (Arc::new(SimClock::default()), Book::default());
        let machine = open(PowerCutDisk::default(), &clock, &book, &mut random);
        let agents = Agents::new(book.clone(), Arc::clone(&clock), Prng::new(random.bits()));
        let mut world = World {
            random,
            clock,
            people: People::new(book),
            agents,
            machine,
            nodes: Vec::new(),
            troubles: Vec::new(),
            letters: Vec::new(),
        };
        for _ in 0..NODES {
            let node = world.new_node();
            world.nodes.push(node);
        }
        world
    }

    fn book(&self) -> &Book {
        &self.people.book
    }

    fn new_node(&mut self) -> Node {
        let random = Prng::new(self.random.bits());
        Node::start(&self.machine.shared, &self.agents, random)
    }

    fn note(&self, what: String) {
        self.book().tell(&self.clock, &what);
    }

    /// Draws one event, lets it happen, and waits a moment.
    async fn event(&mut self) {
        self.book().count(|counts| counts.events += 1);
        match self.random.below(100) {
            0..=37 => self.submit_new(),
            38..=45 => self.submit_again(),
            46..=49 => self.submit_burst(),
            50..=58 => self.cancel(),
            59..=67 => self.read(),
            68..=76 => self.resume(),
            77..=80 => self.freeze(),
            81..=83 => self.fail_store(),
            84..=85 => self.crash_node().await,
            86..=87 => self.drain_node(),
            88..=90 => self.cut_power().await,
            91..=94 => self.jump(),
            95 => self.close_port(),
            _ => {}
        }
        let ms = if self.random.chance(8) { self.random.below(3_000) } else { self.random.below(120) };
        self.machine.power.wait(Duration::from_millis(ms)).await;
        if self.machine.power.is_out() {
            self.reopen().await;
        }
        self.end_troubles(false).await;
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.random.below(NODES as u64)).unwrap_or(0)
    }

    fn on_a_node<F>(&mut self, request: impl FnOnce(People, turnwise_broker::Broker) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (at, people) = (self.node(), self.people.clone());
        if let Some(node) = self.nodes.get_mut(at)
            && let Some(broker) = node.broker()
        {
            node.serve(request(people, broker));
        }
    }

    fn new_letter(&mut self) -> Letter {
        let random = &mut self.random;
        let org = format!("org{}", random.below(2));
        let user = format!("user{}", random.below(3));
        let conversation = match random.below(4) {
            0 => Conversation::Group { chat: "chat".into(), thread: None },
            1 => Conversation::Group { chat: "chat".into(), thread: Some("thread".into()) },
            _ => Conversation::User { user: user.clone() },
        };
        let number = self.letters.len() as u64 + 1;
        let client_message_id = random.chance(60).then(|| format!("m{number}"));
        Letter { number, org, user, conversation, client_message_id, stream: random.chance(60) }
    }

    fn send(&mut self, letter: Letter) {
        self.note(format!("letter {} to {}", letter.number, letter.lane()));
        self.on_a_node(|people, broker| people.submit(broker, letter));
    }

    fn submit_new(&mut self) {
        let letter = self.new_letter();
        self.letters.push(letter.clone());
        self.send(letter);
    }

    /// The same once more, or something else under the same client message id.
    fn submit_again(&mut self) {
        let known: Vec<Letter> =
            self.letters.iter().filter(|letter| letter.client_message_id.is_some()).cloned().collect();
        let recent = known.get(known.len().saturating_sub(12)..).unwrap_or_default();
        let Some(mut letter) = self.random.pick(recent).cloned() else {
            return;
        };
        if self.random.chance(25) {
            // Only a repeat of what was surely stored must be refused.
            let number = letter.number;
            let is_stored =
                self.people.notes().fates.get(&number).is_some_and(|fate| fate.accepted.is_some());
            if !is_stored {
                return;
            }
            letter.number = self.letters.len() as u64 + 1;
            let unkeyed = Letter { client_message_id: None, ..letter.clone() };
            self.letters.push(unkeyed);
        }
        self.send(letter);
    }

    /// Many at once into one conversation.
    fn submit_burst(&mut self) {
        let first = self.new_letter();
        for _ in 0..4 {
            let number = self.letters.len() as u64 + 1;
            let letter = Letter { number, client_message_id: None, ..first.clone() };
            self.letters.push(letter.clone());
            self.send(letter);
        }
    }

    /// A turn that was accepted, rather a late one.
    fn some_turn(&mut self) -> Option<(MessageId, String, String)> {
        let notes = self.people.notes();
        let accepted = notes
            .fates
            .values()
            .filter_map(|fate| fate.accepted.map(|(id, _)| (id, fate.org.clone(), fate.user.clone())));
        let known: Vec<_> = accepted.collect();
        drop(notes);
        let recent = known.get(known.len().saturating_sub(10)..).unwrap_or_default();
        self.random.pick(recent).cloned()
    }

    fn cancel(&mut self) {
        if let Some((id, ..)) = self.some_turn() {
            self.note(format!("cancel {id}"));
            self.on_a_node(|people, broker| people.cancel(broker, id));
        }
    }

    fn read(&mut self) {
        let Some((id, org, user)) = self.some_turn() else {
            return;
        };
        if self.random.chance(30) {
            return self.on_a_node(|people, broker| people.wait(broker, org, id));
        }
        let events_max = if self.random.chance(50) { 1 + self.random.below(5) } else { 1_000 };
        let events_max = usize::try_from(events_max).unwrap_or(1);
        self.on_a_node(|people, broker| people.read(broker, id, user, events_max));
    }

    fn resume(&mut self) {
        let notes = self.people.notes();
        let left = notes.sessions.iter().filter(|session| !session.ended && session.position.is_some());
        let left: Vec<_> = left.cloned().collect();
        drop(notes);
        let recent = left.get(left.len().saturating_sub(10)..).unwrap_or_default();
        let Some(session) = self.random.pick(recent).cloned() else {
            return;
        };
        let lost = self.random.chance(20);
        let events_max = if self.random.chance(30) { 2 } else { 1_000 };
        self.on_a_node(|people, broker| people.resume(broker, session, lost, events_max));
    }

    fn begin(&mut self, trouble: Trouble, ms: u64) {
        self.note(format!("{trouble:?} for {ms} ms"));
        self.troubles.push((Instant::now() + Duration::from_millis(ms), trouble));
    }

    fn freeze(&mut self) {
        let at = self.node();
        if let Some(node) = self.nodes.get(at) {
            node.weather.freeze(true);
            self.book().count(|counts| counts.freezes += 1);
            let ms = 200 + self.random.below(6_000);
            self.begin(Trouble::Freeze(at), ms);
        }
    }

    fn fail_store(&mut self) {
        let at = self.node();
        let percent = 5 + self.random.below(60);
        if let Some(node) = self.nodes.get(at) {
            node.weather.set_faults(percent);
            let ms = self.random.below(3_000);
            self.begin(Trouble::Faults(at), ms);
        }
    }

    async fn crash_node(&mut self) {
        let at = self.node();
        if let Some(node) = self.nodes.get_mut(at) {
            node.kill().await;
            self.book().count(|counts| counts.node_crashes += 1);
            let ms = self.random.below(3_000);
            self.begin(Trouble::Down(at), ms);
        }
    }

    fn drain_node(&mut self) {
        let at = self.node();
        if let Some(node) = self.nodes.get(at) {
            node.drain();
            self.book().count(|counts| counts.drains += 1);
            let ms = 500 + self.random.below(4_000);
            self.begin(Trouble::Down(at), ms);
        }
    }

    fn close_port(&mut self) {
        self.agents.close_port(true);
        let ms = self.random.below(1_000);
        self.begin(Trouble::ClosedPort, ms);
    }

    fn jump(&mut self) {
        let micros = i64::try_from(self.random.below(6_000_000)).unwrap_or(0);
        let ahead = self.random.chance(60);
        self.note(format!("clock {micros} us {}", if ahead { "ahead" } else { "back" }));
        self.clock.jump(if ahead { micros } else { -micros });
        self.book().count(|counts| {
            counts.clock_ahead += u64::from(ahead);
            counts.clock_back += u64::from(!ahead);
        });
    }

    /// The store's process dies: now, or in the middle of one of its next writes.
    async fn cut_power(&mut self) {
        if self.random.chance(80) {
            let operations = self.random.below(16);
            self.note(format!("power fails after {operations} operations of the disk"));
            self.machine.disk.arm(operations);
            self.machine.power.wait(Duration::from_millis(400)).await;
        }
        self.machine.disk.found();
    }

    /// Starts again on what the disk holds.
    async fn reopen(&mut self) {
        for node in &mut self.nodes {
            node.kill().await;
        }
        let (left, unsynced) = self.machine.disk.found();
        self.note(format!("the store died, unsynced writes: {unsynced}"));
        self.book().power_cut();
        self.book().count(|counts| {
            counts.crashes += 1;
            counts.crashes_with_unsynced += u64::from(unsynced);
        });
        let book = self.book().clone();
        self.machine = open(left, &self.clock, &book, &mut self.random);
        self.troubles.retain(|(_, trouble)| *trouble == Trouble::ClosedPort);
        for at in 0..NODES {
            let fresh = self.new_node();
            if let Some(node) = self.nodes.get_mut(at) {
                *node = fresh;
            }
        }
    }

    async fn end_troubles(&mut self, all: bool) {
        let now = Instant::now();
        let (over, left) = self.troubles.drain(..).partition(|(until, _)| all || *until <= now);
        self.troubles = left;
        let over: Vec<(Instant, Trouble)> = over;
        for (_, trouble) in over {
            match trouble {
                Trouble::Freeze(at) => {
                    self.nodes.iter().skip(at).take(1).for_each(|it| it.weather.freeze(false))
                }
                Trouble::Faults(at) => {
                    self.nodes.iter().skip(at).take(1).for_each(|it| it.weather.set_faults(0))
                }
                Trouble::Down(at) => {
                    let fresh = self.new_node();
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.kill().await;
                        *node = fresh;
                    }
                }
                Trouble::ClosedPort => self.agents.close_port(false),
            }
        }
    }

    /// Heals everything, waits until every request is answered and every turn has ended, and judges.
    async fn end(mut self) -> Outcome {
        self.agents.heal();
        if self.machine.power.is_out() {
            self.reopen().await;
        }
        self.end_troubles(true).await;
        let until = Instant::now() + DRAIN_MAX;
        while self.nodes.iter_mut().any(Node::is_serving) || judge::open_turns(&self.machine.shared) > 0 {
            if Instant::now() > until {
                self.book().broken("turns do not end although nothing is wrong any more".to_owned());
                break;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        if let Some(broker) = self.nodes.iter().find_map(Node::broker) {
            judge::judge(&self.machine.shared, &broker, &self.people).await;
        }
        for node in &mut self.nodes {
            node.kill().await;
        }
        self.agents.stop().await;
        let book = self.book();
        book.count(|counts| counts.seeds += 1);
        Outcome { counts: book.counts(), broken: book.all_broken(), story: book.story() }
    }
}

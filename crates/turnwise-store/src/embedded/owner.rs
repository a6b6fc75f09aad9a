//! The thread that owns the data: reads and lazy claims first, then writes,
//! one commit for all of them, then their answers (clauses Q1, X1, X2).

use super::config::{
    COMMIT_BYTES_MAX, Durability, EmbeddedConfig, LAZY_MAX, NAP_MAX, NAP_MIN, OPERATIONS_WAITING_MAX,
};
use super::log::{CommitFailed, Sync};
use super::rows::Rows;
use super::space::{Room, Space};
use super::stats::{Condition, Stats};
use super::work::{Command, Order, Work};
use crate::clock::{Clock, Moment};
use crate::front::Class;
use crate::hub::Hub;
use crate::mutants::{Mutant, is_on};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;
use turnwise_core::limits::LIST_LIMIT_MAX;
use turnwise_core::machine::Machine;
use turnwise_core::{StoreError, Timestamp, TopicName};

const DISK_FULL: &str = "the disk is full: free some space, nothing else is needed";

/// Whether operations may run.
enum State {
    Open,
    /// Changes wait in memory for room on the disk; until they are written nothing may be answered.
    NoSpace,
    /// The data cannot be trusted.
    Corrupt(StoreError),
    /// The disk cannot be trusted; the fatal hook was called and returned.
    Dead,
}

pub(super) struct Owner {
    pub(super) machine: Machine,
    pub(super) rows: Rows,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) config: EmbeddedConfig,
    pub(super) space: Option<Space>,
    pub(super) stats: Arc<Stats>,
    desk: Desk,
}

/// What the thread has in hand.
struct Desk {
    state: State,
    room: Room,
    orders: Receiver<Order>,
    backlog: VecDeque<Command>,
    /// Ran; answered after the commit.
    unanswered: Vec<Box<dyn Work>>,
    /// Changed; hinted at after the commit.
    topics: Vec<TopicName>,
    hinted_due: Option<Timestamp>,
    stopping: bool,
}

impl Owner {
    #[expect(clippy::too_many_arguments, reason = "built in one place from named parts")]
    pub(super) fn new(
        machine: Machine,
        rows: Rows,
        hub: Arc<Hub>,
        clock: Clock,
        config: EmbeddedConfig,
        space: Option<Space>,
        stats: Arc<Stats>,
        orders: Receiver<Order>,
    ) -> Owner {
        let desk = Desk {
            state: State::Open,
            room: Room::UNLIMITED,
            orders,
            backlog: VecDeque::new(),
            unanswered: Vec::new(),
            topics: Vec::new(),
            hinted_due: None,
            stopping: false,
        };
        Owner { machine, rows, hub, clock, config, space, stats, desk }
    }

    /// Runs until told to stop, or until nothing can be trusted any more.
    pub(super) fn run(mut self) {
        while !matches!(self.desk.state, State::Dead) {
            let looks = self.receive();
            self.iterate(looks);
            if self.desk.stopping && self.desk.backlog.is_empty() {
                if !matches!(self.desk.state, State::Dead | State::Corrupt(_)) {
                    self.commit(true);
                }
                if matches!(self.desk.state, State::Open) {
                    self.rows.close();
                }
                break;
            }
        }
        self.hub.close();
    }

    /// Waits for something to do and takes all that waits: answers what only
    /// looks, and puts the rest behind the backlog.
    fn receive(&mut self) -> Vec<Command> {
        let mut looks = Vec::new();
        let mut order = if self.desk.backlog.is_empty() { self.wait() } else { self.poll() };
        let mut taken = 0;
        while let Some(Order::Run(command)) = order {
            match command.cost.class {
                Class::Read | Class::LazyClaim => looks.push(command),
                Class::Change | Class::Grow => self.desk.backlog.push_back(command),
            }
            taken += 1;
            order = if taken < OPERATIONS_WAITING_MAX { self.poll() } else { None };
        }
        self.desk.stopping |= matches!(order, Some(Order::Stop));
        looks
    }

    fn poll(&self) -> Option<Order> {
        match self.desk.orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Order::Stop),
        }
    }

    fn wait(&self) -> Option<Order> {
        let Some(nap) = self.nap() else {
            return Some(self.desk.orders.recv().unwrap_or(Order::Stop));
        };
        match self.desk.orders.recv_timeout(nap) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
        }
    }

    /// How long nothing needs to be done if nobody asks for anything.
    fn nap(&self) -> Option<Duration> {
        if !self.config.acts_by_itself {
            return None;
        }
        let flush = self.rows.waiting_for().map(|waited| LAZY_MAX.saturating_sub(waited));
        let flush = if matches!(self.desk.state, State::Open) { flush } else { flush.map(|_| LAZY_MAX) };
        let due = self.machine.next_due().map(|due| match self.desk.hinted_due == Some(due) {
            true => NAP_MAX,
            false => due.since((self.clock)()).clamp(NAP_MIN, NAP_MAX),
        });
        flush.into_iter().chain(due).min()
    }

    fn iterate(&mut self, looks: Vec<Command>) {
        if matches!(self.desk.state, State::NoSpace) {
            self.commit(true);
        }
        if !looks.is_empty() || !self.desk.backlog.is_empty() {
            let live_bytes = self.rows.live_bytes();
            self.desk.room = self.space.as_ref().map_or(Room::UNLIMITED, |space| space.measure(live_bytes));
        }
        for command in looks {
            self.run_one(command);
        }
        let mut bytes = 0;
        while bytes < COMMIT_BYTES_MAX
            && let Some(command) = self.desk.backlog.pop_front()
        {
            bytes += command.cost.bytes;
            self.run_one(command);
        }
        let flush =
            self.config.acts_by_itself && self.rows.waiting_for().is_some_and(|waited| waited >= LAZY_MAX);
        if matches!(self.desk.state, State::Open) && (self.rows.is_urgent() || flush) {
            self.commit(flush);
        }
        self.hint_at_due();
    }

    fn run_one(&mut self, command: Command) {
        let Command { cost, mut work, permit } = command;
        if let Some(why) = self.refusal(cost.class, cost.bytes) {
            return work.refuse(why);
        }
        if work.is_abandoned() {
            return;
        }
        work.run(&mut self.machine, (self.clock)(), &self.rows);
        drop(permit);
        for change in self.machine.take_changes() {
            self.rows.absorb(change);
        }
        self.desk.room.take(cost.bytes);
        let hints = self.machine.take_hints();
        // Before the commit: whoever claims now waits in line while it runs.
        self.hub.publish_queues(&hints.queues);
        self.desk.topics.extend(hints.topics);
        if let Some(why) = work.corruption().cloned() {
            tracing::error!(%why, "the store stops");
            self.desk.state = State::Corrupt(why.clone());
            self.stats.is_now(Condition::Corrupt);
            self.desk.unanswered.drain(..).for_each(|work| work.refuse(why.clone()));
        }
        if self.rows.is_urgent() && !matches!(self.desk.state, State::Corrupt(_)) {
            self.desk.unanswered.push(work);
        } else {
            work.answer();
            self.publish_topics();
        }
    }

    fn refusal(&self, class: Class, bytes: u64) -> Option<StoreError> {
        let room = self.desk.room;
        match &self.desk.state {
            State::Corrupt(why) => return Some(why.clone()),
            State::Dead => return Some(StoreError::Unavailable("the store has stopped".into())),
            State::NoSpace => return Some(StoreError::Unavailable(DISK_FULL.into())),
            State::Open => {}
        }
        let has_room = match class {
            Class::Read => true,
            Class::LazyClaim | Class::Change => room.has_for_change(bytes),
            Class::Grow => room.has_for_new(bytes),
        };
        (!has_room).then(|| StoreError::Unavailable(DISK_FULL.into()))
    }

    /// Writes all changes, then answers those who wait for it. Unless `now`,
    /// relaxed durability may leave the sync to a later commit.
    fn commit(&mut self, now: bool) {
        let relaxed = self.config.durability == Durability::Relaxed && !now;
        let sync = if relaxed { Sync::Later } else { Sync::Now };
        if is_on(Mutant::AckBeforeFsync) {
            self.desk.unanswered.drain(..).for_each(Work::answer);
        }
        let start = Moment::now();
        match self.rows.commit(sync) {
            Ok(()) => {
                self.stats.committed(start.elapsed(), self.desk.unanswered.len(), self.rows.live_bytes());
                if matches!(self.desk.state, State::NoSpace) {
                    tracing::info!("there is room on the disk again; the store goes on");
                    self.desk.state = State::Open;
                    self.stats.is_now(Condition::Open);
                }
                self.desk.unanswered.drain(..).for_each(Work::answer);
                self.publish_topics();
            }
            Err(CommitFailed::NoSpace) => {
                if matches!(self.desk.state, State::Open) {
                    tracing::error!("the disk is full; the store waits for room");
                }
                self.desk.state = State::NoSpace;
                self.stats.is_now(Condition::Full);
                let why = StoreError::Unknown(DISK_FULL.into());
                self.desk.unanswered.drain(..).for_each(|work| work.refuse(why.clone()));
            }
            Err(CommitFailed::Fatal(what)) => {
                self.desk.state = State::Dead;
                self.stats.is_now(Condition::Stopped);
                (self.config.on_fatal)(&what);
                let why = StoreError::Unknown("the disk failed; the store has stopped".into());
                self.desk.unanswered.drain(..).for_each(|work| work.refuse(why.clone()));
            }
        }
    }

    fn publish_topics(&mut self) {
        if !self.desk.topics.is_empty() && !self.rows.is_urgent() {
            self.hub.publish_topics(&std::mem::take(&mut self.desk.topics));
        }
    }

    /// Wakes claimers when time has made something claimable; claims notice it themselves.
    fn hint_at_due(&mut self) {
        let Some(due) = self.machine.next_due() else { return };
        if due > (self.clock)() || self.desk.hinted_due == Some(due) {
            return;
        }
        self.desk.hinted_due = Some(due);
        self.hub.publish_queues(&self.machine.queues(None, LIST_LIMIT_MAX));
    }
}

/// Ends the process when the owner thread panics: its memory cannot be trusted.
pub(super) struct PanicGuard(pub(super) super::config::FatalHook);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)("the store's thread panicked");
        }
    }
}

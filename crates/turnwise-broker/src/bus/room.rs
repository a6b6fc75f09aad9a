//! One organisation's agents, as this node knows them: the roster, which is
//! read on before it is asked, and the connections of this node, which are told
//! what is told live. Its task runs while there are any.

use super::desk::Desk;
use super::link::LinkState;
use super::record::{
    self, COPY, CopyRecord, LIVE, LiveRecord, RECEIPT, ReceiptRecord, live_topic, roster_topic,
};
use super::roster::{self, DOWN, DownRecord, Place, Roster, STATE, TopicsRecord, UP, UpRecord};
use super::view::{BusDelivery, BusEvent, BusPresence};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{AGENT_KEPT, BUS_PAGE, LIVE_KEPT, ROSTER_EVENTS_STALE_MAX};
use crate::wait::next_hint;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use turnwise_core::{
    Event, Kind, Name, NewEvent, Offset, Position, Read, ReadFrom, StoreError, Timestamp, TopicFilter,
    TopicName,
};

/// One organisation.
pub(super) struct Room {
    pub(super) org: String,
    live: TopicName,
    log: TopicName,
    roster: Mutex<Roster>,
    /// Held by the one who reads the roster's events for all.
    reading: tokio::sync::Mutex<Reading>,
    begun: AtomicU64,
    whole: AtomicU64,
    /// Something was written here since it was read.
    is_behind: AtomicBool,
    asked_at: Mutex<Instant>,
    here: Mutex<Here>,
    pub(super) changed: Notify,
}

#[derive(Default)]
struct Reading {
    position: Option<Position>,
    /// Events that are kept, about.
    first: Option<Offset>,
}

/// What is connected to this node.
#[derive(Default)]
struct Here {
    desks: HashMap<String, Arc<Desk>>,
    links: usize,
    /// Whether the task runs.
    runs: bool,
    leaving: Vec<Leaver>,
    /// Who was online when it was last looked at.
    online: BTreeSet<String>,
}

/// A connection that is gone, and is still in the roster.
struct Leaver {
    agent: String,
    link: Arc<LinkState>,
}

/// An agent as it is now.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) is_online: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) links: u64,
}

impl Room {
    pub(super) fn new(org: &str) -> Result<Room, StoreError> {
        Ok(Room {
            org: org.to_owned(),
            live: live_topic(org)?,
            log: roster_topic(org)?,
            roster: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            is_behind: AtomicBool::new(true),
            asked_at: Mutex::new(Instant::now()),
            here: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Whether nobody has needed it for a while.
    pub(super) fn is_at_rest(&self, time: std::time::Duration) -> bool {
        self.here.lock().links == 0 && self.asked_at.lock().elapsed() > time
    }

    /// Reads what was written about agents up to now.
    pub(super) async fn catch_up(&self, broker: &Broker) -> Result<(), StoreError> {
        *self.asked_at.lock() = Instant::now();
        if broker.0.bus.nodes.is_alone() && !self.is_behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let since = self.begun.load(Ordering::Acquire);
        let mut reading = self.reading.lock().await;
        if self.whole.load(Ordering::Acquire) > since {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        self.is_behind.store(false, Ordering::Release);
        let read = self.read_on(broker, &mut reading).await;
        match read {
            Ok(()) => self.whole.store(number, Ordering::Release),
            Err(_) => self.is_behind.store(true, Ordering::Release),
        }
        read?;
        let is_stale = reading.position.zip(reading.first).is_some_and(|(position, first)| {
            let agents = self.roster.lock().agents().len() as u64;
            position.offset.0.saturating_sub(first.0) > agents * 4 + ROSTER_EVENTS_STALE_MAX
        });
        if is_stale && let Some(position) = reading.position {
            self.write_anew(broker, position).await?;
            reading.first = Some(position.offset);
        }
        Ok(())
    }

    async fn read_on(&self, broker: &Broker, reading: &mut Reading) -> Result<(), StoreError> {
        let nodes = &broker.0.bus.nodes;
        loop {
            let from = reading.position.map_or(ReadFrom::Earliest, ReadFrom::After);
            match broker.0.store.read(&self.log, from, BUS_PAGE).await? {
                Read::Gap { resume } => {
                    // What follows holds everything again.
                    *self.roster.lock() = Roster::default();
                    (reading.position, reading.first) = (Some(resume), None);
                }
                Read::Events { events, .. } if events.is_empty() => break,
                Read::Events { events, next } => {
                    // Nobody sees connections of a node that was not heard of yet: it would seem to be gone.
                    if !nodes.is_alone()
                        && events.iter().flat_map(roster::nodes_in).any(|node| !nodes.knows(&node))
                    {
                        nodes.hear(broker, true).await?;
                    }
                    reading.position = Some(next);
                    reading.first = reading.first.or(events.first().map(|event| event.offset));
                    let mut roster = self.roster.lock();
                    for event in &events {
                        roster.fold(event);
                    }
                }
            }
        }
        nodes.hear(broker, false).await
    }

    /// Writes all agents again, and drops what came before.
    async fn write_anew(&self, broker: &Broker, read_to: Position) -> Result<(), StoreError> {
        let now = broker.now();
        let ago = |time: std::time::Duration| {
            now.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
        };
        let states = {
            let mut roster = self.roster.lock();
            roster.forget_before(ago(LIVE_KEPT * 60), ago(AGENT_KEPT));
            roster.states(ago(AGENT_KEPT))
        };
        let events = states.iter().map(|state| record::event(self.log.clone(), STATE, state, None)).collect();
        append_all(broker, events).await?;
        broker.0.store.trim(&self.log, Offset(read_to.offset.0 + 1)).await
    }

    /// Notes something about agents, and reads it.
    pub(super) async fn write(&self, broker: &Broker, events: Vec<NewEvent>) -> Result<(), StoreError> {
        self.is_behind.store(true, Ordering::Release);
        let written = append_all(broker, events).await;
        self.is_behind.store(true, Ordering::Release);
        written?;
        self.catch_up(broker).await
    }

    /// An event about an agent.
    pub(super) fn note<T: serde::Serialize>(&self, event_type: &str, record: &T) -> NewEvent {
        record::event(self.log.clone(), event_type, record, None)
    }

    /// Something told live.
    pub(super) fn tell<T: serde::Serialize>(&self, event_type: &str, record: &T) -> NewEvent {
        record::event(self.live.clone(), event_type, record, None)
    }
}

/// Appends any number of events, in order.
pub(super) async fn append_all(broker: &Broker, events: Vec<NewEvent>) -> Result<(), StoreError> {
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let page: Vec<NewEvent> = events.by_ref().take(turnwise_core::limits::BATCH_ITEMS_MAX).collect();
        for answer in broker.0.store.append(page).await? {
            answer?;
        }
    }
    Ok(())
}

/// Who is there.
impl Room {
    /// What the roster says of an agent.
    pub(super) fn with_agent<T>(&self, agent: &str, ask: impl FnOnce(Option<&roster::Agent>) -> T) -> T {
        ask(self.roster.lock().agent(agent))
    }

    /// What it says of all.
    pub(super) fn with_agents<T>(&self, ask: impl FnOnce(&BTreeMap<String, roster::Agent>) -> T) -> T {
        ask(self.roster.lock().agents())
    }

    /// How many agents there are that are not to be forgotten.
    pub(super) fn agents_known(&self, broker: &Broker) -> usize {
        let kept = i64::try_from(AGENT_KEPT.as_micros()).unwrap_or(i64::MAX);
        let since = broker.now().0.saturating_sub(kept);
        self.roster.lock().known(since)
    }

    /// Whether an agent is online, and since when it is or is not.
    pub(super) fn present(&self, broker: &Broker, agent: &str) -> Present {
        self.with_agent(agent, |agent| presence(broker, agent))
    }
}

/// The same, of what the roster says.
pub(super) fn presence(broker: &Broker, agent: Option<&roster::Agent>) -> Present {
    let Some(agent) = agent else { return Present { is_online: false, since: None, links: 0 } };
    let now = broker.now();
    let (mut live, mut since, mut seen) = (0, None, agent.seen_at.map(Timestamp));
    for place in agent.links.values() {
        match broker.0.bus.nodes.gone_since(&place.node, now) {
            None => {
                live += 1;
                since = Some(since.map_or(place.at, |at: i64| at.min(place.at)));
            }
            Some(until) => seen = seen.max(Some(until.unwrap_or(Timestamp(place.at)))),
        }
    }
    match since {
        Some(at) => Present { is_online: true, since: Some(Timestamp(at)), links: live },
        None => Present { is_online: false, since: seen, links: 0 },
    }
}

/// Connections of this node.
impl Room {
    /// Adds a connection; true if the caller must run the room's task.
    pub(super) fn join(
        &self,
        broker: &Broker,
        link: &Arc<LinkState>,
        desk: impl FnOnce() -> Arc<Desk>,
    ) -> (Arc<Desk>, bool) {
        let mut here = self.here.lock();
        here.links += 1;
        let desk = Arc::clone(here.desks.entry(link.agent.clone()).or_insert_with(desk));
        desk.add(link);
        let must_run = !std::mem::replace(&mut here.runs, true);
        if must_run {
            here.online = self.online(broker);
        }
        (desk, must_run)
    }

    /// Who is online now.
    fn online(&self, broker: &Broker) -> BTreeSet<String> {
        let roster = self.roster.lock();
        let online = roster.agents().iter().filter(|(_, agent)| presence(broker, Some(agent)).is_online);
        online.map(|(agent, _)| agent.clone()).collect()
    }

    /// How many connections an agent has here.
    pub(super) fn links_of(&self, agent: &str) -> usize {
        self.here.lock().desks.get(agent).map_or(0, |desk| desk.links().len())
    }

    /// A connection goes. Its desk gives back what it held, the room's task writes that it is gone.
    pub(super) fn leave(&self, link: &Arc<LinkState>) {
        let mut here = self.here.lock();
        let Some(desk) = here.desks.get(&link.agent).cloned() else { return };
        if desk.remove(link) {
            here.links -= 1;
            here.leaving.push(Leaver { agent: link.agent.clone(), link: Arc::clone(link) });
            drop(here);
            desk.changed.notify_one();
            self.changed.notify_one();
        }
    }

    /// Takes a desk away that nobody sits at; false if somebody came meanwhile.
    pub(super) fn clear(&self, desk: &Arc<Desk>) -> bool {
        let mut here = self.here.lock();
        let is_over = desk.is_empty();
        if is_over && here.desks.get(&desk.agent).is_some_and(|own| Arc::ptr_eq(own, desk)) {
            here.desks.remove(&desk.agent);
        }
        is_over
    }

    fn desk(&self, agent: &str) -> Option<Arc<Desk>> {
        self.here.lock().desks.get(agent).cloned()
    }

    pub(super) fn up(&self, broker: &Broker, link: &LinkState) -> NewEvent {
        let place = Place {
            node: broker.0.bus.nodes.own.clone(),
            at: broker.now().0,
            workspace: link.workspace.clone(),
            all: link.is_for_all(),
            topics: link.topics().into_iter().collect::<BTreeSet<_>>(),
        };
        self.note(UP, &UpRecord { agent: link.agent.clone(), link: link.name(), place })
    }

    /// What a connection subscribes to from now on.
    pub(super) async fn subscribe(
        &self,
        broker: &Broker,
        link: &LinkState,
        add: Vec<String>,
        remove: Vec<String>,
    ) -> Result<(), StoreError> {
        let record =
            TopicsRecord { agent: link.agent.clone(), link: link.name(), add, remove, at: broker.now().0 };
        self.write(broker, vec![self.note(roster::TOPICS, &record)]).await
    }
}

/// The task of a room.
struct Teller {
    broker: Broker,
    room: Arc<Room>,
    position: Position,
    /// Where it was when old events were last dropped.
    before: Position,
    trimmed_at: Instant,
    looked_at: Option<Instant>,
}

impl Room {
    /// The end of what is told live, from which the task goes on.
    pub(super) async fn live_end(&self, broker: &Broker) -> Result<Position, StoreError> {
        match broker.0.store.read(&self.live, ReadFrom::Latest, 1).await? {
            Read::Events { next, .. } | Read::Gap { resume: next } => Ok(next),
        }
    }

    /// Tells connections what is told live, until the last one is gone.
    pub(super) async fn run(self: Arc<Room>, broker: Broker, position: Position) {
        let closing = broker.0.bus.closing.clone();
        let mut live = Some(broker.0.store.watch(TopicFilter::One(self.live.clone())));
        let mut log = Some(broker.0.store.watch(TopicFilter::One(self.log.clone())));
        let (room, now) = (Arc::clone(&self), Instant::now());
        let mut teller = Teller {
            broker: broker.clone(),
            room,
            position,
            before: position,
            trimmed_at: now,
            looked_at: None,
        };
        loop {
            if let Err(error) = teller.round().await {
                tracing::debug!(%error, "the bus waits for the store");
            } else if self.is_over() {
                return;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    let gone = teller.write_leavers(true).await;
                    if let Err(error) = gone {
                        tracing::debug!(%error, "that agents left is noticed later");
                    }
                    return;
                }
                () = self.changed.notified() => {}
                hint = next_hint(live.as_mut()) => if hint.is_none() { live = None },
                hint = next_hint(log.as_mut()) => if hint.is_none() { log = None },
                () = sleep(broker.0.config.poll_interval) => {}
            }
        }
    }

    /// Ends the task if it has nothing to do any more.
    fn is_over(&self) -> bool {
        let mut here = self.here.lock();
        let is_over = here.links == 0 && here.leaving.is_empty();
        if is_over {
            here.runs = false;
        }
        is_over
    }
}

impl Teller {
    async fn round(&mut self) -> Result<(), BrokerError> {
        self.broker.0.bus.nodes.say(&self.broker).await?;
        self.write_leavers(false).await?;
        self.room.catch_up(&self.broker).await?;
        self.tell_presence();
        self.read_live().await?;
        if self.looked_at.is_none_or(|at| at.elapsed() > self.broker.0.config.node_beat) {
            self.looked_at = Some(Instant::now());
            self.broker.0.bus.nodes.hear(&self.broker, false).await?;
            self.write_lost().await?;
        }
        if self.trimmed_at.elapsed() > LIVE_KEPT {
            self.trimmed_at = Instant::now();
            self.broker.0.store.trim(&self.room.live, Offset(self.before.offset.0 + 1)).await?;
            self.before = self.position;
        }
        Ok(())
    }

    /// Writes who has gone; all who are here if the node stops.
    async fn write_leavers(&self, all: bool) -> Result<(), StoreError> {
        let (leaving, staying) = {
            let mut here = self.room.here.lock();
            let staying: Vec<_> = if all { here.desks.values().cloned().collect() } else { Vec::new() };
            (std::mem::take(&mut here.leaving), staying)
        };
        let at = self.broker.now().0;
        let down = |agent: &str, link: &LinkState| {
            self.room.note(DOWN, &DownRecord { agent: agent.to_owned(), link: link.name(), at })
        };
        let mut events: Vec<NewEvent> = leaving.iter().map(|gone| down(&gone.agent, &gone.link)).collect();
        for desk in staying {
            events.extend(desk.links().iter().map(|link| down(&desk.agent, link)));
        }
        if events.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.room.write(&self.broker, events).await {
            self.room.here.lock().leaving.extend(leaving);
            return Err(error);
        }
        leaving.iter().for_each(|gone| gone.link.is_written.cancel());
        Ok(())
    }

    /// Writes connections of nodes that are gone as gone, and those of this one again that were written so.
    async fn write_lost(&self) -> Result<(), StoreError> {
        let now = self.broker.now();
        let nodes = &self.broker.0.bus.nodes;
        let mut events = Vec::new();
        self.room.with_agents(|agents| {
            for (agent, state) in agents {
                for (link, place) in &state.links {
                    if let Some(until) = nodes.gone_since(&place.node, now) {
                        let usual =
                            if nodes.is_alone() { self.broker.0.started_at } else { Timestamp(place.at) };
                        let at = until.unwrap_or(usual).0;
                        let down = DownRecord { agent: agent.clone(), link: link.clone(), at };
                        events.push(self.room.note(DOWN, &down));
                    }
                }
            }
        });
        let desks: Vec<Arc<Desk>> = self.room.here.lock().desks.values().cloned().collect();
        for desk in desks {
            let known = self.room.with_agent(&desk.agent, |agent| {
                agent.map(|agent| agent.links.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default()
            });
            for link in desk.links() {
                if link.is_up() && !known.contains(&link.name()) {
                    link.rename();
                    events.push(self.room.up(&self.broker, &link));
                }
            }
        }
        if events.is_empty() { Ok(()) } else { self.room.write(&self.broker, events).await }
    }

    async fn read_live(&mut self) -> Result<(), StoreError> {
        loop {
            match self.broker.0.store.read(&self.room.live, ReadFrom::After(self.position), BUS_PAGE).await? {
                Read::Gap { resume } => {
                    self.broker.0.bus.counts.missed.one();
                    self.position = resume;
                }
                Read::Events { events, .. } if events.is_empty() => return Ok(()),
                Read::Events { events, next } => {
                    self.position = next;
                    for event in events {
                        self.room.hand_on(&self.broker, event);
                    }
                }
            }
        }
    }

    /// Tells connections which agents of their workspaces came or went.
    fn tell_presence(&self) {
        let mut news = Vec::new();
        {
            let mut here = self.room.here.lock();
            let now = self.room.online(&self.broker);
            let changed: Vec<&String> = here.online.symmetric_difference(&now).collect();
            let roster = self.room.roster.lock();
            for agent in changed {
                let Some(state) = roster.agent(agent) else { continue };
                let present = presence(&self.broker, Some(state));
                let workspaces: Vec<String> = state.workspaces.keys().cloned().collect();
                let (is_online, since) = (now.contains(agent), present.since);
                news.push((BusPresence { agent: agent.clone(), is_online, since }, workspaces));
            }
            drop(roster);
            here.online = now;
        }
        if news.is_empty() {
            return;
        }
        let desks: Vec<Arc<Desk>> = self.room.here.lock().desks.values().cloned().collect();
        for link in desks.iter().flat_map(|desk| desk.links()) {
            let Some(own) = link.workspace.as_ref().filter(|_| link.wants_presence) else { continue };
            for (presence, workspaces) in &news {
                if presence.agent != link.agent && workspaces.contains(own) {
                    link.offer(BusEvent::Presence(presence.clone()));
                }
            }
        }
    }
}

impl Room {
    /// Gives what was told live to those it is for. What a newer version has written is passed over.
    fn hand_on(self: &Arc<Room>, broker: &Broker, event: Event) {
        match event.event_type.as_str() {
            LIVE => {
                let Ok(LiveRecord { to, envelope, content }) = serde_json::from_slice(&event.data) else {
                    return;
                };
                let topic = envelope.topic.as_ref();
                let topic = topic.and_then(|topic| Name::new(&self.org, Kind::Public, topic).ok());
                let content = Box::<str>::from(content).into_string().into_bytes();
                let message = Arc::new(envelope.message(content.into()));
                for desk in to.iter().filter_map(|agent| self.desk(agent)) {
                    for link in desk.links() {
                        let is_for =
                            topic.as_ref().is_none_or(|topic| roster::matches(&link.topics(), topic));
                        if is_for {
                            broker.0.bus.counts.live.one();
                            self.push(&link, BusEvent::Live(Arc::clone(&message)));
                        }
                    }
                }
            }
            RECEIPT => {
                let Ok(record) = serde_json::from_slice::<ReceiptRecord>(&event.data) else { return };
                let Some(desk) = self.desk(&record.to) else { return };
                let receipt = record.receipt(event.appended_at);
                for link in desk.links() {
                    self.push(&link, BusEvent::Receipt(receipt.clone()));
                }
            }
            COPY => {
                let Ok(record) = serde_json::from_slice::<CopyRecord>(&event.data) else { return };
                let Some(desk) = self.desk(&record.to) else { return };
                let Ok(receipt) = record.receipt.parse() else { return };
                if record.node == broker.0.bus.nodes.own {
                    return;
                }
                let max_attempts = record.envelope.max_attempts;
                let content = Box::<str>::from(record.content).into_string().into_bytes();
                let delivery = BusDelivery {
                    message: Arc::new(record.envelope.message(content.into())),
                    receipt,
                    attempt: record.attempt,
                    lease_expires_at: Timestamp(record.lease_expires_at),
                };
                desk.copy(broker, Arc::new(delivery), max_attempts);
            }
            _ => {}
        }
    }

    /// Gives a connection something; one that is too far behind its reader ends.
    pub(super) fn push(&self, link: &Arc<LinkState>, event: BusEvent) {
        if !link.offer(event) {
            link.close(super::view::BusClosed::TooSlow);
            self.leave(link);
        }
    }
}

//! One connection of an agent: what waits for its reader, in a bounded room,
//! and what it may do.

use super::desk::Desk;
use super::message::BusMessageId;
use super::room::Room;
use super::view::{BusClosed, BusEvent, BusOutcome, BusSettled};
use super::{AgentHello, BusRefused, Sharing};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{AGENT_TOPICS_MAX, LINK_BYTES_MAX, LINK_EVENTS_MAX};
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A connection as desk and room see it.
pub(super) struct LinkState {
    /// Of this node, for as long as it lives.
    pub(super) number: u64,
    node: String,
    /// How often others took it for gone.
    renamed: AtomicU64,
    pub(super) agent: String,
    pub(super) workspace: Option<String>,
    pub(super) user: Option<String>,
    pub(super) sharing: Sharing,
    pub(super) window: u32,
    pub(super) wants_presence: bool,
    topics: Mutex<BTreeSet<String>>,
    is_up: AtomicBool,
    outbox: Mutex<Outbox>,
    ready: Notify,
    /// What it held was given back.
    pub(super) is_released: CancellationToken,
    /// It is not in the roster any more.
    pub(super) is_written: CancellationToken,
}

#[derive(Default)]
struct Outbox {
    events: VecDeque<BusEvent>,
    bytes: usize,
    closed: Option<BusClosed>,
}

impl LinkState {
    pub(super) fn new(number: u64, node: &str, hello: AgentHello) -> LinkState {
        LinkState {
            number,
            node: node.to_owned(),
            renamed: AtomicU64::new(0),
            agent: hello.agent,
            workspace: hello.workspace,
            user: hello.user,
            sharing: hello.sharing,
            window: hello.window,
            wants_presence: hello.presence,
            topics: Mutex::default(),
            is_up: AtomicBool::new(false),
            outbox: Mutex::default(),
            ready: Notify::new(),
            is_released: CancellationToken::new(),
            is_written: CancellationToken::new(),
        }
    }

    /// Its name in the roster, which is never used again.
    pub(super) fn name(&self) -> String {
        format!("{}-{}-{}", self.node, self.number, self.renamed.load(Ordering::Relaxed))
    }

    pub(super) fn rename(&self) {
        self.renamed.fetch_add(1, Ordering::Relaxed);
    }

    /// It is in the roster.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(super) fn is_for_all(&self) -> bool {
        match self.sharing {
            Sharing::All => true,
            Sharing::Compete => false,
        }
    }

    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.lock().iter().cloned().collect()
    }

    /// Puts something before its reader; false if there is no room. Presence is left out then: it can be asked for.
    pub(super) fn offer(&self, event: BusEvent) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.closed.is_some() {
            return true;
        }
        let is_full = outbox.bytes >= LINK_BYTES_MAX || outbox.events.len() >= LINK_EVENTS_MAX;
        match &event {
            // Bounded by what is claimed.
            BusEvent::Message(_) => {}
            BusEvent::Presence(_) if is_full => return true,
            BusEvent::Live(_) | BusEvent::Receipt(_) if is_full => return false,
            BusEvent::Live(_) | BusEvent::Receipt(_) | BusEvent::Presence(_) | BusEvent::Closed(_) => {}
        }
        outbox.bytes += bytes(&event);
        outbox.events.push_back(event);
        drop(outbox);
        self.ready.notify_one();
        true
    }

    /// Ends it; its reader is told nothing else.
    pub(super) fn close(&self, why: BusClosed) {
        let mut outbox = self.outbox.lock();
        if outbox.closed.is_none() {
            outbox.events.clear();
            outbox.bytes = 0;
            outbox.events.push_back(BusEvent::Closed(why));
            outbox.closed = Some(why);
        }
        drop(outbox);
        self.ready.notify_one();
    }

    /// Too much waits for its reader to claim more.
    pub(super) fn is_behind(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.bytes >= LINK_BYTES_MAX || outbox.closed.is_some()
    }

    fn take(&self) -> Option<(BusEvent, bool)> {
        let mut outbox = self.outbox.lock();
        let was_behind = outbox.bytes >= LINK_BYTES_MAX;
        let event = outbox.events.pop_front()?;
        outbox.bytes -= bytes(&event).min(outbox.bytes);
        Some((event, was_behind && outbox.bytes < LINK_BYTES_MAX))
    }
}

fn bytes(event: &BusEvent) -> usize {
    match event {
        BusEvent::Message(delivery) => delivery.message.bytes(),
        BusEvent::Live(message) => message.bytes(),
        BusEvent::Receipt(_) | BusEvent::Presence(_) => EVENT_BYTES,
        BusEvent::Closed(_) => 0,
    }
}

/// What an event without a content takes, about.
const EVENT_BYTES: usize = 512;

/// A connection of an agent. Dropped, what it was given and has not settled comes again, with the next attempt, and
/// what its reader has not taken yet as if it had never been claimed.
pub struct AgentLink {
    handle: LinkHandle,
}

/// What a connection may do, for whoever reads its frames; clones are the same.
#[derive(Clone)]
pub struct LinkHandle {
    pub(super) broker: Broker,
    pub(super) room: Arc<Room>,
    pub(super) desk: Arc<Desk>,
    pub(super) link: Arc<LinkState>,
}

impl AgentLink {
    pub(super) fn new(handle: LinkHandle) -> AgentLink {
        AgentLink { handle }
    }

    /// What it may do.
    #[must_use]
    pub fn handle(&self) -> LinkHandle {
        self.handle.clone()
    }

    /// The next thing to show. After [`BusEvent::Closed`] there is nothing more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> BusEvent {
        let link = &self.handle.link;
        loop {
            while let Some((event, has_room)) = link.take() {
                if has_room {
                    self.handle.desk.changed.notify_one();
                }
                match &event {
                    // Somebody else may have settled it while it waited here.
                    BusEvent::Message(delivery) if !self.handle.desk.taken(link, &delivery.message.id) => {}
                    _ => return event,
                }
            }
            link.ready.notified().await;
        }
    }

    /// Leaves, and returns when what it held is back in the inbox and others see that it is gone, as far as the
    /// store answers.
    pub async fn close(self) {
        let (link, closing) = (Arc::clone(&self.handle.link), self.handle.broker.0.bus.closing.clone());
        drop(self);
        tokio::select! {
            () = closing.cancelled() => {}
            () = async { tokio::join!(link.is_released.cancelled(), link.is_written.cancelled()); } => {}
        }
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.handle.room.leave(&self.handle.link);
        self.handle.broker.0.bus.links.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LinkHandle {
    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.link.agent
    }

    /// Its organisation.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.room.org
    }

    /// The workspace it came with.
    #[must_use]
    pub fn workspace(&self) -> Option<&str> {
        self.link.workspace.as_deref()
    }

    /// The user it came with.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.link.user.as_deref()
    }

    pub(super) async fn arrive(&self) -> Result<(), BrokerError> {
        let up = self.room.up(&self.broker, &self.link);
        self.room.write(&self.broker, vec![up]).await?;
        self.link.is_up.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends deliveries of this connection, or of another one of the agent that got the same. Answer i is about item
    /// i; what is not in hand is `LeaseLost`.
    ///
    /// # Errors
    /// When the store does not answer; a repeat is safe.
    pub async fn settle(
        &self,
        batch: Vec<(BusMessageId, BusOutcome)>,
    ) -> Result<Vec<BusSettled>, BrokerError> {
        self.desk.settle(&self.broker, &self.room, batch).await
    }

    /// Gets messages sent to these topics, or topics that match these patterns, too: live while it is connected, and
    /// for its agent in the inbox when no connection that subscribes is there. These are messages sent to a topic's
    /// agents; the events of a topic are read with [`Broker::subscribe`].
    ///
    /// # Errors
    /// When the store does not answer, or there are too many.
    pub async fn subscribe(&self, patterns: &[String]) -> Result<(), BrokerError> {
        let mut wanted: BTreeSet<String> = self.link.topics.lock().clone();
        wanted.extend(patterns.iter().cloned());
        if wanted.len() > AGENT_TOPICS_MAX {
            return Err(BusRefused::TopicsFull { topics_max: AGENT_TOPICS_MAX }.into());
        }
        self.room.subscribe(&self.broker, &self.link, patterns.to_vec(), Vec::new()).await?;
        self.link.topics.lock().extend(patterns.iter().cloned());
        Ok(())
    }

    /// The other way round; other connections keep what they subscribed to.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn unsubscribe(&self, patterns: &[String]) -> Result<(), BrokerError> {
        self.link.topics.lock().retain(|topic| !patterns.contains(topic));
        Ok(self.room.subscribe(&self.broker, &self.link, Vec::new(), patterns.to_vec()).await?)
    }

    /// What it subscribes to.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.link.topics()
    }
}

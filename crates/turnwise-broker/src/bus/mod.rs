//! The agents' bus: agents of an organisation send to each other, to a
//! workspace, or to a topic's subscribers. What must arrive waits in an inbox,
//! a queue for each agent, until it is acknowledged; what is only for those
//! that are online is told live. The rules are clauses I1 to I6.

mod agents;
mod count;
mod desk;
mod inbox;
mod link;
mod message;
mod nodes;
mod receipt;
mod record;
mod request;
mod room;
mod roster;
mod send;
mod sweep;
mod view;

pub use inbox::BusClaim;
pub use link::{AgentLink, LinkHandle};
pub use message::{BusMessage, BusMessageId, BusMessageType, BusMode, BusSend, BusTo};
pub use request::BusAnswer;
pub use view::{
    BusAgentView, BusClosed, BusDelivery, BusEvent, BusOutcome, BusPresence, BusReceipt, BusReceiptView,
    BusRecipient, BusReply, BusSent, BusSettled, BusState,
};

use crate::broker::Broker;
use crate::duty::Housekeeping;
use crate::error::BrokerError;
use crate::limits::{AGENT_LINKS_MAX, AGENTS_PER_ORG_MAX, INBOX_WINDOW_MAX, LINKS_MAX};
use crate::work::WorkQueue;
use count::BusCounts;
use desk::Desk;
use link::LinkState;
use nodes::Nodes;
use parking_lot::Mutex;
use room::Room;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnwise_core::{QueueName, StoreError};
use turnwise_metrics::Page;

/// How the connections of one agent share its inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Each gets every message; the first to settle it ends it for all.
    #[default]
    All,
    /// One of those that compete gets it.
    Compete,
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHello {
    /// The agent.
    pub agent: String,
    /// The workspace it comes from, of which it is a member from now on.
    pub workspace: Option<String>,
    /// The user it comes for.
    pub user: Option<String>,
    /// How it shares its inbox with other connections.
    pub sharing: Sharing,
    /// Messages it may hold unsettled: 1 to 100.
    pub window: u32,
    /// Tell it which agents of its workspace come and go.
    pub presence: bool,
}

impl AgentHello {
    /// With the defaults.
    #[must_use]
    pub fn new(agent: impl Into<String>) -> AgentHello {
        AgentHello {
            agent: agent.into(),
            workspace: None,
            user: None,
            sharing: Sharing::default(),
            window: INBOX_WINDOW_MAX,
            presence: false,
        }
    }
}

/// What the bus refuses; nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BusRefused {
    /// The agent is new, and as many as may be are known.
    #[error("the organisation has {agents_max} agents and no more are taken")]
    AgentsFull {
        /// The limit.
        agents_max: usize,
    },
    /// This node, or the agent on it, has as many connections as it may.
    #[error("{links_max} connections are open and no more are taken")]
    LinksFull {
        /// The limit.
        links_max: usize,
    },
    /// The agent subscribes to as many topics as it may.
    #[error("an agent subscribes to at most {topics_max} topics and patterns")]
    TopicsFull {
        /// The limit.
        topics_max: usize,
    },
    /// The inbox of the agent holds as many messages as it may.
    #[error("the inbox holds {messages_max} messages and no more are taken")]
    InboxFull {
        /// The limit.
        messages_max: u64,
    },
    /// The sender used this key for a message with other content.
    #[error("the key was used before with other content")]
    DedupConflict(BusMessageId),
    /// What it answers is no request to this agent, or is not kept any longer.
    #[error("the request is not known")]
    RequestUnknown,
    /// Nobody could get the request now, or it ended without an answer.
    #[error("the request ended without an answer: {}", .0.name())]
    Unanswered(BusState),
    /// Time was up before there was an answer.
    #[error("there was no answer in time")]
    TimedOut(BusMessageId),
}

/// What a node keeps about the bus.
pub(crate) struct Bus {
    nodes: Nodes,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
    tasks: TaskTracker,
    closing: CancellationToken,
    links: AtomicUsize,
    last_link: AtomicU64,
    /// The org whose old news are dropped next.
    next_org: AtomicUsize,
    counts: BusCounts,
    /// Inboxes that held anything in the last round of the sweeper.
    pub(crate) inboxes: Mutex<Vec<QueueName>>,
}

impl Bus {
    pub(crate) fn new(node: u64, housekeeping: Housekeeping, beat: Duration) -> Bus {
        Bus {
            nodes: Nodes::new(node, housekeeping, beat),
            rooms: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            links: AtomicUsize::new(0),
            last_link: AtomicU64::new(0),
            next_org: AtomicUsize::new(0),
            counts: BusCounts::default(),
            inboxes: Mutex::default(),
        }
    }

    fn room(&self, org: &str, keep: bool) -> Result<Arc<Room>, StoreError> {
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(org) {
            return Ok(Arc::clone(room));
        }
        let room = Arc::new(Room::new(org)?);
        if keep {
            rooms.insert(org.to_owned(), Arc::clone(&room));
        }
        Ok(room)
    }

    /// Connections of this node.
    pub(crate) fn links(&self) -> usize {
        self.links.load(Ordering::Acquire)
    }

    pub(crate) fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        self.counts.tell(page)?;
        let links = self.links() as f64;
        page.gauge("turnwise_bus_connections", "Agents' connections of this node.", links)
    }
}

impl Broker {
    /// An org's agents, as they are now. Asking about an org that is not known leaves no trace.
    async fn bus_room(&self, org: &str) -> Result<Arc<Room>, BrokerError> {
        let room = self.0.bus.room(org, false)?;
        room.catch_up(self).await?;
        Ok(room)
    }

    /// The same for an org that something is about to be stored for.
    async fn bus_room_of(&self, org: &str) -> Result<Arc<Room>, BrokerError> {
        let inner = &self.0;
        let orgs_max = inner.config.orgs_max;
        if !inner.orgs.remember(inner.store.as_ref(), org, orgs_max).await? {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let room = inner.bus.room(org, true)?;
        room.catch_up(self).await?;
        Ok(room)
    }

    /// Connects an agent: from now on it is online, and gets what is in its inbox, what is told live, and receipts.
    /// Ids are of 1 to 256 bytes without control characters; the caller has checked that it may be this agent.
    ///
    /// # Errors
    /// When the store does not answer, or a limit is reached.
    pub async fn connect_agent(&self, org: &str, hello: AgentHello) -> Result<AgentLink, BrokerError> {
        let bus = &self.0.bus;
        let room = self.bus_room_of(org).await?;
        let is_new = room.with_agent(&hello.agent, |agent| agent.is_none());
        if is_new && room.agents_known(self) >= AGENTS_PER_ORG_MAX {
            return Err(BusRefused::AgentsFull { agents_max: AGENTS_PER_ORG_MAX }.into());
        }
        if room.links_of(&hello.agent) >= AGENT_LINKS_MAX {
            return Err(BusRefused::LinksFull { links_max: AGENT_LINKS_MAX }.into());
        }
        bus.nodes.say(self).await?;
        let end = room.live_end(self).await?;
        let inbox = WorkQueue::of(record::inbox(org, &hello.agent)?);
        if bus.links.fetch_add(1, Ordering::AcqRel) >= LINKS_MAX {
            bus.links.fetch_sub(1, Ordering::AcqRel);
            return Err(BusRefused::LinksFull { links_max: LINKS_MAX }.into());
        }
        let number = bus.last_link.fetch_add(1, Ordering::Relaxed) + 1;
        let mut hello = hello;
        hello.window = hello.window.clamp(1, INBOX_WINDOW_MAX);
        let link = Arc::new(LinkState::new(number, &bus.nodes.own, hello));
        let mut new_desk = None;
        let (desk, must_run) = room.join(self, &link, || {
            let desk = Arc::new(Desk::new(&link.agent, inbox));
            new_desk = Some(Arc::clone(&desk));
            desk
        });
        if must_run {
            bus.tasks.spawn(Arc::clone(&room).run(self.clone(), end));
        }
        if let Some(desk) = new_desk {
            bus.tasks.spawn(desk.run(self.clone(), Arc::clone(&room)));
        }
        let handle = LinkHandle { broker: self.clone(), room, desk, link };
        // From here on it leaves when it is dropped.
        let link = AgentLink::new(handle.clone());
        handle.arrive().await?;
        Ok(link)
    }

    /// Connections of this node.
    #[must_use]
    pub fn bus_links(&self) -> usize {
        self.0.bus.links()
    }

    /// Ends all connections of this node, gives back what they hold, and returns when that is done.
    pub async fn close_bus(&self) {
        let bus = &self.0.bus;
        bus.closing.cancel();
        bus.tasks.close();
        bus.tasks.wait().await;
    }
}

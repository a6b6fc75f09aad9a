//! The broker itself: a store, settings, and what this node keeps in memory.

use crate::bus::Bus;
use crate::callback::Hands;
use crate::checks::Checks;
use crate::claim::Ring;
use crate::config::BrokerConfig;
use crate::counters::{Counters, Groups};
use crate::counts::{Numbers, TurnCounts};
use crate::lease::Running;
use crate::local::Local;
use crate::news::Board;
use crate::orgs::Orgs;
use crate::streams::Streams;
use crate::topics::Feeds;
use crate::work::Work;
use std::sync::Arc;
use turnwise_core::{Kind, MessageId, Name, QueueName, Store, StoreError, Timestamp, TopicName};

/// Reads the time; the same clock the store uses.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Draws random bits.
pub type Nonce = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Conversations over a store. Clones share everything.
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: BrokerConfig,
    pub(crate) nonce: Nonce,
    pub(crate) clock: Clock,
    pub(crate) started_at: Timestamp,
    pub(crate) orgs: Orgs,
    pub(crate) local: Local,
    pub(crate) running: Running,
    pub(crate) ring: Ring,
    pub(crate) callback_ring: Ring,
    pub(crate) callbacks_in_hand: Arc<Hands>,
    pub(crate) counters: Counters,
    pub(crate) counts: TurnCounts,
    pub(crate) checks: Checks,
    pub(crate) board: Board,
    pub(crate) groups: Groups,
    pub(crate) feeds: Feeds,
    pub(crate) streams: Streams,
    pub(crate) work: Work,
    pub(crate) bus: Bus,
}

impl Broker {
    /// A broker over `store`; reads the known orgs, and what is set for queues.
    ///
    /// # Errors
    /// When the store does not answer, or the settings break a limit.
    pub async fn start(
        store: Arc<dyn Store>,
        config: BrokerConfig,
        nonce: Nonce,
        clock: Clock,
    ) -> Result<Broker, StoreError> {
        let orgs = Orgs::load(store.as_ref()).await?;
        let work = Work::load(store.as_ref()).await?;
        let ring = Ring::new(Kind::Turns, store.wakeups());
        let callback_ring = Ring::new(Kind::Callbacks, store.wakeups());
        let bus = Bus::new(nonce(), config.housekeeping, config.node_beat);
        Ok(Broker(Arc::new(Inner {
            started_at: clock(),
            store,
            config,
            nonce,
            clock,
            orgs,
            local: Local::default(),
            running: Running::default(),
            ring,
            callback_ring,
            callbacks_in_hand: Arc::default(),
            counters: Counters::default(),
            counts: TurnCounts::default(),
            checks: Checks::default(),
            board: Board::default(),
            groups: Groups::default(),
            feeds: Feeds::default(),
            streams: Streams::default(),
            work,
            bus,
        })))
    }

    /// The time, by the clock it shares with the store.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// What it counts, for a scraper.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn turnwise_metrics::Source> {
        Arc::clone(&self.0) as Arc<dyn turnwise_metrics::Source>
    }

    /// The same for people, the most important of it. From memory, at most a poll interval old.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.0.numbers()
    }

    /// The settings it was started with.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.0.config
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// The queue all turns of an org wait in.
pub(crate) fn turns_queue(org: &str) -> Result<QueueName, turnwise_core::NameError> {
    Name::new(org, Kind::Turns, "turns")
}

/// The topic a turn's answer is kept in. Named by the nonce alone, because it
/// must be known before the store gives the turn its place.
pub(crate) fn reply_topic(org: &str, nonce: u64) -> Result<TopicName, turnwise_core::NameError> {
    Name::new(org, Kind::Reply, &format!("{nonce:016x}"))
}

/// The reply topic of a turn that exists.
pub(crate) fn reply_topic_of(org: &str, id: MessageId) -> Result<TopicName, turnwise_core::NameError> {
    reply_topic(org, id.nonce())
}

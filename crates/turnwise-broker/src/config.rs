//! Settings of the broker. Parsing and defaults shown to users live in the binary.

use crate::callback::CallbackRules;
use crate::duty::Housekeeping;
use crate::limits;
use std::time::Duration;

/// How turns are kept, leased and given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// How long a holder has a turn without renewing.
    pub turn_lease: Duration,
    /// Agent calls that may be lost to crashes before a turn fails.
    pub turn_attempts_max: u32,
    /// Turns one conversation may hold, the one in progress included.
    pub depth_max: u32,
    /// How long an unanswered turn waits, an answer is kept, and a repeated
    /// client message id is recognised.
    pub retention: Duration,
    /// Ended turns kept at most; the oldest are dropped first.
    pub retained_turns_max: u64,
    /// Bytes of their events kept at most; the oldest turns are dropped first.
    pub retained_bytes_max: u64,
    /// Turns that may wait or run at once, over all conversations; more are refused.
    pub turns_waiting_max: u64,
    /// The same of one org: what it may fill leaves room for the others.
    pub org_turns_waiting_max: u64,
    /// Orgs known at most: a new one is refused then.
    pub orgs_max: usize,
    /// Orgs one question about a user's queues may go through.
    pub orgs_asked_max: usize,
    /// How long a turn may wait for an agent that says it is busy.
    pub retry_after_total_max: Duration,
    /// How often the store is asked when no wake-up comes.
    pub poll_interval: Duration,
    /// Who keeps the store in order.
    pub housekeeping: Housekeeping,
    /// Whether and where answers may be posted.
    pub callbacks: CallbackRules,
    /// Callbacks that wait or are dead, kept at most: the oldest dead ones go first, and while waiting ones alone
    /// are so many, no turn with a callback is taken. Those of turns that have not ended are not counted.
    pub callbacks_kept_max: u64,
    /// Messages all work queues hold at most, dead letters included; more are refused.
    pub queue_messages_max: u64,
    /// The same of one org: what it may fill leaves room for the others.
    pub org_queue_messages_max: u64,
    /// Work queues of one org that hold messages at once.
    pub org_queues_max: u64,
    /// How long a connected agent has a message before its lease is extended again; it is each third of this.
    pub agent_lease: Duration,
    /// How often a node with connected agents says that it lives; silent for four times this, it is gone.
    pub node_beat: Duration,
    /// How long a try of a callback may take altogether.
    pub callback_lease: Duration,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            turn_lease: Duration::from_secs(20),
            turn_attempts_max: 3,
            depth_max: 50,
            retention: Duration::from_secs(24 * 3600),
            retained_turns_max: 1_000_000,
            retained_bytes_max: 16 * 1024 * 1024 * 1024,
            turns_waiting_max: 1_000_000,
            org_turns_waiting_max: 500_000,
            orgs_max: limits::ORGS_MAX,
            orgs_asked_max: limits::ORGS_ASKED_MAX,
            retry_after_total_max: Duration::from_secs(600),
            poll_interval: Duration::from_secs(1),
            housekeeping: Housekeeping::default(),
            callbacks: CallbackRules::default(),
            callbacks_kept_max: 200_000,
            queue_messages_max: limits::QUEUE_MESSAGES_MAX,
            org_queue_messages_max: limits::ORG_QUEUE_MESSAGES_MAX,
            org_queues_max: limits::ORG_QUEUES_MAX,
            agent_lease: limits::LINK_LEASE,
            node_beat: limits::NODE_BEAT,
            callback_lease: Duration::from_secs(15),
        }
    }
}

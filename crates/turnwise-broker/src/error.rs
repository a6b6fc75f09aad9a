//! What can go wrong for a caller of the broker. One place maps these to the wire.

use crate::bus::BusRefused;
use crate::work::WorkFull;
use thiserror::Error;
use turnwise_core::{MessageId, NameError, StoreError};

/// Why the broker has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BrokerError {
    /// The store could not, or may not have; see [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The conversation already holds this many turns; nothing was stored.
    #[error("the conversation already holds {depth_max} turns")]
    LaneFull {
        /// The limit.
        depth_max: u32,
    },
    /// As many turns wait as may; nothing was stored.
    #[error("{turns_waiting_max} turns wait and no more are taken")]
    TurnsFull {
        /// The limit.
        turns_waiting_max: u64,
    },
    /// Its org holds as many turns as one org may; nothing was stored.
    #[error("{org_turns_waiting_max} turns of the org wait and no more of its are taken")]
    OrgTurnsFull {
        /// The limit.
        org_turns_waiting_max: u64,
    },
    /// As many callbacks wait as may; nothing was stored.
    #[error("{callbacks_kept_max} callbacks wait and no turn with one is taken")]
    CallbacksFull {
        /// The limit.
        callbacks_kept_max: u64,
    },
    /// The org is new, and as many as may be are known; nothing was stored.
    #[error("{orgs_max} orgs are known and no more are taken")]
    OrgsFull {
        /// The limit.
        orgs_max: usize,
    },
    /// More orgs would have to be asked than one question may: name one.
    #[error("more than {orgs_asked_max} orgs would have to be asked")]
    TooManyOrgs {
        /// The limit.
        orgs_asked_max: usize,
    },
    /// There is no more room in the work queues; nothing was stored.
    #[error("there is no more room: {0:?}")]
    WorkFull(WorkFull),
    /// The agents' bus refuses it.
    #[error(transparent)]
    Bus(#[from] BusRefused),
    /// The client message id was used for this turn with other content.
    #[error("the client message id was used before with other content")]
    DedupConflict(MessageId),
    /// The lease on the turn is over: stop, nothing more is written.
    #[error("the lease on the turn is over")]
    LeaseLost,
    /// The turn was known, but it is no longer kept.
    #[error("the turn is no longer kept")]
    Gone,
}

impl From<NameError> for BrokerError {
    fn from(error: NameError) -> BrokerError {
        BrokerError::Store(error.into())
    }
}

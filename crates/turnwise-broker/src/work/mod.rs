//! Work queues for everybody: services store messages, claim them under a
//! lease, and settle them. The rules are the store's (clauses Q1 to Q18); here
//! are names, policies, waiting, and what bounds them.

mod bell;
mod claim;
mod count;
mod history;
mod inspect;
mod levels;
mod mend;
mod pace;
mod policy;
mod receipt;
mod records;
mod send;
mod settle;

pub use claim::{WorkClaim, WorkDelivery};
pub use history::WorkError;
pub use inspect::{WorkMessageView, WorkQueueView, WorkRates};
pub use levels::WorkFull;
pub use mend::{WorkFilter, WorkMended, WorkRedrive};
pub use policy::WorkPolicy;
pub use receipt::WorkReceipt;
pub use send::{WorkDedup, WorkMessage, WorkSent, WorkTime};
pub use settle::{WorkExtended, WorkOutcome, WorkSettled, WorkSettlement};

use crate::limits::QUEUE_NAME_BYTES_MAX;
use bell::Bells;
use count::WorkCounts;
use levels::Levels;
use pace::Paces;
use records::Records;
use turnwise_core::limits::NAME_BYTES_MAX;
use turnwise_core::{Kind, Name, QueueName, Store, StoreError};

/// One queue of one organisation. It needs no creation: it is there as soon as it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkQueue(QueueName);

impl WorkQueue {
    /// The queue with this name; `None` if the name breaks the rule: 1 to 128 of letters, digits and `_.:-`.
    /// The organisation is any id of at most 256 bytes without control characters.
    #[must_use]
    pub fn new(org: &str, name: &str) -> Option<WorkQueue> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let fits = (1..=QUEUE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed);
        let is_org = (1..=NAME_BYTES_MAX).contains(&org.len());
        let queue = (fits && is_org).then(|| Name::new(org, Kind::Public, name).ok())??;
        Some(WorkQueue(queue))
    }

    /// A queue of another kind whose receipts look like those of a work queue.
    pub(crate) fn of(queue: QueueName) -> WorkQueue {
        WorkQueue(queue)
    }

    /// Its name in the store.
    pub(crate) fn queue(&self) -> &QueueName {
        &self.0
    }

    /// Whose it is.
    #[must_use]
    pub fn org(&self) -> &str {
        self.0.org()
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

/// What a node keeps about work queues.
pub(crate) struct Work {
    pub(crate) bells: Bells,
    pub(crate) levels: Levels,
    pub(crate) records: Records,
    pub(crate) counts: WorkCounts,
    pub(crate) paces: Paces,
}

impl Work {
    /// Reads the policies that are in force.
    pub(crate) async fn load(store: &dyn Store) -> Result<Work, StoreError> {
        Ok(Work {
            bells: Bells::new(store.wakeups()),
            levels: Levels::default(),
            records: Records::load(store).await?,
            counts: WorkCounts::default(),
            paces: Paces::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_alphabet_and_a_length() {
        let longest = "x".repeat(128);
        for good in ["a", "jobs.mail:eu-1_x", longest.as_str()] {
            assert_eq!(WorkQueue::new("o", good).map(|queue| queue.name().to_owned()).as_deref(), Some(good));
        }
        for bad in ["", "a b", "a/b", "*", ">", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(WorkQueue::new("o", bad), None, "{bad}");
        }
        for org in ["", "a\n", &"x".repeat(257)] {
            assert_eq!(WorkQueue::new(org, "jobs"), None, "{org}");
        }
    }
}

//! What happens to turns on this node, as it happens, for whoever looks on.
//! Not stored; a slow onlooker misses some and is told so. Costs nothing while
//! nobody looks.

use crate::broker::Broker;
use crate::limits::NEWS_KEPT;
use crate::orgs::OrgScope;
use crate::timeline::StepKind;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use turnwise_core::{MessageId, Timestamp};
use turnwise_metrics::{Gauge, Held};

/// One step of one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The turn.
    pub id: MessageId,
    /// Its org.
    pub org: String,
    /// Its user.
    pub user: String,
    /// What happened.
    pub step: StepKind,
    /// When.
    pub at: Timestamp,
    /// Which call; 1 for the first.
    pub attempt: Option<u32>,
    /// Of a claim: since the turn was accepted. Of an end: since its last call began.
    pub after: Option<Duration>,
    /// Why it failed: the code.
    pub code: Option<String>,
}

/// What an onlooker gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One step.
    News(News),
    /// The onlooker was slower than the turns and missed some steps, of whichever org:
    /// how many is not told, for others' turns are none of its business.
    Missed,
}

/// Where news is passed on.
pub(crate) struct Board {
    onlookers: Gauge,
    sender: Sender<News>,
}

impl Default for Board {
    fn default() -> Board {
        Board { onlookers: Gauge::default(), sender: Sender::new(NEWS_KEPT) }
    }
}

impl Board {
    /// Passes it on if somebody looks.
    pub(crate) fn tell(&self, news: impl FnOnce() -> News) {
        if self.onlookers.get() > 0 {
            // The last one may have left this moment.
            let _nobody = self.sender.send(news());
        }
    }
}

/// Looks on until it is dropped.
pub struct Onlooker {
    receiver: Receiver<News>,
    orgs: OrgScope,
    user: Option<String>,
    _counted: Held,
}

impl Broker {
    /// Looks at the turns of these orgs, or of one user in them, from now on.
    #[must_use]
    pub fn look_on(&self, orgs: OrgScope, user: Option<String>) -> Onlooker {
        let board = &self.0.board;
        Onlooker { _counted: board.onlookers.hold(), receiver: board.sender.subscribe(), orgs, user }
    }
}

impl Onlooker {
    /// The next step; `None` when the broker is gone. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            match self.receiver.recv().await {
                Ok(news) if self.is_for(&news) => return Some(Seen::News(news)),
                Ok(_foreign) => {}
                Err(RecvError::Lagged(_)) => return Some(Seen::Missed),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_for(&self, news: &News) -> bool {
        self.orgs.contains(&news.org) && self.user.as_ref().is_none_or(|user| *user == news.user)
    }
}

//! How a node stops, as a state every part can ask for. `Serving`, then
//! `Draining`: nothing new is accepted, what was begun goes on, reading works.
//! Then `Closing`: nothing more comes, streams are told, connections end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Where a node is on its way to its end. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is taken.
    Serving,
    /// New work is refused and not stored; calls of the agent go on.
    Draining,
    /// Nothing more comes: answers and streams end now.
    Closing,
}

/// Shared by the parts of a node.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    time: Duration,
    begun: CancellationToken,
    closing: CancellationToken,
    ends_at: OnceLock<Instant>,
}

impl Drain {
    /// A node that serves, and once told to stop has this long for what it has begun.
    #[must_use]
    pub fn new(time: Duration) -> Drain {
        let (begun, closing) = (CancellationToken::new(), CancellationToken::new());
        Drain(Arc::new(Inner { time, begun, closing, ends_at: OnceLock::new() }))
    }

    /// Where the node is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (self.0.begun.is_cancelled(), self.0.closing.is_cancelled()) {
            (_, true) => Phase::Closing,
            (true, false) => Phase::Draining,
            (false, false) => Phase::Serving,
        }
    }

    /// Begins: from here on the time runs, and nothing new is accepted or started.
    pub fn begin(&self) {
        self.0.ends_at.get_or_init(|| Instant::now() + self.0.time);
        self.0.begun.cancel();
    }

    /// Everything that was begun is over or given back: answers and streams end.
    pub fn close(&self) {
        self.begin();
        self.0.closing.cancel();
    }

    /// Cancelled when the drain begins: for parts that start work.
    #[must_use]
    pub fn begun(&self) -> CancellationToken {
        self.0.begun.child_token()
    }

    /// Cancelled when nothing more comes: for parts that others wait for.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.0.closing.child_token()
    }

    pub(crate) fn is_closing(&self) -> WaitForCancellationFuture<'_> {
        self.0.closing.cancelled()
    }

    /// When everything is to be over; now, if the drain has not begun.
    pub(crate) fn ends_at(&self) -> Instant {
        self.0.ends_at.get().copied().unwrap_or_else(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_moves_forward_only_and_its_end_is_set_once() {
        let drain = Drain::new(Duration::from_secs(10));
        assert_eq!(drain.phase(), Phase::Serving);
        drain.begin();
        let end = Instant::now() + Duration::from_secs(10);
        assert_eq!(drain.phase(), Phase::Draining);
        assert!(drain.begun().is_cancelled() && !drain.closing().is_cancelled());
        tokio::time::advance(Duration::from_secs(3)).await;
        drain.begin();
        assert_eq!((drain.phase(), drain.ends_at()), (Phase::Draining, end));
        drain.close();
        assert_eq!((drain.phase(), drain.ends_at()), (Phase::Closing, end));
        assert!(drain.closing().is_cancelled());
    }

    #[test]
    fn closing_alone_is_both() {
        let drain = Drain::new(Duration::ZERO);
        drain.close();
        assert!(drain.begun().is_cancelled());
        assert_eq!(drain.phase(), Phase::Closing);
    }
}

//! Messages on their way to a worker. While they have not left for it, they are
//! given back if it goes away: their leases would only rest.

use crate::app::App;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use turnwise_broker::{WorkQueue, WorkReceipt};

/// Messages that were leased for somebody. Dropped, they go back.
pub(in crate::rest) struct InHand {
    app: Arc<App>,
    whose: Whose,
    receipts: Vec<WorkReceipt>,
}

/// From where.
#[derive(Clone)]
pub(in crate::rest) enum Whose {
    /// A work queue.
    Queue(WorkQueue),
    /// An agent's inbox.
    Inbox {
        /// Its organisation.
        org: String,
        /// The agent.
        agent: String,
    },
}

impl InHand {
    pub(in crate::rest) fn new(app: Arc<App>, whose: Whose, receipts: Vec<WorkReceipt>) -> InHand {
        InHand { app, whose, receipts }
    }

    /// Nothing was leased.
    pub(in crate::rest) fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }

    /// They are on their way now.
    fn let_go(mut self) {
        self.receipts.clear();
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and the leases run out.
        if self.receipts.is_empty() || Handle::try_current().is_err() {
            return;
        }
        let broker = self.app.broker.clone();
        let (whose, receipts) = (self.whose.clone(), std::mem::take(&mut self.receipts));
        self.app.tasks.spawn(async move {
            match whose {
                Whose::Queue(queue) => broker.return_work(&queue, &receipts).await,
                Whose::Inbox { org, agent } => broker.return_inbox(&org, &agent, &receipts).await,
            }
        });
    }
}

/// The answer that carries them.
pub(super) struct Handed {
    bytes: Bytes,
    in_hand: Option<InHand>,
}

impl Handed {
    pub(super) fn new(bytes: Bytes, in_hand: InHand) -> Handed {
        Handed { bytes, in_hand: Some(in_hand) }
    }
}

impl Body for Handed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.in_hand.take().map(|in_hand| {
            in_hand.let_go();
            Ok(Frame::data(std::mem::take(&mut self.bytes)))
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.in_hand.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

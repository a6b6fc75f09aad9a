//! What ends a connection from outside: the node stops, its key is taken away.

use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy)]
enum End {
    Closing,
    Revoked,
}

/// One connection's. Asked again and again, it costs next to nothing: nothing that all connections share is looked at
/// before something happens.
pub(crate) struct Ends {
    to_come: FuturesUnordered<BoxFuture<'static, End>>,
    is_closing: bool,
    is_revoked: bool,
}

impl Ends {
    /// Of a connection that these two end.
    pub(crate) fn new(closing: CancellationToken, revoked: CancellationToken) -> Ends {
        let when = |token: CancellationToken, end: End| -> BoxFuture<'static, End> {
            Box::pin(async move {
                token.cancelled_owned().await;
                end
            })
        };
        let to_come = [when(closing, End::Closing), when(revoked, End::Revoked)].into_iter().collect();
        Ends { to_come, is_closing: false, is_revoked: false }
    }

    /// Sees what has happened, and wakes when more does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(end)) = self.to_come.poll_next_unpin(cx) {
            match end {
                End::Closing => self.is_closing = true,
                End::Revoked => self.is_revoked = true,
            }
        }
    }

    /// The node stops.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The key is no longer valid.
    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked
    }
}

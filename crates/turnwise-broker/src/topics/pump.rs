//! Reads what is new for all subscriptions of one organisation on this node,
//! and wakes them when it is there. It lives as long as somebody subscribes.
//! Without it they would see the same, later.

use super::feed::Feed;
use crate::broker::Broker;
use crate::limits::{LOOK_AGAIN, WAKE_TIME_OF_READER};
use crate::wait::next_hint;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use turnwise_core::TopicName;

/// Runs until `deserted`: nobody subscribes any longer.
pub(super) async fn run(
    broker: Broker,
    feed: Weak<Feed>,
    hints: BoxStream<'static, TopicName>,
    deserted: CancellationToken,
) {
    let mut hints = Some(hints);
    let poll_interval = broker.0.config.poll_interval;
    let mut pause = poll_interval;
    let mut woken = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = deserted.cancelled() => return,
            hint = next_hint(hints.as_mut()) => {
                if hint.is_none() {
                    hints = None;
                }
                // What is hinted at may be stored, but not to be seen yet: other writes that began before it still run.
                pause = LOOK_AGAIN.min(poll_interval);
            }
            () = sleep(pause) => pause = (pause * 2).min(poll_interval),
        }
        let Some(feed) = feed.upgrade() else { return };
        // Readers that are woken while the last ones still write would each write twice: those that come meanwhile
        // are told of together.
        sleep_until(woken + wake_time(feed.listeners())).await;
        while let Some(Some(Some(_))) = hints.as_mut().map(|hints| hints.next().now_or_never()) {}
        if look(&broker, &feed).await {
            pause = poll_interval;
            woken = Instant::now();
        }
    }
}

/// How long so many readers take to write what they are told of.
fn wake_time(readers: usize) -> Duration {
    WAKE_TIME_OF_READER.saturating_mul(u32::try_from(readers).unwrap_or(u32::MAX))
}

/// Reads to the end, which wakes the readers; whether there was anything.
async fn look(broker: &Broker, feed: &Arc<Feed>) -> bool {
    let (since, before) = (feed.begun(), feed.added());
    // A failure, the readers find where they look for the end.
    while feed.look(broker, since).await.is_ok() && !feed.has_looked(since) {}
    feed.added() != before
}

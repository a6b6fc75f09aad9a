//! Reads what is new for all subscriptions of one organisation on this node,
//! and wakes them when it is there. It lives as long as somebody subscribes.
//! Without it they would see the same, later.

use super::feed::Feed;
use crate::broker::Broker;
use crate::limits::{LOOK_AGAIN, PLACE_INTERVAL};
use crate::wait::next_hint;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use turnwise_core::TopicName;

type Hints = Option<BoxStream<'static, TopicName>>;

/// Runs until `deserted`: nobody subscribes any longer. `stirred`: somebody else found something.
pub(super) async fn run(
    broker: Broker,
    feed: Weak<Feed>,
    hints: BoxStream<'static, TopicName>,
    stirred: Arc<Notify>,
    deserted: CancellationToken,
) {
    let mut hints = Some(hints);
    let poll_interval = broker.0.config.poll_interval;
    // What is hinted at may be stored, but not to be seen yet: other writes that began before it still run.
    let soon = LOOK_AGAIN.min(poll_interval);
    let mut pause = poll_interval;
    let mut beat_at = Instant::now() + PLACE_INTERVAL;
    loop {
        let mut is_time = true;
        tokio::select! {
            biased;
            () = deserted.cancelled() => return,
            hint = next_hint(hints.as_mut()) => {
                if hint.is_none() {
                    hints = None;
                }
                pause = soon;
            }
            () = stirred.notified() => is_time = false,
            () = sleep_until(beat_at) => is_time = false,
            () = sleep(pause) => pause = (pause * 2).min(poll_interval),
        }
        let Some(feed) = feed.upgrade() else { return };
        if is_time {
            drain(&mut hints);
            if look(&broker, &feed).await {
                pause = poll_interval;
            }
        }
        loop {
            if Instant::now() >= beat_at {
                feed.beat();
                beat_at = Instant::now() + PLACE_INTERVAL;
            }
            if !feed.wake_next() {
                break;
            }
            // Those that are woken write now; then it is seen what came meanwhile.
            yield_now().await;
            if drain(&mut hints) {
                pause = if look(&broker, &feed).await { poll_interval } else { soon };
            }
        }
    }
}

/// Whether there were hints; what they hint at, one look finds.
fn drain(hints: &mut Hints) -> bool {
    let mut is_hinted = false;
    while let Some(Some(Some(_))) = hints.as_mut().map(|hints| hints.next().now_or_never()) {
        is_hinted = true;
    }
    is_hinted
}

/// Reads to the end; whether there was anything.
async fn look(broker: &Broker, feed: &Arc<Feed>) -> bool {
    let (since, before) = (feed.begun(), feed.added());
    // A failure, the readers find where they look for the end.
    while feed.look(broker, since).await.is_ok() && !feed.has_looked(since) {}
    feed.added() != before
}

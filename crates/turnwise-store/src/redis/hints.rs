//! Hints between the nodes of a store, and at what time brings. Two tasks for a store, whatever it holds.

use super::codec::{self, Hints};
use super::config::{NAP_MAX, NAP_MIN, PAUSE_MAX, PAUSE_MIN};
use super::pool::Pool;
use super::scripts;
use super::{array, bytes};
use crate::hub::Hub;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use redis::Value;
use std::sync::Arc;
use tokio::sync::Notify;
use turnwise_core::limits::LIST_LIMIT_MAX;
use turnwise_core::{QueueName, Result, Timestamp};

/// Wakes the task that waits for the time when something falls due.
#[derive(Default)]
pub(super) struct Alarm {
    /// Until when it sleeps, on the store's clock.
    until: Mutex<Option<Timestamp>>,
    earlier: Notify,
}

impl Alarm {
    /// Something falls due then.
    pub(super) fn falls_due(&self, at: Timestamp) {
        if self.until.lock().is_some_and(|until| at < until) {
            self.earlier.notify_one();
        }
    }
}

/// Passes on what other nodes hint at, for as long as the store lives.
pub(super) async fn listen(pool: Arc<Pool>, hub: Arc<Hub>) {
    let mut pause = PAUSE_MIN;
    loop {
        let host = pool.host();
        match super::link::subscribe(pool.address(), &host, &pool.channel()).await {
            Ok(mut hints) => {
                pause = PAUSE_MIN;
                // What was hinted at before this is lost: whoever has something queued is looked at once.
                if let Ok(names) = queues(&pool).await {
                    hub.publish_queues(&names);
                }
                let mut messages = hints.on_message();
                while let Some(message) = messages.next().await {
                    pass_on(&pool, &hub, message.get_payload_bytes());
                }
            }
            Err(failure) => tracing::debug!(?failure, "no connection for hints; it is tried again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn pass_on(pool: &Pool, hub: &Hub, message: &[u8]) {
    match Hints::read(message) {
        // What this node did it hinted at itself, at once.
        Ok(hints) if hints.node == pool.node.as_bytes() => {}
        Ok(hints) => {
            hub.publish_queues(&hints.queues);
            hub.publish_topics(&hints.topics);
        }
        Err(error) => tracing::debug!(%error, "a hint that cannot be read"),
    }
}

async fn queues(pool: &Pool) -> Result<Vec<QueueName>> {
    let limit = LIST_LIMIT_MAX.to_string();
    let reply = pool.run(scripts::QUEUES, &["", limit.as_str()]).await?;
    array(reply.answer)?.into_iter().map(|name| codec::name(&bytes(name)?)).collect()
}

/// Hints when something falls due, for as long as the store lives.
pub(super) async fn watch_time(pool: Arc<Pool>, hub: Arc<Hub>, alarm: Arc<Alarm>) {
    loop {
        let nap = match look(&pool).await {
            Ok((now, next, names)) => {
                hub.publish_queues(&names);
                let nap = next.map_or(NAP_MAX, |next| next.since(now)).clamp(NAP_MIN, NAP_MAX);
                *alarm.until.lock() = Some(now.after(nap));
                nap
            }
            Err(_) => NAP_MAX,
        };
        let earlier = alarm.earlier.notified();
        let _ = tokio::time::timeout(nap, earlier).await;
    }
}

/// The time, when something falls due next, and the queues where something has.
async fn look(pool: &Pool) -> Result<(Timestamp, Option<Timestamp>, Vec<QueueName>)> {
    let nothing: [&str; 0] = [];
    let reply = pool.run(scripts::DUE, &nothing).await?;
    let mut parts = array(reply.answer)?.into_iter();
    let next = match parts.next().map(array).transpose()?.unwrap_or_default().first() {
        Some(Value::Int(at)) => Some(Timestamp(*at)),
        _ => None,
    };
    let names = parts.next().map(array).transpose()?.unwrap_or_default();
    let names = names.into_iter().map(|name| codec::name(&bytes(name)?)).collect::<Result<Vec<_>>>()?;
    Ok((reply.now, next, names))
}

//! Hints between the nodes of a store, and at what time brings. Two tasks for a store, whatever it holds.

use super::codec::{self, Hints};
use super::config::{NAP_MAX, NAP_MIN, PAUSE_MAX, PAUSE_MIN};
use super::pool::Pool;
use super::scripts;
use super::{array, bytes};
use crate::hub::Hub;
use futures_core::Stream;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use redis::{Msg, Value};
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
pub(super) async fn listen(pool: Arc<Pool>, hub: Arc<Hub>, missed: Arc<Notify>) {
    let mut pause = PAUSE_MIN;
    loop {
        let host = pool.host();
        match super::link::subscribe(pool.address(), &host, &pool.channel()).await {
            Ok(mut hints) => {
                pause = PAUSE_MIN;
                // What was hinted at before this is lost.
                wake_all(&pool, &hub).await;
                pass_on_until_broken(&pool, &hub, &missed, hints.on_message()).await;
            }
            Err(failure) => tracing::debug!(?failure, "no connection for hints; it is tried again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A connection that broke without a word is silent like one on which nothing happens: so it is asked for a sign.
async fn pass_on_until_broken(
    pool: &Pool,
    hub: &Hub,
    missed: &Notify,
    mut messages: impl Stream<Item = Msg> + Unpin,
) {
    let mut is_asked = false;
    loop {
        let heard = tokio::select! {
            heard = tokio::time::timeout(pool.silence_max, messages.next()) => heard,
            () = missed.notified() => {
                wake_all(pool, hub).await;
                continue;
            }
        };
        match heard {
            Ok(Some(message)) => {
                is_asked = false;
                pass_on(pool, hub, message.get_payload_bytes());
            }
            Err(_) if !is_asked => {
                is_asked = true;
                let sign = Hints::none(&pool.node);
                // Without an answer to this the silence goes on, too.
                let _ = pool.ask(redis::cmd("PUBLISH").arg(pool.channel()).arg(sign)).await;
            }
            Ok(None) | Err(_) => return,
        }
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

/// Whoever may have missed a hint looks for himself: who reads a topic, and every queue that holds something.
async fn wake_all(pool: &Pool, hub: &Hub) {
    hub.publish_watched();
    let limit = LIST_LIMIT_MAX.to_string();
    let mut after = Vec::new();
    loop {
        let arguments = [after.as_slice(), limit.as_bytes()];
        let told = pool.run(pool.call_timeout(), scripts::QUEUES, &arguments).await;
        let Ok(names) = told.and_then(|reply| names(reply.answer)) else { return };
        hub.publish_queues(&names);
        match names.last().filter(|_| names.len() == LIST_LIMIT_MAX as usize) {
            Some(last) => after = codec::name_bytes(last),
            None => return,
        }
    }
}

fn names(answer: Value) -> Result<Vec<QueueName>> {
    array(answer)?.into_iter().map(|name| codec::name(&bytes(name)?)).collect()
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
    let reply = pool.run(pool.call_timeout(), scripts::DUE, &nothing).await?;
    let mut parts = array(reply.answer)?.into_iter();
    let next = match parts.next().map(array).transpose()?.unwrap_or_default().first() {
        Some(Value::Int(at)) => Some(Timestamp(*at)),
        _ => None,
    };
    let names = parts.next().map(names).transpose()?.unwrap_or_default();
    Ok((reply.now, next, names))
}

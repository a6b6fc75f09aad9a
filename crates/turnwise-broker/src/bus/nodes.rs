//! Which nodes live. Each that has connections says so now and then; one that
//! has not for a while is gone, and its agents with it.

use super::record::{event, nodes_topic};
use crate::broker::Broker;
use crate::duty::Housekeeping;
use crate::limits::{BUS_PAGE, NODE_BEATS_MISSED};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use turnwise_core::{Event, Offset, Position, Read, ReadFrom, StoreError, Timestamp};

const BEAT: &str = "bus.beat";

#[derive(Serialize, Deserialize)]
struct BeatRecord {
    node: String,
}

/// The nodes of this store.
pub(super) struct Nodes {
    /// This one, for as long as it lives.
    pub(super) own: String,
    is_alone: bool,
    interval: Duration,
    seen: Mutex<HashMap<String, Timestamp>>,
    beat: tokio::sync::Mutex<Beat>,
    reading: tokio::sync::Mutex<Reading>,
}

#[derive(Default)]
struct Beat {
    at: Option<Instant>,
    /// Places of the last ones, so that old ones can go.
    offsets: Vec<Offset>,
}

#[derive(Default)]
struct Reading {
    at: Option<Instant>,
    position: Option<Position>,
}

impl Nodes {
    pub(super) fn new(own: u64, housekeeping: Housekeeping, interval: Duration) -> Nodes {
        Nodes {
            own: format!("{own:016x}"),
            is_alone: matches!(housekeeping, Housekeeping::Alone),
            interval,
            seen: Mutex::default(),
            beat: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Silence after which a node is gone.
    fn gone(&self) -> Duration {
        self.interval * NODE_BEATS_MISSED
    }

    /// No other node has the store.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Until when this node was there: none while it is.
    pub(super) fn gone_since(&self, node: &str, now: Timestamp) -> Option<Option<Timestamp>> {
        if node == self.own {
            return None;
        }
        match self.seen.lock().get(node) {
            Some(seen) if !self.is_alone && now.since(*seen) < self.gone() => None,
            seen => Some(seen.copied()),
        }
    }

    pub(super) fn lives(&self, node: &str, now: Timestamp) -> bool {
        self.gone_since(node, now).is_none()
    }

    /// Whether it was ever heard of.
    pub(super) fn knows(&self, node: &str) -> bool {
        self.is_alone || node == self.own || self.seen.lock().contains_key(node)
    }

    /// Says that this node lives, unless it has just done so.
    pub(super) async fn say(&self, broker: &Broker) -> Result<(), StoreError> {
        if self.is_alone {
            return Ok(());
        }
        let mut beat = self.beat.lock().await;
        if beat.at.is_some_and(|at| at.elapsed() < self.interval) {
            return Ok(());
        }
        let topic = nodes_topic()?;
        let now = Instant::now();
        let new = event(topic.clone(), BEAT, &BeatRecord { node: self.own.clone() }, None);
        for answer in broker.0.store.append(vec![new]).await? {
            beat.offsets.push(answer?.offset);
        }
        beat.at = Some(now);
        if beat.offsets.len() > BEATS_KEPT {
            let oldest = beat.offsets.remove(0);
            broker.0.store.trim(&topic, oldest).await?;
        }
        Ok(())
    }

    /// Hears of the others, unless that was just done.
    pub(super) async fn hear(&self, broker: &Broker, is_urgent: bool) -> Result<(), StoreError> {
        if self.is_alone {
            return Ok(());
        }
        let mut reading = self.reading.lock().await;
        if !is_urgent && reading.at.is_some_and(|at| at.elapsed() < self.interval) {
            return Ok(());
        }
        let topic = nodes_topic()?;
        let now = Instant::now();
        loop {
            let from = reading.position.map_or(ReadFrom::Earliest, ReadFrom::After);
            match broker.0.store.read(&topic, from, BUS_PAGE).await? {
                Read::Gap { resume } => reading.position = Some(resume),
                Read::Events { events, .. } if events.is_empty() => break,
                Read::Events { events, next } => {
                    reading.position = Some(next);
                    events.iter().for_each(|event| self.fold(event));
                }
            }
        }
        reading.at = Some(now);
        let now = broker.now();
        // Long gone: whoever was connected there is known to be offline by now.
        self.seen.lock().retain(|_, seen| now.since(*seen) < self.gone() * NODES_KEPT);
        Ok(())
    }

    fn fold(&self, event: &Event) {
        if let Ok(BeatRecord { node }) = serde_json::from_slice(&event.data)
            && event.event_type == BEAT
        {
            let mut seen = self.seen.lock();
            let at = seen.entry(node).or_insert(event.appended_at);
            *at = event.appended_at.max(*at);
        }
    }
}

/// Beats of this node that are left in the store.
const BEATS_KEPT: usize = 8;
/// How long nodes that are gone are remembered, in times of what makes them gone.
const NODES_KEPT: u32 = 240;

//! One agent's inbox on this node: its connections, and what they hold. Its
//! task claims while they have room, extends what they hold, and gives back
//! what those held that are gone.

use super::link::LinkState;
use super::message::BusMessageId;
use super::receipt::{self, Told};
use super::record::{COPY, CopyRecord, Envelope, Happened, raw};
use super::room::{Room, append_all};
use super::view::{BusClosed, BusDelivery, BusEvent, BusOutcome, BusSettled};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{INBOX_CLAIM_MAX, INBOX_POLL};
use crate::work::{WorkQueue, WorkReceipt};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use turnwise_core::{
    Claim, Delivery, Effect, Extended, NewEvent, Outcome, Receipt, Settled, Settlement, StoreError,
};

/// One agent here.
pub(super) struct Desk {
    pub(super) agent: String,
    pub(super) inbox: WorkQueue,
    links: Mutex<Vec<Arc<LinkState>>>,
    held: Mutex<HashMap<BusMessageId, Held>>,
    /// Those that are gone and hold something.
    leavers: Mutex<Vec<Arc<LinkState>>>,
    /// When a message that was put back comes again.
    due: Mutex<Option<Instant>>,
    pub(super) changed: Notify,
    /// Held until it is noted that what was handed out is delivered: its end is noted behind that.
    noting: tokio::sync::Mutex<()>,
}

/// A message in the hands of connections.
struct Held {
    delivery: Arc<BusDelivery>,
    lease: Receipt,
    max_attempts: u32,
    /// Which connections, and whether their readers have it.
    by: HashMap<u64, bool>,
    /// Another node extends it; it is forgotten after a while.
    copied_at: Option<Instant>,
}

impl Desk {
    pub(super) fn new(agent: &str, inbox: WorkQueue) -> Desk {
        Desk {
            agent: agent.to_owned(),
            inbox,
            links: Mutex::default(),
            held: Mutex::default(),
            leavers: Mutex::default(),
            due: Mutex::default(),
            changed: Notify::new(),
            noting: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn links(&self) -> Vec<Arc<LinkState>> {
        self.links.lock().clone()
    }

    /// Nobody is here, and nothing of those who were.
    pub(super) fn is_empty(&self) -> bool {
        self.links.lock().is_empty() && self.leavers.lock().is_empty()
    }

    /// A new connection; what those have that get everything it gets too.
    pub(super) fn add(&self, link: &Arc<LinkState>) {
        let mut links = self.links.lock();
        if link.is_for_all() {
            let mut held = self.held.lock();
            let all: BTreeSet<u64> =
                links.iter().filter(|own| own.is_for_all()).map(|own| own.number).collect();
            for held in held.values_mut().filter(|held| held.by.keys().any(|own| all.contains(own))) {
                held.by.insert(link.number, false);
                link.offer(BusEvent::Message(Arc::clone(&held.delivery)));
            }
        }
        links.push(Arc::clone(link));
        drop(links);
        self.changed.notify_one();
    }

    /// A connection is gone; false if it was before.
    pub(super) fn remove(&self, link: &Arc<LinkState>) -> bool {
        let mut links = self.links.lock();
        let before = links.len();
        links.retain(|own| own.number != link.number);
        let was_here = links.len() < before;
        if was_here {
            self.leavers.lock().push(Arc::clone(link));
        }
        was_here
    }

    /// The reader of a connection has a message now; false if it is settled already.
    pub(super) fn taken(&self, link: &LinkState, id: &BusMessageId) -> bool {
        let mut held = self.held.lock();
        let by = held.get_mut(id).and_then(|held| held.by.get_mut(&link.number));
        by.map(|taken| *taken = true).is_some()
    }

    /// A message that another node holds for all connections of the agent.
    pub(super) fn copy(&self, broker: &Broker, delivery: Arc<BusDelivery>, max_attempts: u32) {
        let kept = broker.0.config.agent_lease * COPIES_KEPT;
        let Some(lease) = delivery.receipt.for_queue(&self.inbox) else { return };
        let to: Vec<_> = self.links().into_iter().filter(|link| link.is_for_all()).collect();
        let mut held = self.held.lock();
        // Forgotten when its lease would be over: it comes again then.
        held.retain(|_, held| held.copied_at.is_none_or(|at| at.elapsed() < kept));
        if to.is_empty() || held.values().filter(|held| held.copied_at.is_some()).count() >= COPIES_MAX {
            return;
        }
        let by = to.iter().map(|link| (link.number, false)).collect();
        let id = delivery.message.id.clone();
        let copy = Held {
            delivery: Arc::clone(&delivery),
            lease,
            max_attempts,
            by,
            copied_at: Some(Instant::now()),
        };
        held.insert(id, copy);
        drop(held);
        for link in to {
            link.offer(BusEvent::Message(Arc::clone(&delivery)));
        }
    }
}

/// Messages held on another node that connections of this one are shown.
const COPIES_MAX: usize = 1_000;
/// For so many leases.
const COPIES_KEPT: u32 = 4;

/// Settling.
impl Desk {
    /// See [`super::link::LinkHandle::settle`].
    pub(super) async fn settle(
        &self,
        broker: &Broker,
        room: &Room,
        batch: Vec<(BusMessageId, BusOutcome)>,
    ) -> Result<Vec<BusSettled>, BrokerError> {
        let mut answers = vec![BusSettled::LeaseLost; batch.len()];
        let (mut places, mut settlements) = (Vec::new(), Vec::new());
        for (place, (id, outcome)) in batch.into_iter().enumerate() {
            let ended = self.held.lock().get(&id).map(|held| {
                let told = Told::of(&held.delivery.message, &self.agent);
                (held.lease.clone(), held.delivery.attempt, held.max_attempts, told)
            });
            let Some((lease, attempt, max_attempts, told)) = ended else { continue };
            let delay = match &outcome {
                BusOutcome::Nack { delay, .. } => Some(*delay),
                BusOutcome::Ack | BusOutcome::Reject { .. } => None,
            };
            settlements.push(settlement(broker, room, lease, told, outcome, attempt >= max_attempts)?);
            places.push((place, id, delay));
        }
        if settlements.is_empty() {
            return Ok(answers);
        }
        drop(self.noting.lock().await);
        let settled = broker.0.store.settle(settlements).await?;
        for ((place, id, delay), settled) in places.into_iter().zip(settled) {
            let answer = match settled {
                Ok(Settled::Done) => BusSettled::Done,
                Ok(Settled::LeaseLost) => BusSettled::LeaseLost,
                Err(error) => BusSettled::Failed(error),
            };
            if !matches!(answer, BusSettled::Failed(_)) {
                self.held.lock().remove(&id);
            }
            if let Some(delay) = delay {
                let again = Instant::now() + delay;
                let mut due = self.due.lock();
                *due = Some(due.map_or(again, |due| due.min(again)));
            }
            broker.0.bus.counts.settled(&answer);
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
        self.changed.notify_one();
        room.changed.notify_one();
        Ok(answers)
    }
}

/// The end of a lease, with what its sender is told of it in the same step.
pub(super) fn settlement(
    broker: &Broker,
    room: &Room,
    receipt: Receipt,
    told: Told,
    outcome: BusOutcome,
    is_last_attempt: bool,
) -> Result<Settlement, StoreError> {
    let said = |reason: Option<String>| reason.unwrap_or_else(|| "no reason was given".to_owned());
    let (outcome, happened) = match outcome {
        BusOutcome::Ack => (Outcome::Ack, Some(Happened::Acked)),
        BusOutcome::Nack { delay, reason } if !is_last_attempt => {
            (Outcome::Retry { delay, reason: said(reason) }, None)
        }
        BusOutcome::Nack { reason, .. } | BusOutcome::Reject { reason } => {
            let reason = said(reason);
            (Outcome::Dead { reason: reason.clone() }, Some(Happened::Failed { reason }))
        }
    };
    let effects = match happened {
        Some(happened) => receipt::effects(broker, room, told, happened)?,
        None => Vec::new(),
    };
    Ok(Settlement { receipt, outcome, effects })
}

/// Claiming.
impl Desk {
    /// Serves the connections of this agent until the last one is gone.
    pub(super) async fn run(self: Arc<Desk>, broker: Broker, room: Arc<Room>) {
        let seat = broker.0.work.bells.seat(self.inbox.queue());
        let closing = broker.0.bus.closing.clone();
        let lease = broker.0.config.agent_lease;
        let mut extended_at = Instant::now();
        loop {
            self.release_leavers(&broker, &room).await;
            if room.clear(&self) {
                return;
            }
            if extended_at.elapsed() >= lease / 3 {
                extended_at = Instant::now();
                self.extend(&broker).await;
            }
            let limit = self.free();
            let mut pause = Instant::now() + INBOX_POLL;
            if limit > 0 {
                seat.asked();
                match self.claim(&broker, &room, limit).await {
                    Ok(found) if found >= limit => continue,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an inbox waits for the store");
                        pause = Instant::now() + broker.0.config.poll_interval;
                    }
                }
            }
            let due = self.due.lock().take_if(|due| *due <= pause).unwrap_or(pause);
            let wake = due.min(extended_at + lease / 3);
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.close(&broker, &room).await,
                () = self.changed.notified() => self.put_back_due(due, pause),
                () = sleep_until(wake) => self.put_back_due(due, pause),
                () = seat.woken(INBOX_POLL), if limit > 0 => self.put_back_due(due, pause),
            }
        }
    }

    /// A time that has not come yet is waited for again.
    fn put_back_due(&self, due: Instant, pause: Instant) {
        if due < pause && due > Instant::now() {
            let mut next = self.due.lock();
            *next = Some(next.map_or(due, |next| next.min(due)));
        }
    }

    /// How many messages the connections have room for: each of those that get everything, and those that share
    /// together.
    fn free(&self) -> u32 {
        let links = self.links();
        let held = self.held.lock();
        let of = |link: &LinkState| {
            let own =
                held.values().filter(|held| held.copied_at.is_none() && held.by.contains_key(&link.number));
            let own = u32::try_from(own.count()).unwrap_or(u32::MAX);
            if link.is_behind() { 0 } else { link.window.saturating_sub(own) }
        };
        let all = links.iter().filter(|link| link.is_for_all()).map(|link| of(link)).min();
        let sharing = links.iter().filter(|link| !link.is_for_all()).map(|link| of(link));
        let sharing = sharing.reduce(u32::saturating_add);
        all.into_iter().chain(sharing).min().unwrap_or(0).min(INBOX_CLAIM_MAX)
    }

    async fn claim(&self, broker: &Broker, room: &Room, limit: u32) -> Result<u32, StoreError> {
        // The lease dies with this process: nobody else settles it before.
        let ask = Claim {
            queue: self.inbox.queue().clone(),
            limit,
            lease: broker.0.config.agent_lease,
            durable: false,
        };
        let found = broker.0.store.claim(ask).await?;
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let _noting = self.noting.lock().await;
        let mut news = Vec::new();
        for delivery in found {
            news.extend(self.hand_out(broker, room, delivery)?);
        }
        if let Err(error) = append_all(broker, news).await {
            tracing::debug!(%error, "that messages were delivered is not noted");
        }
        room.changed.notify_one();
        Ok(count)
    }

    /// Gives a message to the connections that are to have it; what is to be noted of it.
    fn hand_out(&self, broker: &Broker, room: &Room, found: Delivery) -> Result<Vec<NewEvent>, StoreError> {
        let Some(envelope) = Envelope::read(&found.headers) else { return Ok(Vec::new()) };
        let max_attempts = envelope.max_attempts;
        let receipt = WorkReceipt::new(&self.inbox, &found.receipt, found.attempt);
        let copy = room.with_agent(&self.agent, |agent| {
            let own = &broker.0.bus.nodes.own;
            agent.is_some_and(|agent| agent.links.values().any(|place| place.all && place.node != *own))
        });
        let copy = copy.then(|| envelope.clone()).zip(raw(&found.payload));
        let delivery = Arc::new(BusDelivery {
            message: Arc::new(envelope.message(found.payload)),
            receipt,
            attempt: found.attempt,
            lease_expires_at: found.expires_at,
        });
        let mut events =
            receipt::events(broker, room, Told::of(&delivery.message, &self.agent), Happened::Delivered)?;
        let to = self.recipients();
        let is_for_all = to.iter().any(|link| link.is_for_all());
        let held = Held {
            delivery: Arc::clone(&delivery),
            lease: found.receipt,
            max_attempts,
            by: to.iter().map(|link| (link.number, false)).collect(),
            copied_at: None,
        };
        self.held.lock().insert(delivery.message.id.clone(), held);
        for link in &to {
            link.offer(BusEvent::Message(Arc::clone(&delivery)));
        }
        broker.0.bus.counts.delivered.one();
        if let Some((envelope, content)) = copy.filter(|_| is_for_all) {
            let record = CopyRecord {
                to: self.agent.clone(),
                node: broker.0.bus.nodes.own.clone(),
                receipt: receipt.to_string(),
                attempt: found.attempt,
                lease_expires_at: found.expires_at.0,
                envelope,
                content,
            };
            events.push(room.tell(COPY, &record));
        }
        Ok(events)
    }

    /// All that get everything, and of those that share the one with the most room.
    fn recipients(&self) -> Vec<Arc<LinkState>> {
        let (mut to, sharing): (Vec<_>, Vec<_>) =
            self.links().into_iter().partition(|link| link.is_for_all());
        let held = self.held.lock();
        let holds = |link: &Arc<LinkState>| {
            let own = held.values().filter(|held| held.by.contains_key(&link.number)).count();
            (link.is_behind(), own >= link.window as usize, own)
        };
        to.extend(sharing.into_iter().min_by_key(holds));
        to
    }

    async fn extend(&self, broker: &Broker) {
        let own: Vec<(BusMessageId, Receipt)> = {
            let held = self.held.lock();
            let own = held.iter().filter(|(_, held)| held.copied_at.is_none());
            own.map(|(id, held)| (id.clone(), held.lease.clone())).collect()
        };
        for page in own.chunks(turnwise_core::limits::BATCH_ITEMS_MAX) {
            let leases = page.iter().map(|(_, lease)| lease.clone()).collect();
            match broker.0.store.extend(leases, broker.0.config.agent_lease).await {
                Ok(answers) => {
                    for ((id, lease), answer) in page.iter().zip(answers) {
                        if matches!(answer, Ok(Extended::LeaseLost)) {
                            self.held.lock().retain(|own, held| own != id || held.lease != *lease);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "leases of an inbox may run out"),
            }
        }
    }
}

/// Leaving.
impl Desk {
    /// Gives back what only those held that are gone.
    async fn release_leavers(&self, broker: &Broker, room: &Room) {
        let leavers = std::mem::take(&mut *self.leavers.lock());
        if leavers.is_empty() {
            return;
        }
        let gone: BTreeSet<u64> = leavers.iter().map(|link| link.number).collect();
        let mut back = Vec::new();
        self.held.lock().retain(|_, held| {
            let mut was_taken = false;
            held.by.retain(|number, taken| {
                let stays = !gone.contains(number);
                was_taken |= !stays && *taken;
                stays
            });
            let is_kept = !held.by.is_empty();
            if !is_kept && held.copied_at.is_none() {
                back.push((held.lease.clone(), was_taken, held.delivery.clone(), held.max_attempts));
            }
            is_kept
        });
        self.give_back(broker, room, back).await;
        leavers.iter().for_each(|link| link.is_released.cancel());
    }

    async fn give_back(
        &self,
        broker: &Broker,
        room: &Room,
        back: Vec<(Receipt, bool, Arc<BusDelivery>, u32)>,
    ) {
        let mut settlements = Vec::new();
        for (lease, was_taken, delivery, max_attempts) in back {
            let told = Told::of(&delivery.message, &self.agent);
            let outcome = BusOutcome::Nack { delay: Duration::ZERO, reason: Some(LEFT.to_owned()) };
            let is_last = delivery.attempt >= max_attempts;
            let made = match was_taken {
                true => settlement(broker, room, lease, told, outcome, is_last),
                false => Ok(Settlement {
                    receipt: lease,
                    outcome: Outcome::Release,
                    effects: Vec::<Effect>::new(),
                }),
            };
            settlements.extend(made);
        }
        if settlements.is_empty() {
            return;
        }
        if let Err(error) = broker.0.store.settle(settlements).await {
            tracing::debug!(%error, "what a connection held comes again when its lease is over");
        }
    }

    /// The node stops.
    async fn close(&self, broker: &Broker, room: &Room) {
        for link in self.links() {
            link.close(BusClosed::GoingAway);
            self.leavers.lock().push(link);
        }
        self.release_leavers(broker, room).await;
    }
}

const LEFT: &str = "the connection closed before it was acknowledged";

//! Handing news of turns over inside this node. A convenience: whoever misses
//! a signal finds the same in the store, a poll later.

use crate::limits::{FRESH_MAX, HANDED_OVER_BYTES_MAX, OVER_MAX, SIGNALS_KEPT};
use crate::turn::TurnEnd;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;
use turnwise_core::{Epoch, Event, MessageId, OrderingKey, Timestamp};

/// News of one turn.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Handed to dispatch.
    Leased,
    /// Events of its answer are stored.
    Appended(Arc<Appended>),
    /// The same, but they are too long to keep for listeners: the store has them.
    News,
    /// It is over.
    Ended(Arc<TurnEnd>),
}

/// Events stored in one step, one after the other.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) epoch: Epoch,
    pub(crate) events: Vec<Event>,
}

/// What this node knows of a turn it has accepted.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) org: String,
    pub(crate) user: String,
    pub(crate) key: OrderingKey,
    pub(crate) accepted_at: Timestamp,
}

#[derive(Clone)]
pub(crate) struct Local(Arc<Mutex<State>>);

struct State {
    listeners: HashMap<MessageId, broadcast::Sender<Signal>>,
    /// Accepted by this node and not known to be over.
    fresh: Bounded<Arc<Fresh>>,
    /// Over, and not known as accepted by this node. Dispatch may be done
    /// before the submission's own task goes on.
    over: Bounded<()>,
}

impl Default for Local {
    fn default() -> Local {
        let state =
            State { listeners: HashMap::new(), fresh: Bounded::new(FRESH_MAX), over: Bounded::new(OVER_MAX) };
        Local(Arc::new(Mutex::new(state)))
    }
}

impl Local {
    /// Notes a turn this node has just stored; false if it is over already.
    pub(crate) fn accepted(&self, id: MessageId, fresh: Fresh) -> bool {
        let mut state = self.0.lock();
        if state.over.remove(&id).is_some() {
            return false;
        }
        state.fresh.insert(fresh.accepted_at, id, Arc::new(fresh));
        true
    }

    /// What is known of a turn that was accepted here and is surely not long over.
    pub(crate) fn fresh(&self, id: MessageId) -> Option<Arc<Fresh>> {
        self.0.lock().fresh.get(&id).cloned()
    }

    /// Forgets what was noted before then: turns that ended by time alone, above all.
    pub(crate) fn forget_before(&self, then: Timestamp) {
        let mut state = self.0.lock();
        state.fresh.forget_before(then);
        state.over.forget_before(then);
    }

    /// How many turns are listened to, and remembered in either way.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 3] {
        let State { listeners, fresh, over } = &*self.0.lock();
        [
            ("turns listened to", listeners.len()),
            ("fresh turns", fresh.items.len()),
            ("turns over", over.items.len()),
        ]
    }

    pub(crate) fn leased(&self, id: MessageId) {
        self.tell(id, || Signal::Leased);
    }

    /// Events of the turn with so many bytes were stored in one step. They are
    /// only made if somebody listens, and only handed over if they are short.
    pub(crate) fn appended(&self, id: MessageId, bytes: usize, appended: impl FnOnce() -> Appended) {
        self.tell(id, || match bytes {
            short if short <= HANDED_OVER_BYTES_MAX => Signal::Appended(Arc::new(appended())),
            _ => Signal::News,
        });
    }

    fn tell(&self, id: MessageId, signal: impl FnOnce() -> Signal) {
        if let Some(listeners) = self.0.lock().listeners.get(&id) {
            let _nobody_left = listeners.send(signal());
        }
    }

    /// Tells those who listen; whether the turn was known as accepted here.
    pub(crate) fn ended(&self, id: MessageId, end: TurnEnd) -> bool {
        let mut state = self.0.lock();
        let accepted_here = state.fresh.remove(&id).is_some();
        if !accepted_here {
            state.over.insert(end.finished_at, id, ());
        }
        if let Some(listeners) = state.listeners.get(&id) {
            let _nobody_left = listeners.send(Signal::Ended(Arc::new(end)));
        }
        accepted_here
    }

    /// Listens to a turn; also whether it surely had not ended on this node
    /// when listening began.
    pub(crate) fn listen(&self, id: MessageId) -> (Listener, bool) {
        let mut state = self.0.lock();
        let fresh = state.fresh.get(&id).is_some();
        let sender = state.listeners.entry(id).or_insert_with(|| broadcast::channel(SIGNALS_KEPT).0);
        let receiver = Some(sender.subscribe());
        (Listener { id, receiver, local: self.clone() }, fresh)
    }
}

/// Forgotten with its last drop.
pub(crate) struct Listener {
    id: MessageId,
    receiver: Option<broadcast::Receiver<Signal>>,
    local: Local,
}

impl Listener {
    /// The next signal. Pending for ever when there is none: use a timeout.
    pub(crate) async fn next(&mut self) -> Signal {
        if let Some(receiver) = &mut self.receiver {
            loop {
                match receiver.recv().await {
                    Ok(signal) => return signal,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        }
        std::future::pending().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.receiver = None;
        let mut state = self.local.0.lock();
        if state.listeners.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            state.listeners.remove(&self.id);
        }
    }
}

/// Keeps the latest so many turns.
struct Bounded<T> {
    items: HashMap<MessageId, T>,
    order: VecDeque<(Timestamp, MessageId)>,
    max: usize,
}

impl<T> Bounded<T> {
    fn new(max: usize) -> Bounded<T> {
        Bounded { items: HashMap::new(), order: VecDeque::new(), max }
    }

    fn insert(&mut self, at: Timestamp, id: MessageId, item: T) {
        if self.items.insert(id, item).is_none() {
            self.order.push_back((at, id));
        }
        while self.order.len() > self.max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.order.pop_front() {
            self.items.remove(&oldest);
        }
    }

    fn forget_before(&mut self, then: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| *at < then) {
            self.forget_oldest();
        }
    }

    fn get(&self, id: &MessageId) -> Option<&T> {
        self.items.get(id)
    }

    fn remove(&mut self, id: &MessageId) -> Option<T> {
        self.items.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::TurnState;
    use bytes::Bytes;

    fn fresh() -> Fresh {
        Fresh {
            org: "acme".into(),
            user: "ann".into(),
            key: OrderingKey(Bytes::from_static(b"k")),
            accepted_at: Timestamp(0),
        }
    }

    fn end() -> TurnEnd {
        TurnEnd { state: TurnState::Completed, answer: None, error: None, finished_at: Timestamp(0) }
    }

    #[test]
    fn a_turn_that_ended_before_it_was_known_as_accepted_is_not_fresh() {
        let local = Local::default();
        let (early, late) = (MessageId::new(1, 1), MessageId::new(2, 2));
        local.ended(early, end());
        local.accepted(early, fresh());
        local.accepted(late, fresh());
        assert!(!local.listen(early).1);
        assert!(local.listen(late).1);
        local.ended(late, end());
        assert!(!local.listen(late).1);
    }

    #[tokio::test]
    async fn long_events_are_not_kept_for_listeners() {
        let local = Local::default();
        let id = MessageId::new(1, 1);
        let mut listener = local.listen(id).0;
        let none = || Appended { epoch: Epoch(1), events: Vec::new() };
        local.appended(id, HANDED_OVER_BYTES_MAX, none);
        local.appended(id, HANDED_OVER_BYTES_MAX + 1, || unreachable!("not even made"));
        assert!(matches!(listener.next().await, Signal::Appended(_)));
        assert!(matches!(listener.next().await, Signal::News));
    }

    #[test]
    fn only_so_many_turns_are_remembered() {
        let mut kept = Bounded::new(2);
        for n in 1..=3 {
            kept.insert(Timestamp(n as i64), MessageId::new(n, 0), n);
        }
        assert_eq!(kept.get(&MessageId::new(1, 0)), None);
        assert_eq!(kept.remove(&MessageId::new(3, 0)), Some(3));
        assert_eq!(kept.get(&MessageId::new(2, 0)), Some(&2));
        kept.forget_before(Timestamp(2));
        assert_eq!(kept.get(&MessageId::new(2, 0)), Some(&2));
        kept.forget_before(Timestamp(3));
        assert!(kept.items.is_empty());
    }
}

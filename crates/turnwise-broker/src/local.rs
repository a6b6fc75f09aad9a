//! Handing news of turns over inside this node. A convenience: whoever misses
//! a signal finds the same in the store, a poll later.

use crate::limits::{FRESH_MAX, SIGNALS_KEPT};
use crate::turn::TurnEnd;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;
use turnwise_core::MessageId;

/// News of one turn.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Handed to dispatch.
    Leased,
    /// It is over.
    Ended(Arc<TurnEnd>),
}

#[derive(Clone, Default)]
pub(crate) struct Local(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listeners: HashMap<MessageId, broadcast::Sender<Signal>>,
    /// Accepted by this node and not known to be over.
    fresh: HashSet<MessageId>,
    fresh_order: VecDeque<MessageId>,
}

impl Local {
    /// Notes a turn this node has just stored.
    pub(crate) fn accepted(&self, id: MessageId) {
        let mut state = self.0.lock();
        if state.fresh.insert(id) {
            state.fresh_order.push_back(id);
        }
        while state.fresh_order.len() > FRESH_MAX {
            if let Some(oldest) = state.fresh_order.pop_front() {
                state.fresh.remove(&oldest);
            }
        }
    }

    pub(crate) fn leased(&self, id: MessageId) {
        if let Some(listeners) = self.0.lock().listeners.get(&id) {
            let _nobody_left = listeners.send(Signal::Leased);
        }
    }

    pub(crate) fn ended(&self, id: MessageId, end: impl FnOnce() -> TurnEnd) {
        let mut state = self.0.lock();
        state.fresh.remove(&id);
        if let Some(listeners) = state.listeners.get(&id) {
            let _nobody_left = listeners.send(Signal::Ended(Arc::new(end())));
        }
    }

    /// Listens to a turn; also whether it surely had not ended on this node
    /// when listening began.
    pub(crate) fn listen(&self, id: MessageId) -> (Listener, bool) {
        let mut state = self.0.lock();
        let fresh = state.fresh.contains(&id);
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

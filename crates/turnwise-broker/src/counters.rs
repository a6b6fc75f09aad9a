//! What this node keeps in memory about all conversations: the counters that
//! `health` answers from, and who takes part in which group. Never needed to be right.

use crate::conversation::Conversation;
use crate::limits::{CONVERSATIONS_LISTED_MAX, GROUPS_MAX};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use turnwise_core::{OrderingKey, Timestamp};

/// A conversation over all orgs.
pub(crate) type Lane = (String, OrderingKey);

#[derive(Default)]
pub(crate) struct Lanes {
    /// Conversations that hold turns, each with how many of them were counted.
    pub(crate) active: BTreeMap<Lane, u32>,
    /// The active one looked at last without a reason.
    looked_at: Option<Lane>,
    /// Active ones in which a turn has ended: to be looked up.
    pub(crate) maybe_idle: BTreeSet<Lane>,
    /// Those that were there before this node started are counted too.
    pub(crate) complete: bool,
}

/// What `health` answers from.
pub(crate) struct Counters {
    pub(crate) store_ok: AtomicBool,
    pub(crate) processing: AtomicU64,
    /// Turns that wait or run: as counted last, and what came and went since.
    pub(crate) held: AtomicU64,
    /// The same of each org that holds any.
    held_by_org: Mutex<HashMap<String, u64>>,
    pub(crate) lanes: Mutex<Lanes>,
    /// Ended turns kept, at most: counted, and those that ended since.
    pub(crate) ended_kept: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            store_ok: AtomicBool::new(true),
            processing: AtomicU64::new(0),
            held: AtomicU64::new(0),
            held_by_org: Mutex::default(),
            lanes: Mutex::default(),
            ended_kept: AtomicU64::new(0),
        }
    }
}

impl Lanes {
    /// The next few active conversations, round and round. A turn that the store ended by itself, because its
    /// time was over, marks nothing.
    pub(crate) fn next_few(&mut self, count: usize) -> Vec<Lane> {
        let start = self.looked_at.take().map_or(Bound::Unbounded, Bound::Excluded);
        let few: Vec<Lane> =
            self.active.range((start, Bound::Unbounded)).take(count).map(|(lane, _)| lane.clone()).collect();
        self.looked_at = few.last().filter(|_| few.len() == count).cloned();
        few
    }
}

impl Counters {
    /// A turn was stored.
    pub(crate) fn accepted(&self, org: &str, key: OrderingKey) {
        self.held.fetch_add(1, Ordering::Relaxed);
        *self.held_by_org.lock().entry(org.to_owned()).or_default() += 1;
        *self.lanes.lock().active.entry((org.to_owned(), key)).or_default() += 1;
    }

    /// A turn was handed out; it may not be counted yet.
    pub(crate) fn claimed(&self, org: &str, key: OrderingKey) {
        self.lanes.lock().active.entry((org.to_owned(), key)).or_default();
    }

    /// A turn has ended; `counted` if it surely was.
    pub(crate) fn ended(&self, org: &str, key: OrderingKey, counted: bool) {
        let one_less = |held: u64| Some(held.saturating_sub(1));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if let Some(held) = self.held_by_org.lock().get_mut(org) {
            *held = held.saturating_sub(1);
        }
        let lane = (org.to_owned(), key);
        let mut lanes = self.lanes.lock();
        let left = match lanes.active.get_mut(&lane) {
            Some(turns) => {
                *turns = turns.saturating_sub(u32::from(counted));
                *turns
            }
            None => 0,
        };
        if left == 0 && lanes.complete {
            lanes.active.remove(&lane);
        } else {
            lanes.maybe_idle.insert(lane);
        }
    }

    /// A turn was found in the store. Looked at once more: it may have ended
    /// meanwhile, or have been counted when it was accepted.
    pub(crate) fn found(&self, org: &str, key: OrderingKey) {
        let lane = (org.to_owned(), key);
        let mut lanes = self.lanes.lock();
        lanes.maybe_idle.insert(lane.clone());
        *lanes.active.entry(lane).or_default() += 1;
    }

    /// All that the store held when this node started was found.
    pub(crate) fn complete(&self) {
        self.lanes.lock().complete = true;
    }

    /// Counted anew: what the store holds of each org.
    pub(crate) fn hold(&self, by_org: HashMap<String, u64>) {
        let all = by_org.values().fold(0, |all: u64, held| all.saturating_add(*held));
        self.held.store(all, Ordering::Relaxed);
        *self.held_by_org.lock() = by_org;
    }

    /// Turns of an org that wait or run.
    pub(crate) fn held_of(&self, org: &str) -> u64 {
        self.held_by_org.lock().get(org).copied().unwrap_or(0)
    }

    pub(crate) fn one_more_ended(&self) {
        self.ended_kept.fetch_add(1, Ordering::Relaxed);
    }
}

/// Group conversations a user has turns in, as far as this node saw them.
#[derive(Default)]
pub(crate) struct Groups(Mutex<GroupState>);

#[derive(Default)]
struct GroupState {
    /// The groups of each, with the time of the newest turn.
    by_user: HashMap<Owner, BTreeMap<GroupName, Timestamp>>,
    /// Each of them, by the time at which it was last looked at.
    order: VecDeque<(Timestamp, Owner, GroupName)>,
}

/// A user of an org.
type Owner = (String, String);
type GroupName = (String, Option<String>);

impl Groups {
    pub(crate) fn note(&self, now: Timestamp, org: &str, user: &str, conversation: &Conversation) {
        let Conversation::Group { chat, thread } = conversation else {
            return;
        };
        let mut state = self.0.lock();
        let name = (chat.clone(), thread.clone());
        let owner = (org.to_owned(), user.to_owned());
        if state.by_user.entry(owner.clone()).or_default().insert(name.clone(), now).is_none() {
            state.order.push_back((now, owner, name));
        }
        while state.order.len() > GROUPS_MAX {
            if let Some((_, owner, name)) = state.order.pop_front() {
                state.remove(owner, &name);
            }
        }
    }

    /// Forgets those without a turn since then.
    pub(crate) fn forget_before(&self, then: Timestamp) {
        let mut state = self.0.lock();
        while state.order.front().is_some_and(|(at, ..)| *at < then)
            && let Some((_, owner, name)) = state.order.pop_front()
        {
            match state.by_user.get(&owner).and_then(|names| names.get(&name)).copied() {
                Some(newest) if newest >= then => state.order.push_back((newest, owner, name)),
                Some(_) | None => state.remove(owner, &name),
            }
        }
    }

    /// How many are remembered, in each way.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 2] {
        let GroupState { by_user, order } = &*self.0.lock();
        [("users with groups", by_user.len()), ("groups in order", order.len())]
    }

    pub(crate) fn of(&self, org: &str, user: &str) -> Vec<Conversation> {
        let state = self.0.lock();
        let names = state.by_user.get(&(org.to_owned(), user.to_owned()));
        let conversation =
            |(chat, thread): &GroupName| Conversation::Group { chat: chat.clone(), thread: thread.clone() };
        names.into_iter().flat_map(BTreeMap::keys).take(CONVERSATIONS_LISTED_MAX).map(conversation).collect()
    }

    pub(crate) fn forget(&self, org: &str, user: &str, conversation: &Conversation) {
        if let Conversation::Group { chat, thread } = conversation {
            let name = (chat.clone(), thread.clone());
            self.0.lock().remove((org.to_owned(), user.to_owned()), &name);
        }
    }
}

impl GroupState {
    fn remove(&mut self, owner: (String, String), name: &GroupName) {
        if let Some(names) = self.by_user.get_mut(&owner) {
            names.remove(name);
            if names.is_empty() {
                self.by_user.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_turn_that_ended_before_it_was_counted_leaves_nothing_behind() {
        let key = || OrderingKey(Bytes::from_static(b"k"));
        let counters = Counters::default();
        counters.complete();
        counters.claimed("acme", key());
        counters.ended("acme", key(), false);
        counters.accepted("acme", key());
        counters.ended("acme", key(), true);
        assert!(counters.lanes.lock().active.is_empty());
    }
}

//! How much the queues hold, as last counted, so that no question to the store
//! stands before a new message; and at what rates messages come and go.

use super::{Work, WorkPolicy, WorkQueue};
use crate::config::BrokerConfig;
use crate::limits::{QUEUE_AT_REST, QUEUES_COUNTED_A_ROUND, RATE_WINDOW};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use turnwise_core::{Depth, QueueName, Store, StoreError, Timestamp};

/// What there is no more room for; nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkFull {
    /// The queue holds so many messages, which is what its policy allows.
    QueueMessages(u64),
    /// All queues together hold so many messages.
    Messages(u64),
    /// Those of the organisation hold so many.
    OrgMessages(u64),
    /// The organisation has so many queues that hold messages, and this would be one more.
    Queues(u64),
    /// Policies or pauses are set for so many queues of the organisation.
    SetQueues(u64),
}

/// What was counted of one queue, and what was stored since.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    stages: [u64; 4],
    stored_since: u64,
    /// When it last held something.
    held_at: Option<Timestamp>,
    earlier: Option<Sample>,
    last: Option<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    enqueued: u64,
    acked: u64,
}

impl Sample {
    fn of(at: Timestamp, depth: &Depth) -> Sample {
        Sample { at, enqueued: depth.enqueued, acked: depth.acked }
    }

    /// Stored and acknowledged a second since then; none if no time has passed.
    fn rates_until(self, now: Sample) -> Option<(f64, f64)> {
        let seconds = now.at.since(self.at).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (seconds > 0.0).then(|| (rate(self.enqueued, now.enqueued), rate(self.acked, now.acked)))
    }
}

impl Level {
    fn held(&self) -> u64 {
        self.stages.iter().sum::<u64>().saturating_add(self.stored_since)
    }

    fn counted(&mut self, now: Timestamp, depth: &Depth) {
        self.stages = [depth.ready, depth.scheduled, depth.leased, depth.dead];
        if self.held() > 0 {
            self.held_at = Some(now);
        }
        self.stored_since = 0;
        let sample = Sample::of(now, depth);
        // A clock that stepped back, or a store that counts anew, begins again.
        let goes_on = |last: &Sample| last.at <= now && last.enqueued <= sample.enqueued;
        self.last = self.last.filter(goes_on);
        self.earlier = self.earlier.filter(goes_on);
        if self.last.is_none_or(|last| now.since(last.at) >= RATE_WINDOW) {
            self.earlier = self.last.replace(sample);
        }
    }
}

/// What all queues hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(super) ready: u64,
    pub(super) scheduled: u64,
    pub(super) leased: u64,
    pub(super) dead: u64,
    pub(super) queues: u64,
}

/// Each queue that held messages when it was last looked at.
#[derive(Default)]
pub(crate) struct Levels(Mutex<State>);

#[derive(Default)]
struct State {
    by_queue: BTreeMap<QueueName, Level>,
    by_org: HashMap<String, (u64, u64)>,
    held: u64,
    /// The last one that was counted.
    counted_to: Option<QueueName>,
}

impl State {
    fn add_up(&mut self) {
        self.held = 0;
        self.by_org.clear();
        for (queue, level) in &self.by_queue {
            let held = level.held();
            self.held = self.held.saturating_add(held);
            let (messages, queues) = self.by_org.entry(queue.org().to_owned()).or_default();
            *messages = messages.saturating_add(held);
            *queues += 1;
        }
    }
}

impl Levels {
    /// What there is no room for, if so many more are to be stored in a queue.
    pub(super) fn full_for(
        &self,
        config: &BrokerConfig,
        policy: &WorkPolicy,
        queue: &WorkQueue,
        more: u64,
    ) -> Option<WorkFull> {
        let state = self.0.lock();
        let own = state.by_queue.get(&queue.0).map_or(0, Level::held);
        if let Some(most) = policy.messages_max
            && own.saturating_add(more) > most
        {
            return Some(WorkFull::QueueMessages(most));
        }
        let (messages, queues) = state.by_org.get(queue.org()).copied().unwrap_or_default();
        if state.held.saturating_add(more) > config.queue_messages_max {
            return Some(WorkFull::Messages(config.queue_messages_max));
        }
        if messages.saturating_add(more) > config.org_queue_messages_max {
            return Some(WorkFull::OrgMessages(config.org_queue_messages_max));
        }
        let is_new = !state.by_queue.contains_key(&queue.0);
        (is_new && queues >= config.org_queues_max).then_some(WorkFull::Queues(config.org_queues_max))
    }

    /// So many were stored.
    pub(super) fn stored(&self, queue: &WorkQueue, more: u64) {
        let mut state = self.0.lock();
        let is_new = !state.by_queue.contains_key(&queue.0);
        let level = state.by_queue.entry(queue.0.clone()).or_default();
        level.stored_since = level.stored_since.saturating_add(more);
        state.held = state.held.saturating_add(more);
        let (messages, queues) = state.by_org.entry(queue.org().to_owned()).or_default();
        *messages = messages.saturating_add(more);
        *queues += u64::from(is_new);
    }

    pub(super) fn sums(&self) -> Sums {
        let state = self.0.lock();
        let mut sums = Sums { queues: state.by_queue.len() as u64, ..Sums::default() };
        for level in state.by_queue.values() {
            let [ready, scheduled, leased, dead] = level.stages;
            sums.ready = sums.ready.saturating_add(ready).saturating_add(level.stored_since);
            sums.scheduled = sums.scheduled.saturating_add(scheduled);
            sums.leased = sums.leased.saturating_add(leased);
            sums.dead = sums.dead.saturating_add(dead);
        }
        sums
    }

    /// Messages stored and acknowledged a second, until now; none if this node has not watched for long enough.
    pub(super) fn rates(&self, queue: &WorkQueue, now: Timestamp, depth: &Depth) -> Option<(f64, f64)> {
        let level = self.0.lock().by_queue.get(&queue.0).copied()?;
        let from = level.earlier.or(level.last)?;
        from.rates_until(Sample::of(now, depth))
    }

    /// Queues that held dead letters.
    pub(crate) fn with_dead(&self) -> Vec<QueueName> {
        let state = self.0.lock();
        let dead = state.by_queue.iter().filter(|(_, level)| level.stages[3] > 0);
        dead.map(|(queue, _)| queue.clone()).collect()
    }
}

impl Work {
    /// Counts anew, a limited number of queues. `listed` are those that hold messages.
    pub(crate) async fn count(
        &self,
        store: &dyn Store,
        now: Timestamp,
        listed: Vec<QueueName>,
    ) -> Result<(), StoreError> {
        for queue in self.levels.next_to_count(now, listed) {
            let depth = store.depth(&queue).await?;
            let mut state = self.levels.0.lock();
            state.by_queue.entry(queue.clone()).or_default().counted(now, &depth);
            state.counted_to = Some(queue);
        }
        self.levels.0.lock().add_up();
        Ok(())
    }
}

impl Levels {
    /// Forgets what is at rest, and answers whose turn it is to be counted.
    fn next_to_count(&self, now: Timestamp, listed: Vec<QueueName>) -> Vec<QueueName> {
        let mut state = self.0.lock();
        for queue in listed {
            state.by_queue.entry(queue).or_default().held_at = Some(now);
        }
        // What was stored while the list was made is not forgotten: it is not counted yet.
        let is_at_rest =
            |level: &Level| level.held_at.is_none_or(|at| at > now || now.since(at) >= QUEUE_AT_REST);
        state.by_queue.retain(|_, level| level.stored_since > 0 || !is_at_rest(&*level));
        let is_behind = |queue: &&QueueName| state.counted_to.as_ref().is_none_or(|last| *queue > last);
        let behind = state.by_queue.keys().filter(is_behind);
        let before = state.by_queue.keys().filter(|queue| !is_behind(queue));
        behind.chain(before).take(QUEUES_COUNTED_A_ROUND).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    fn depth(ready: u64, enqueued: u64, acked: u64) -> Depth {
        Depth { ready, enqueued, acked, ..Depth::default() }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let levels = Levels::default();
        let queue = WorkQueue::new("o", "q").unwrap();
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let count = |seconds: i64, depth: Depth| {
            levels.0.lock().by_queue.entry(queue.0.clone()).or_default().counted(at(seconds), &depth);
        };
        count(0, depth(0, 0, 0));
        assert_eq!(levels.rates(&queue, at(0), &depth(0, 0, 0)), None, "no time has passed");
        for second in 1..=20 {
            count(second, depth(0, second.unsigned_abs() * 5, second.unsigned_abs() * 4));
        }
        assert_eq!(levels.rates(&queue, at(20), &depth(20, 100, 80)), Some((5.0, 4.0)));
        // A store that counts anew makes no rate of it.
        count(21, depth(0, 3, 0));
        assert_eq!(levels.rates(&queue, at(21), &depth(0, 3, 0)), None);
    }

    #[test]
    fn there_is_room_for_so_many_messages_and_queues() {
        let config = BrokerConfig {
            queue_messages_max: 5,
            org_queue_messages_max: 3,
            org_queues_max: 2,
            ..BrokerConfig::default()
        };
        let (levels, queue) = (Levels::default(), |org, name| WorkQueue::new(org, name).unwrap());
        let full =
            |org, name, more| levels.full_for(&config, &WorkPolicy::default(), &queue(org, name), more);
        assert_eq!(full("a", "q", 4), Some(WorkFull::OrgMessages(3)));
        levels.stored(&queue("a", "q"), 2);
        levels.stored(&queue("a", "r"), 1);
        assert_eq!(full("a", "q", 1), Some(WorkFull::OrgMessages(3)));
        assert_eq!(full("b", "q", 2), None);
        assert_eq!(full("b", "q", 3), Some(WorkFull::Messages(5)));
        // Counted anew, there is room again, but not for a third queue.
        let counted = levels.next_to_count(Timestamp(1), vec![queue("a", "q").0, queue("a", "r").0]);
        assert_eq!(counted.len(), 2);
        for name in counted {
            levels.0.lock().by_queue.entry(name).or_default().counted(Timestamp(1), &depth(0, 1, 1));
        }
        levels.0.lock().add_up();
        assert_eq!((full("a", "q", 3), full("a", "s", 1)), (None, Some(WorkFull::Queues(2))));
        // Empty and at rest, they are forgotten.
        let later = Timestamp(1).after(QUEUE_AT_REST);
        assert_eq!(levels.next_to_count(later, Vec::new()), Vec::<QueueName>::new());
    }
}

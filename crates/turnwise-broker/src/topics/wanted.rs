//! Which events a subscription takes: those of its topics and patterns, each
//! behind a place of its own, and none twice. Pure.

use super::place::SubscriptionPlace;
use crate::limits::REPLAYS_MAX;
use turnwise_core::{TopicName, TopicPattern};

/// Topics and patterns, and what of them was handed out already.
pub(super) struct Wanted {
    each: Vec<Part>,
    /// What was handed out of a stretch that is read once more, for others.
    sent: Vec<Sent>,
}

struct Part {
    pattern: TopicPattern,
    /// Events behind this place.
    after: SubscriptionPlace,
}

struct Sent {
    pattern: TopicPattern,
    after: SubscriptionPlace,
    up_to: SubscriptionPlace,
}

impl Wanted {
    pub(super) fn new(patterns: &[TopicPattern], after: SubscriptionPlace) -> Wanted {
        let part = |pattern: &TopicPattern| Part { pattern: pattern.clone(), after };
        Wanted { each: patterns.iter().map(part).collect(), sent: Vec::new() }
    }

    /// Whether the event of this topic at this place is to be handed out.
    pub(super) fn takes(&self, topic: &TopicName, place: SubscriptionPlace) -> bool {
        let is_wanted = |part: &Part| is_behind(place, part.after) && part.pattern.matches(topic);
        let was_sent = |sent: &Sent| {
            place.epoch == sent.up_to.epoch
                && place <= sent.up_to
                && is_behind(place, sent.after)
                && sent.pattern.matches(topic)
        };
        self.each.iter().any(is_wanted) && !self.sent.iter().any(was_sent)
    }

    /// Wants these, too, behind `after`, where everything up to `at` was handed out of the others. Answers where to
    /// read on; `None` when too many replays are under way.
    pub(super) fn add(
        &mut self,
        patterns: &[TopicPattern],
        after: SubscriptionPlace,
        at: SubscriptionPlace,
    ) -> Option<SubscriptionPlace> {
        let is_replay = after.epoch == at.epoch && after < at;
        if is_replay {
            if self.sent.len() + self.each.len() > REPLAYS_MAX {
                return None;
            }
            for part in &mut self.each {
                if is_behind(at, part.after) {
                    let goes_on = |sent: &&mut Sent| sent.pattern == part.pattern && sent.up_to == part.after;
                    match self.sent.iter_mut().find(goes_on) {
                        Some(sent) => sent.up_to = at,
                        None => {
                            let (pattern, after) = (part.pattern.clone(), part.after);
                            self.sent.push(Sent { pattern, after, up_to: at });
                        }
                    }
                    part.after = at;
                }
            }
        }
        for pattern in patterns {
            let known = self.each.iter().position(|part| part.pattern == *pattern);
            match known.and_then(|known| self.each.get_mut(known)) {
                // What is wanted of it already stays wanted.
                Some(part) => part.after = part.after.min(after),
                None => self.each.push(Part { pattern: pattern.clone(), after }),
            }
        }
        Some(if is_replay { after } else { at })
    }

    /// Wants these no longer.
    pub(super) fn remove(&mut self, patterns: &[TopicPattern]) {
        self.each.retain(|part| !patterns.contains(&part.pattern));
    }

    /// Everything up to this place was read.
    pub(super) fn read_up_to(&mut self, place: SubscriptionPlace) {
        let is_over = |sent: &mut Sent| sent.up_to.epoch != place.epoch || sent.up_to <= place;
        for sent in self.sent.extract_if(.., is_over) {
            // A later replay must know from where on it was handed out.
            let own = self.each.iter_mut().find(|part| part.pattern == sent.pattern);
            if let Some(part) = own
                && sent.up_to.epoch == place.epoch
                && part.after.epoch == place.epoch
                && part.after <= sent.up_to
            {
                part.after = part.after.min(sent.after);
            }
        }
    }

    /// All of them.
    pub(super) fn patterns(&self) -> Vec<TopicPattern> {
        self.each.iter().map(|part| part.pattern.clone()).collect()
    }

    /// Those of which something at this place would be wanted.
    pub(super) fn patterns_at(&self, place: SubscriptionPlace) -> Vec<TopicPattern> {
        let at = self.each.iter().filter(|part| part.after.epoch != place.epoch || part.after <= place);
        at.map(|part| part.pattern.clone()).collect()
    }
}

/// Of another history of the store, nothing that is there now was seen.
fn is_behind(place: SubscriptionPlace, after: SubscriptionPlace) -> bool {
    place.epoch != after.epoch || place > after
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::super::{name, pattern};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use turnwise_core::{Epoch, Offset, StorePosition};

    const TOPICS: [&str; 4] = ["a", "a.x", "b.x", "c"];
    const PATTERNS: [&str; 6] = ["a", "a.*", "*.x", ">", "b.>", "c"];

    fn behind(seq: u64) -> SubscriptionPlace {
        SubscriptionPlace::behind(StorePosition { epoch: Epoch(1), seq })
    }

    fn event(seq: u64, topic: &str) -> SubscriptionPlace {
        SubscriptionPlace::of(Epoch(1), seq, topic, Offset(1))
    }

    fn patterns(of: &[usize]) -> Vec<TopicPattern> {
        of.iter().map(|at| pattern("acme", PATTERNS[at % PATTERNS.len()]).unwrap()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(Vec<usize>, u64),
        Remove(Vec<usize>),
        Read(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let some = || prop::collection::vec(0..PATTERNS.len(), 1..3);
        let step = prop_oneof![
            (some(), 0..40_u64).prop_map(|(of, after)| Step::Add(of, after)),
            some().prop_map(Step::Remove),
            (1..15_u64).prop_map(Step::Read),
        ];
        prop::collection::vec(step, 1..24)
    }

    proptest! {
        /// Without a removal in between no event comes twice, and each comes that a pattern was asked for from
        /// before it.
        #[test]
        fn each_event_comes_once_whatever_is_asked_for(steps in steps()) {
            const LAST: u64 = 40;
            let mut wanted = Wanted::new(&[], behind(0));
            let mut asked: Vec<(TopicPattern, u64)> = Vec::new();
            let (mut at, mut seen) = (0_u64, BTreeSet::new());
            let read = |wanted: &mut Wanted, at: &mut u64, count: u64, seen: &mut BTreeSet<u64>| {
                for seq in *at + 1..=(*at + count).min(LAST) {
                    let topic = TOPICS[usize::try_from(seq).unwrap() * 7 % TOPICS.len()];
                    if wanted.takes(&name("acme", topic).unwrap(), event(seq, topic)) {
                        prop_assert!(seen.insert(seq), "{seq} comes twice");
                    }
                    *at = seq;
                    wanted.read_up_to(behind(seq));
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Add(of, after) => {
                        let of = patterns(&of);
                        let place = wanted.add(&of, behind(after), behind(at)).unwrap();
                        at = place.read_after().seq;
                        asked.extend(of.into_iter().map(|pattern| (pattern, after)));
                    }
                    Step::Remove(of) => {
                        let of = patterns(&of);
                        wanted.remove(&of);
                        // Asked for again, they may come again: begin anew.
                        if asked.iter().any(|(pattern, _)| of.contains(pattern)) {
                            wanted = Wanted::new(&[], behind(at));
                            asked.clear();
                            seen.clear();
                        }
                    }
                    Step::Read(count) => read(&mut wanted, &mut at, count, &mut seen)?,
                }
            }
            read(&mut wanted, &mut at, LAST, &mut seen)?;
            for seq in 1..=LAST {
                let topic = name("acme", TOPICS[usize::try_from(seq).unwrap() * 7 % TOPICS.len()]).unwrap();
                let due = asked.iter().any(|(pattern, after)| seq > *after && pattern.matches(&topic));
                prop_assert_eq!(seen.contains(&seq), due, "{}", seq);
            }
        }
    }

    #[test]
    fn replays_are_bounded() {
        let mut wanted = Wanted::new(&[], behind(9));
        let refused = (0..10_000).find(|at| wanted.add(&patterns(&[*at]), behind(1), behind(9)).is_none());
        assert!(refused.is_some());
        assert!(wanted.sent.len() <= REPLAYS_MAX);
    }
}

//! The judge of callbacks: what a receiver noted against the turns there were.

use std::collections::{HashMap, HashSet};

use crate::receiver::Received;

/// What is wrong, by message id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackViolation {
    /// Never taken with a 2xx.
    Missing(String),
    /// Came without a good signature.
    Unsigned(String),
    /// Nobody submitted such a turn with a callback.
    Unknown(String),
    /// Came again under another id, or with another body.
    Changed(String),
    /// Came before one that ended earlier in the same conversation.
    OutOfOrder {
        /// It came.
        came: String,
        /// Before this one.
        before: String,
    },
    /// Came again although a later one of its conversation had come.
    Returned(String),
}

/// Judges the callbacks of one receiver. Repeats are allowed; gaps and overtaking are not.
#[derive(Debug, Default)]
pub struct CallbackChecker {
    /// Conversation of each turn with a callback.
    turns: HashMap<String, String>,
    /// Turns of each conversation in the order in which they ended.
    order: HashMap<String, Vec<String>>,
}

impl CallbackChecker {
    /// Nothing is expected yet.
    #[must_use]
    pub fn new() -> CallbackChecker {
        CallbackChecker::default()
    }

    /// A turn with a callback. Give those of a conversation in the order in which they ended.
    pub fn add_turn(&mut self, message_id: &str, conversation: &str) {
        if self.turns.insert(message_id.to_owned(), conversation.to_owned()).is_none() {
            self.order.entry(conversation.to_owned()).or_default().push(message_id.to_owned());
        }
    }

    /// Judges what came, in the order in which it came.
    #[must_use]
    pub fn check(&self, received: &[Received]) -> Vec<CallbackViolation> {
        let mut violations = Vec::new();
        let mut first: HashMap<&str, &Received> = HashMap::new();
        let mut taken: HashSet<&str> = HashSet::new();
        let mut came: HashMap<&str, Vec<&str>> = HashMap::new();
        for one in received {
            let id = one.message_id.as_str();
            let Some(conversation) = self.turns.get(id) else {
                violations.push(CallbackViolation::Unknown(id.to_owned()));
                continue;
            };
            if !one.signed {
                violations.push(CallbackViolation::Unsigned(id.to_owned()));
            }
            let known = *first.entry(id).or_insert(one);
            if (&known.webhook_id, &known.body) != (&one.webhook_id, &one.body) {
                violations.push(CallbackViolation::Changed(id.to_owned()));
            }
            if (200..300).contains(&one.answered) {
                taken.insert(id);
            }
            let lane = came.entry(conversation).or_default();
            match lane.iter().position(|known| *known == id) {
                None => lane.push(id),
                Some(at) if at + 1 == lane.len() => {}
                Some(_) => violations.push(CallbackViolation::Returned(id.to_owned())),
            }
        }
        for (conversation, order) in &self.order {
            let lane = came.get(conversation.as_str()).map_or(&[][..], Vec::as_slice);
            violations.extend(out_of_order(order, lane));
            let missing = order.iter().filter(|id| !taken.contains(id.as_str()));
            violations.extend(missing.map(|id| CallbackViolation::Missing(id.clone())));
        }
        violations
    }
}

fn out_of_order(order: &[String], lane: &[&str]) -> Vec<CallbackViolation> {
    let places: HashMap<&str, usize> = order.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let place = |id: &str| places.get(id).copied().unwrap_or(usize::MAX);
    let wrong = lane.iter().zip(lane.iter().skip(1)).filter(|(came, next)| place(came) > place(next));
    wrong
        .map(|(came, next)| CallbackViolation::OutOfOrder {
            came: (*came).to_owned(),
            before: (*next).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn one(id: &str, answered: u16) -> Received {
        Received {
            webhook_id: format!("w{id}"),
            signed: true,
            path: "/".to_owned(),
            headers: Vec::new(),
            message_id: id.to_owned(),
            user_id: "u".to_owned(),
            status: "completed".to_owned(),
            body: Bytes::from(format!("body {id}")),
            answered,
        }
    }

    fn judged(received: &[Received]) -> Vec<CallbackViolation> {
        let mut checker = CallbackChecker::new();
        for (id, conversation) in [("a", "x"), ("b", "x"), ("c", "x"), ("z", "y")] {
            checker.add_turn(id, conversation);
        }
        checker.check(received)
    }

    #[test]
    fn a_good_history_with_repeats_is_clean() {
        let good = [one("a", 503), one("z", 200), one("a", 200), one("a", 200), one("b", 200), one("c", 204)];
        assert_eq!(judged(&good), []);
    }

    /// Each fault that a sender may have is told, and nothing else.
    #[test]
    fn the_judge_of_callbacks_bites() {
        let good = || vec![one("a", 200), one("b", 200), one("c", 200), one("z", 200)];
        let with = |change: &dyn Fn(&mut Vec<Received>)| {
            let mut received = good();
            change(&mut received);
            judged(&received)
        };
        let named = str::to_owned;
        fn second(received: &mut [Received]) -> &mut Received {
            received.get_mut(1).expect("four were received")
        }
        assert_eq!(with(&|it| drop(it.remove(1))), [CallbackViolation::Missing(named("b"))]);
        assert_eq!(with(&|it| second(it).answered = 500), [CallbackViolation::Missing(named("b"))]);
        assert_eq!(with(&|it| second(it).signed = false), [CallbackViolation::Unsigned(named("b"))]);
        assert_eq!(with(&|it| it.push(one("q", 200))), [CallbackViolation::Unknown(named("q"))]);
        assert_eq!(with(&|it| it.push(one("a", 200))), [CallbackViolation::Returned(named("a"))]);
        let swapped = CallbackViolation::OutOfOrder { came: named("c"), before: named("b") };
        assert_eq!(with(&|it| it.swap(1, 2)), [swapped]);
        let changed = [CallbackViolation::Changed(named("c"))];
        let again = |change: &dyn Fn(&mut Received)| {
            let mut second = one("c", 200);
            change(&mut second);
            with(&|it| it.insert(3, second.clone()))
        };
        assert_eq!(again(&|it| it.webhook_id.push('x')), changed);
        assert_eq!(again(&|it| it.body = Bytes::from_static(b"other")), changed);
    }
}

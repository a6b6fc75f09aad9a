//! Judges a history: what clients were told against what the agent saw.
//!
//! It trusts neither the broker's log nor its store, so that it finds what
//! they would hide.

use std::collections::HashMap;
use std::fmt;

use crate::journal::{Call, CallOutcome};

/// An abandoned call is noticed by the agent a moment after the caller left;
/// so long it may seem to overlap the next one.
pub const ABANDON_GRACE_US: u64 = 100_000;

/// How a turn ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// With an answer.
    Completed,
    /// With an error.
    Failed,
    /// Cancelled or expired, on purpose.
    Dropped,
}

/// What a client knows of one accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnReceipt {
    /// The broker's id of it.
    pub message_id: String,
    /// As the journal names it.
    pub conversation: String,
    /// When the request was sent, on any counter all clients share.
    pub sent: u64,
    /// When it was accepted, on the same counter.
    pub accepted: u64,
    /// Every end the client was told, in order. Exactly one is right.
    pub ends: Vec<Terminal>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Accepted, and no end was ever told.
    Lost(String),
    /// Told as completed, and the agent never answered it.
    NeverAnswered(String),
    /// More than one end was told.
    EndedTwice(String),
    /// Called again although a call of it had been answered.
    Doubled(String),
    /// The second was called before the first, or between two calls of it.
    OutOfOrder {
        /// Should have gone first.
        first: String,
        /// Went first.
        second: String,
    },
    /// Two calls of one conversation at once.
    Overlap {
        /// The one that was running.
        running: String,
        /// The one that started meanwhile.
        started: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost(id) => write!(f, "{id} was accepted and never ended"),
            Violation::NeverAnswered(id) => {
                write!(f, "{id} completed without an answer of the agent")
            }
            Violation::EndedTwice(id) => write!(f, "{id} ended more than once"),
            Violation::Doubled(id) => write!(f, "{id} was called again after its answer"),
            Violation::OutOfOrder { first, second } => write!(f, "{second} overtook {first}"),
            Violation::Overlap { running, started } => {
                write!(f, "{started} started while {running} was running")
            }
        }
    }
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that was found, at most one per pair of messages and kind.
    pub violations: Vec<Violation>,
    /// Calls judged.
    pub calls: usize,
    /// Receipts judged.
    pub receipts: usize,
}

impl Verdict {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Violations by kind: lost (with ends told wrongly), doubled, out of order, overlapping.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for violation in &self.violations {
            match violation {
                Violation::Lost(_) | Violation::NeverAnswered(_) => counts.lost += 1,
                Violation::EndedTwice(_) | Violation::Doubled(_) => counts.doubled += 1,
                Violation::OutOfOrder { .. } => counts.out_of_order += 1,
                Violation::Overlap { .. } => counts.overlapping += 1,
            }
        }
        counts
    }
}

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// No end, or an end without an answer.
    pub lost: u64,
    /// Answered or ended more than once.
    pub doubled: u64,
    /// Overtaken.
    pub out_of_order: u64,
    /// Running beside another call of the conversation.
    pub overlapping: u64,
}

/// Gathers a history and judges it.
#[derive(Clone, Debug, Default)]
pub struct HistoryChecker {
    calls: Vec<Call>,
    receipts: Vec<TurnReceipt>,
    reruns_declared: bool,
    kills: Vec<u64>,
}

impl HistoryChecker {
    /// An empty history.
    #[must_use]
    pub fn new() -> HistoryChecker {
        HistoryChecker::default()
    }

    /// Says that a process was killed in this run: a call answered just before
    /// may be made once more, with a higher `X-Turnwise-Attempt`.
    #[must_use]
    pub fn with_declared_reruns(mut self) -> HistoryChecker {
        self.reruns_declared = true;
        self
    }

    /// Says when a process was killed, by the journal's own order: an answer
    /// that was lost with it may be asked for once more, also with the same
    /// attempt, since a count younger than a second may be lost with the process.
    #[must_use]
    pub fn with_kills(mut self, kills: impl IntoIterator<Item = u64>) -> HistoryChecker {
        self.kills.extend(kills);
        self
    }

    /// Adds what the agent saw.
    pub fn add_calls(&mut self, calls: impl IntoIterator<Item = Call>) {
        self.calls.extend(calls);
    }

    /// Adds what a client was told.
    pub fn add_receipts(&mut self, receipts: impl IntoIterator<Item = TurnReceipt>) {
        self.receipts.extend(receipts);
    }

    /// Judges. Call it when every turn has had time to end.
    #[must_use]
    pub fn check(mut self) -> Verdict {
        self.calls.sort_by_key(|call| call.started);
        let mut lanes: HashMap<&str, Vec<&Call>> = HashMap::new();
        let mut by_message: HashMap<&str, Vec<&Call>> = HashMap::new();
        for call in &self.calls {
            lanes.entry(&call.conversation).or_default().push(call);
            if !call.message_id.is_empty() {
                by_message.entry(&call.message_id).or_default().push(call);
            }
        }
        let mut violations = Vec::new();
        check_ends(&self.receipts, &by_message, &mut violations);
        check_doubled(&by_message, self.reruns_declared, &self.kills, &mut violations);
        for lane in lanes.values() {
            check_overlap(lane, &mut violations);
            check_interleaving(lane, &mut violations);
        }
        check_order(&self.receipts, &by_message, &mut violations);
        violations.sort_by_key(ToString::to_string);
        violations.dedup();
        Verdict { violations, calls: self.calls.len(), receipts: self.receipts.len() }
    }
}

fn check_ends(receipts: &[TurnReceipt], calls: &HashMap<&str, Vec<&Call>>, out: &mut Vec<Violation>) {
    for receipt in receipts {
        let id = &receipt.message_id;
        match receipt.ends.as_slice() {
            [] => out.push(Violation::Lost(id.clone())),
            [Terminal::Completed] => {
                let answered = calls.get(id.as_str()).is_some_and(|calls| {
                    calls.iter().any(|call| call.outcome == Some(CallOutcome::Answered))
                });
                if !answered {
                    out.push(Violation::NeverAnswered(id.clone()));
                }
            }
            [Terminal::Failed | Terminal::Dropped] => {}
            [_, _, ..] => out.push(Violation::EndedTwice(id.clone())),
        }
    }
}

fn check_doubled(
    calls: &HashMap<&str, Vec<&Call>>,
    reruns_declared: bool,
    kills: &[u64],
    out: &mut Vec<Violation>,
) {
    for (id, calls) in calls {
        let Some(answered_at) = calls.iter().position(|call| call.outcome == Some(CallOutcome::Answered))
        else {
            continue;
        };
        let (before, after) = calls.split_at(answered_at + 1);
        let mut attempt = before.iter().map(|call| call.attempt).max().unwrap_or(0);
        let mut started = before.last().map_or(0, |call| call.started);
        for again in after {
            let declared = reruns_declared && again.attempt > attempt;
            let killed = kills.iter().any(|kill| (started..again.started).contains(kill));
            if !declared && !killed {
                out.push(Violation::Doubled((*id).to_owned()));
                break;
            }
            attempt = again.attempt;
            started = again.started;
        }
    }
}

/// Calls of one conversation, by start: each must have ended before the next starts.
fn check_overlap(lane: &[&Call], out: &mut Vec<Violation>) {
    let mut running: Vec<&Call> = Vec::new();
    for call in lane {
        running.retain(|earlier| earlier.ended.is_none_or(|ended| ended > call.started));
        let guilty = running.iter().filter(|earlier| !excused(earlier, call));
        out.extend(guilty.map(|earlier| Violation::Overlap {
            running: earlier.message_id.clone(),
            started: call.message_id.clone(),
        }));
        running.push(call);
    }
}

fn excused(running: &Call, started: &Call) -> bool {
    running.outcome == Some(CallOutcome::Abandoned)
        && running.ended_us.is_some_and(|ended| ended.saturating_sub(started.started_us) <= ABANDON_GRACE_US)
}

/// A message waits at the head until it is over: no other call between two of its own.
fn check_interleaving(lane: &[&Call], out: &mut Vec<Violation>) {
    let mut last_place: HashMap<&str, usize> = HashMap::new();
    for (place, call) in lane.iter().enumerate() {
        let earlier = last_place.insert(&call.message_id, place);
        let Some(earlier) = earlier.filter(|earlier| earlier + 1 < place) else {
            continue;
        };
        let between = lane.get(earlier + 1).filter(|_| !call.message_id.is_empty());
        if let Some(between) = between {
            out.push(Violation::OutOfOrder {
                first: call.message_id.clone(),
                second: between.message_id.clone(),
            });
        }
    }
}

/// If a submission was accepted before another was sent, its first call starts first.
fn check_order(receipts: &[TurnReceipt], calls: &HashMap<&str, Vec<&Call>>, out: &mut Vec<Violation>) {
    let mut lanes: HashMap<&str, Vec<(&TurnReceipt, u64)>> = HashMap::new();
    for receipt in receipts {
        if let Some(first) = calls.get(receipt.message_id.as_str()).and_then(|calls| calls.first()) {
            lanes.entry(&receipt.conversation).or_default().push((receipt, first.started));
        }
    }
    for lane in lanes.values_mut() {
        lane.sort_by_key(|(_, started)| *started);
        // Walked backwards: the earliest acceptance among all that started later.
        let mut earliest: Option<&TurnReceipt> = None;
        for (receipt, _) in lane.iter().rev() {
            if let Some(first) = earliest.filter(|later| later.accepted < receipt.sent) {
                out.push(Violation::OutOfOrder {
                    first: first.message_id.clone(),
                    second: receipt.message_id.clone(),
                });
            }
            if earliest.is_none_or(|known| receipt.accepted < known.accepted) {
                earliest = Some(receipt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, attempt: u32, started: u64, ended: u64, outcome: CallOutcome) -> Call {
        Call {
            message_id: id.to_owned(),
            attempt,
            conversation: "c".to_owned(),
            started,
            ended: Some(ended),
            started_us: started * 1_000_000,
            ended_us: Some(ended * 1_000_000),
            outcome: Some(outcome),
            stream: false,
        }
    }

    fn receipt(id: &str, sent: u64, ends: &[Terminal]) -> TurnReceipt {
        TurnReceipt {
            message_id: id.to_owned(),
            conversation: "c".to_owned(),
            sent,
            accepted: sent + 1,
            ends: ends.to_vec(),
        }
    }

    fn check(reruns: bool, calls: &[Call], receipts: &[TurnReceipt]) -> Vec<Violation> {
        let mut checker = HistoryChecker { reruns_declared: reruns, ..HistoryChecker::default() };
        checker.add_calls(calls.iter().cloned());
        checker.add_receipts(receipts.iter().cloned());
        checker.check().violations
    }

    use CallOutcome::{Abandoned, Answered, Refused};
    use Terminal::{Completed, Dropped, Failed};

    #[test]
    fn a_good_history_is_clean() {
        let calls = [call("a", 1, 1, 2, Refused), call("a", 2, 3, 4, Answered), call("b", 1, 5, 6, Answered)];
        let receipts =
            [receipt("a", 1, &[Completed]), receipt("b", 3, &[Completed]), receipt("x", 5, &[Dropped])];
        assert_eq!(check(false, &calls, &receipts), []);
    }

    #[test]
    fn an_accepted_message_without_an_end_is_lost() {
        let calls = [call("a", 1, 1, 2, Answered)];
        assert_eq!(check(false, &calls, &[receipt("a", 1, &[])]), [Violation::Lost("a".into())]);
        assert_eq!(
            check(false, &[], &[receipt("a", 1, &[Completed])]),
            [Violation::NeverAnswered("a".into())]
        );
        assert_eq!(
            check(false, &calls, &[receipt("a", 1, &[Completed, Failed])]),
            [Violation::EndedTwice("a".into())]
        );
    }

    #[test]
    fn a_second_call_after_an_answer_is_doubled_unless_declared() {
        let again = |attempt| [call("a", 1, 1, 2, Answered), call("a", attempt, 3, 4, Answered)];
        let doubled = [Violation::Doubled("a".into())];
        assert_eq!(check(false, &again(2), &[]), doubled);
        assert_eq!(check(true, &again(1), &[]), doubled);
        assert_eq!(check(true, &again(2), &[]), []);
        let killed_at = |kill| {
            let mut checker = HistoryChecker::new().with_kills([kill]);
            checker.add_calls(again(1));
            checker.check().violations
        };
        assert_eq!(killed_at(2), []);
        assert_eq!(killed_at(4), doubled);
    }

    #[test]
    fn an_overtaken_message_is_out_of_order() {
        let calls = [call("b", 1, 1, 2, Answered), call("a", 1, 3, 4, Answered)];
        let wrong = [Violation::OutOfOrder { first: "a".into(), second: "b".into() }];
        assert_eq!(
            check(false, &calls, &[receipt("a", 1, &[Completed]), receipt("b", 3, &[Completed])]),
            wrong
        );
        // Submitted at the same time: either order is right.
        assert_eq!(check(false, &calls, &[receipt("a", 1, &[Completed]), receipt("b", 1, &[Completed])]), []);
    }

    #[test]
    fn a_call_between_two_calls_of_another_is_out_of_order() {
        let calls = [call("a", 1, 1, 2, Refused), call("b", 1, 3, 4, Answered), call("a", 2, 5, 6, Answered)];
        let wrong = [Violation::OutOfOrder { first: "a".into(), second: "b".into() }];
        assert_eq!(check(false, &calls, &[]), wrong);
    }

    #[test]
    fn two_calls_at_once_overlap() {
        let calls = [call("a", 1, 1, 3, Answered), call("b", 1, 2, 4, Answered)];
        let wrong = [Violation::Overlap { running: "a".into(), started: "b".into() }];
        assert_eq!(check(false, &calls, &[]), wrong);
        let mut never_ended = calls;
        never_ended[0].ended = None;
        never_ended[0].outcome = None;
        assert_eq!(check(false, &never_ended, &[]), wrong);
    }

    #[test]
    fn a_call_the_caller_left_may_linger_a_moment_only() {
        let mut calls = [call("a", 1, 1, 3, Abandoned), call("b", 1, 2, 4, Answered)];
        assert_eq!(check(false, &calls, &[]).len(), 1);
        calls[0].ended_us = Some(calls[1].started_us + 1_000);
        assert_eq!(check(false, &calls, &[]), []);
    }

    #[test]
    fn conversations_do_not_touch_each_other() {
        let mut calls = [call("a", 1, 1, 3, Answered), call("b", 1, 2, 4, Answered)];
        calls[1].conversation = "d".into();
        assert_eq!(check(false, &calls, &[]), []);
    }
}

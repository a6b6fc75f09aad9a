//! What the fake agent saw: every call with its place in one order of starts
//! and ends. The judge of it is `checker`, not this file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// A whole answer was handed to the connection.
    Answered,
    /// An error status, or an `error` event.
    Refused,
    /// Garbage, a cut, or a stream without an end.
    Broken,
    /// The caller left first.
    Abandoned,
}

/// One call of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The `Idempotency-Key`; empty when there was none.
    pub message_id: String,
    /// `X-Turnwise-Attempt`; 0 when there was none.
    pub attempt: u32,
    /// From [`conversation_of_user`] or [`conversation_of_group`].
    pub conversation: String,
    /// Place among all starts and ends.
    pub started: u64,
    /// Place among all starts and ends; none while it runs.
    pub ended: Option<u64>,
    /// Microseconds since the agent's start.
    pub started_us: u64,
    /// Microseconds since the agent's start.
    pub ended_us: Option<u64>,
    /// None while it runs.
    pub outcome: Option<CallOutcome>,
    /// Whether it used the stream route.
    pub stream: bool,
}

/// Counters since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls that reached a chat route with a readable body.
    pub calls: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Of these, broken off by the agent.
    pub broken: u64,
    /// Of these, left by the caller.
    pub abandoned: u64,
    /// Running now.
    pub in_flight: u64,
    /// Most that ever ran at once.
    pub in_flight_max: u64,
    /// Calls that found another of their conversation in flight.
    pub overlaps: u64,
    /// Calls the journal had no room for.
    pub dropped: u64,
}

/// The whole journal, as `GET /log` gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// In the order of their starts.
    pub calls: Vec<Call>,
    /// Messages that were called more than once, with how often.
    pub attempts: HashMap<String, u32>,
    /// The counters at the same moment.
    pub stats: Stats,
}

/// The name under which a private conversation is recorded. Never ambiguous.
#[must_use]
pub fn conversation_of_user(org: &str, user: &str) -> String {
    format!("user:{}:{org}:{user}", org.len())
}

/// The name under which a group conversation is recorded. Never ambiguous.
#[must_use]
pub fn conversation_of_group(org: &str, chat: &str, thread: Option<&str>) -> String {
    match thread {
        Some(thread) => format!("group:{}:{org}:{}:{chat}:{thread}", org.len(), chat.len()),
        None => format!("group:{}:{org}:{}:{chat}", org.len(), chat.len()),
    }
}

/// Records calls. Cheap to share.
pub struct Journal {
    born: Instant,
    calls_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    generation: u64,
    clock: u64,
    calls: Vec<Call>,
    running: HashMap<String, u32>,
    attempts: HashMap<String, u32>,
    stats: Stats,
}

impl Journal {
    /// An empty journal with room for `calls_max` calls.
    #[must_use]
    pub fn new(calls_max: usize) -> Arc<Journal> {
        Arc::new(Journal { born: Instant::now(), calls_max, inner: Mutex::default() })
    }

    /// Notes the start of a call. The returned guard notes its end; dropping
    /// it unended means that the caller left.
    #[must_use]
    pub fn start(
        self: &Arc<Self>,
        conversation: String,
        message_id: &str,
        attempt: u32,
        stream: bool,
    ) -> OpenCall {
        let started_us = self.now_us();
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let started = inner.clock;
        inner.stats.calls += 1;
        inner.stats.in_flight += 1;
        inner.stats.in_flight_max = inner.stats.in_flight_max.max(inner.stats.in_flight);
        let same = inner.running.entry(conversation.clone()).or_insert(0);
        *same += 1;
        let overlaps = *same > 1;
        inner.stats.overlaps += u64::from(overlaps);
        let index = (inner.calls.len() < self.calls_max).then_some(inner.calls.len());
        if index.is_some() {
            inner.calls.push(Call {
                message_id: message_id.to_owned(),
                attempt,
                conversation: conversation.clone(),
                started,
                ended: None,
                started_us,
                ended_us: None,
                outcome: None,
                stream,
            });
        } else {
            inner.stats.dropped += 1;
        }
        OpenCall {
            journal: Arc::clone(self),
            generation: inner.generation,
            in_flight: inner.stats.in_flight,
            number: inner.stats.calls,
            index,
            conversation,
            overlaps,
            over: false,
        }
    }

    /// Counts one more call of a message and says the how-manieth it is. Only
    /// faults with `times` need it.
    pub(crate) fn count_attempt(&self, message_id: &str) -> u32 {
        let mut inner = self.inner.lock();
        let count = inner.attempts.entry(message_id.to_owned()).or_insert(0);
        *count += 1;
        *count
    }

    /// Now, in the order that starts and ends of calls have: later than all so far.
    #[must_use]
    pub fn mark(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        inner.clock
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.lock().stats
    }

    /// All recorded calls, in the order of their starts.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.inner.lock().calls.clone()
    }

    /// The whole journal.
    #[must_use]
    pub fn log(&self) -> Log {
        let inner = self.inner.lock();
        let (calls, stats) = (inner.calls.clone(), inner.stats);
        drop(inner);
        let mut attempts: HashMap<String, u32> = HashMap::new();
        for call in calls.iter().filter(|call| !call.message_id.is_empty()) {
            *attempts.entry(call.message_id.clone()).or_insert(0) += 1;
        }
        attempts.retain(|_, count| *count > 1);
        Log { calls, attempts, stats }
    }

    /// Forgets everything. Calls in flight end unrecorded.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        let generation = inner.generation + 1;
        *inner = Inner { generation, ..Inner::default() };
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A call in progress.
pub struct OpenCall {
    journal: Arc<Journal>,
    generation: u64,
    index: Option<usize>,
    conversation: String,
    in_flight: u64,
    number: u64,
    overlaps: bool,
    over: bool,
}

impl OpenCall {
    /// Calls in flight when it started, itself counted.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Its number among all calls, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether another call of its conversation was in flight.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        self.overlaps
    }

    /// Notes the end. Call it before the last byte leaves, so that whatever
    /// the caller does next is recorded as later.
    pub fn end(mut self, outcome: CallOutcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: CallOutcome) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let ended_us = self.journal.now_us();
        let mut inner = self.journal.inner.lock();
        if inner.generation != self.generation {
            return;
        }
        inner.clock += 1;
        let ended = inner.clock;
        inner.stats.in_flight = inner.stats.in_flight.saturating_sub(1);
        match outcome {
            CallOutcome::Answered => inner.stats.answered += 1,
            CallOutcome::Refused => inner.stats.refused += 1,
            CallOutcome::Broken => inner.stats.broken += 1,
            CallOutcome::Abandoned => inner.stats.abandoned += 1,
        }
        if let Some(same) = inner.running.get_mut(&self.conversation) {
            *same -= 1;
            if *same == 0 {
                inner.running.remove(&self.conversation);
            }
        }
        if let Some(call) = self.index.and_then(|index| inner.calls.get_mut(index)) {
            call.ended = Some(ended);
            call.ended_us = Some(ended_us);
            call.outcome = Some(outcome);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.close(CallOutcome::Abandoned);
    }
}

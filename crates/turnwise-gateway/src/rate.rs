//! How often each may ask: the generic cell rate algorithm, which needs one
//! number per key or conversation. A refusal costs nothing and is not counted.

use crate::error::Failure;
use crate::limits::METERS_MAX;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;
use tokio::time::Instant;
use turnwise_api::Code;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const SECOND_NS: u64 = 1_000_000_000;

/// So many requests a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least one.
    pub per_second: u32,
    /// At once; at least one.
    pub burst: u32,
}

/// When the next request of one key or conversation would be just in time, in
/// nanoseconds since the start; what is past is idle.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<u64>);

/// A rate in the form in which it is applied.
#[derive(Clone, Copy, Debug)]
struct Pace {
    name: &'static str,
    interval_ns: u64,
    burst: u32,
}

impl Pace {
    fn new(name: &'static str, rate: Rate) -> Pace {
        Pace { name, interval_ns: SECOND_NS / u64::from(rate.per_second.max(1)), burst: rate.burst.max(1) }
    }

    /// Time in which an empty burst is whole again.
    fn window_ns(self) -> u64 {
        self.interval_ns * u64::from(self.burst)
    }

    /// Counts a request at `now`, unless that would be too many.
    fn take(self, due: &mut u64, now: u64) -> Standing {
        let next = (*due).max(now) + self.interval_ns;
        let over = (next - now).saturating_sub(self.window_ns());
        if over == 0 {
            *due = next;
        }
        let pending = due.saturating_sub(now);
        let left = self.window_ns().saturating_sub(pending) / self.interval_ns.max(1);
        Standing {
            pace: self,
            left,
            whole_in_s: pending.div_ceil(SECOND_NS),
            retry_after: (over > 0).then(|| u32::try_from(over.div_ceil(SECOND_NS)).unwrap_or(u32::MAX)),
        }
    }
}

/// Where one key or conversation stands after a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pace: Pace,
    left: u64,
    whole_in_s: u64,
    /// Seconds until one more is let in; only if this one was not.
    retry_after: Option<u32>,
}

impl Standing {
    /// The refusal, if it is one.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Some(seconds) = self.retry_after else { return Ok(()) };
        let detail = format!("Too many requests for this {}", self.pace.name);
        Err(Failure::new(Code::RateLimited, detail).retry_after(seconds))
    }

    /// Says it as draft-ietf-httpapi-ratelimit-headers does; several add up to a list.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Pace { name, burst, .. } = self.pace;
        let window_s = self.pace.window_ns().div_ceil(SECOND_NS);
        let mut append = |header: HeaderName, text: String| {
            headers
                .append(header, HeaderValue::try_from(text).expect("a name and numbers are a header value"));
        };
        append(RATELIMIT_POLICY, format!("\"{name}\";q={burst};w={window_s}"));
        append(RATELIMIT, format!("\"{name}\";r={};t={}", self.left, self.whole_in_s));
    }
}

/// Meters by what they are for. Those that are idle are forgotten, the oldest
/// half at a time; so are others when there are too many, which gives them a new burst.
struct Meters {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
    young_since: u64,
}

impl Meters {
    fn take(&mut self, pace: Pace, hash: u64, now: u64) -> Standing {
        // What was not touched for a whole window is idle.
        if now - self.young_since >= pace.window_ns() || self.young.len() >= METERS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_since = now;
        }
        let known = self.young.get(&hash).or_else(|| self.old.get(&hash));
        let mut due = known.copied().unwrap_or(0);
        let standing = pace.take(&mut due, now);
        self.young.insert(hash, due);
        standing
    }
}

/// The rates of a server.
pub(crate) struct Rates {
    started: Instant,
    key: Option<Pace>,
    frames: Option<Pace>,
    conversation: Option<Pace>,
    conversations: Mutex<Meters>,
    hasher: RandomState,
}

impl Rates {
    pub(crate) fn new(key: Option<Rate>, conversation: Option<Rate>, frames: Option<Rate>) -> Rates {
        let meters = Meters { young: HashMap::new(), old: HashMap::new(), young_since: 0 };
        Rates {
            started: Instant::now(),
            key: key.map(|rate| Pace::new("key", rate)),
            frames: frames.map(|rate| Pace::new("key", rate)),
            conversation: conversation.map(|rate| Pace::new("conversation", rate)),
            conversations: Mutex::new(meters),
            hasher: RandomState::new(),
        }
    }

    /// Counts a request of a key; none if keys have no limit.
    pub(crate) fn of_key(&self, meter: &Meter) -> Option<Standing> {
        let pace = self.key?;
        Some(pace.take(&mut meter.0.lock(), self.now()))
    }

    /// Counts a WebSocket message of a key; none if keys have no limit for them.
    pub(crate) fn of_frames(&self, meter: &Meter) -> Option<Standing> {
        let pace = self.frames?;
        Some(pace.take(&mut meter.0.lock(), self.now()))
    }

    /// Counts a message of a conversation; none if they have no limit.
    pub(crate) fn of_conversation(&self, conversation: impl Hash) -> Option<Standing> {
        let pace = self.conversation?;
        let hash = self.hasher.hash_one(conversation);
        Some(self.conversations.lock().take(pace, hash, self.now()))
    }

    fn now(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { name: "key", interval_ns: SECOND_NS / 2, burst: 4 };

    #[test]
    fn a_burst_then_the_rate_and_after_a_pause_a_burst_again() {
        let mut due = 0;
        let mut at = |now_ms: u64| {
            let standing = PACE.take(&mut due, now_ms * 1_000_000);
            (standing.left, standing.whole_in_s, standing.retry_after)
        };
        assert_eq!([at(0), at(0), at(0), at(0)].map(|it| it.0), [3, 2, 1, 0]);
        assert_eq!(at(0), (0, 2, Some(1)));
        assert_eq!(at(499), (0, 2, Some(1)));
        // One every half second, whatever was refused in between.
        assert_eq!(at(500), (0, 2, None));
        assert_eq!(at(500), (0, 2, Some(1)));
        assert_eq!(at(60_000), (3, 1, None));
    }

    #[test]
    fn the_headers_have_the_form_of_the_draft() {
        let mut headers = HeaderMap::new();
        PACE.take(&mut 0, 0).write(&mut headers);
        assert_eq!(headers.get("ratelimit-policy"), Some(&HeaderValue::from_static("\"key\";q=4;w=2")));
        assert_eq!(headers.get("ratelimit"), Some(&HeaderValue::from_static("\"key\";r=3;t=1")));
    }

    #[test]
    fn meters_are_bounded_and_only_idle_ones_are_forgotten() {
        let mut meters = Meters { young: HashMap::new(), old: HashMap::new(), young_since: 0 };
        let window = PACE.window_ns();
        let mut now = 0;
        for round in 0..8 {
            // One conversation that never pauses is held to its rate while many others come and go.
            let mut let_in = 0;
            for other in 0..1_000 {
                meters.take(PACE, 1_000_000 + round * 1_000 + other, now);
                let_in += u64::from(meters.take(PACE, 7, now).retry_after.is_none());
                now += window / 1_000;
            }
            assert!((4..=8).contains(&let_in), "{let_in} of 1000 in {round}");
            assert!(meters.young.len() + meters.old.len() <= 2_003);
        }
        for other in 0..3 * METERS_MAX as u64 {
            meters.take(PACE, other, now);
        }
        assert!(meters.young.len() + meters.old.len() <= 2 * METERS_MAX + 1);
    }
}

//! The language of faults: `[[delay=200]] [[status=503 retry_after=1 times=2]]`.
//!
//! | word | does |
//! |---|---|
//! | `delay=MS` | waits before the answer or the first event |
//! | `events=N`, `gap=MS` | progress events of a stream, and the pause between them |
//! | `size=BYTES` | fills the text of the answer up to this length |
//! | `status=CODE` | refuses with this status instead of answering |
//! | `retry_after=S` | adds the header `Retry-After` to the refusal |
//! | `retry_after_ms=MS` | adds `retry_after_ms` to the refusal's body |
//! | `garbage` | answers 200 with something that is not JSON |
//! | `cut` | breaks the connection: at once, or in a stream after its events |
//! | `hang` | never answers; a stream falls silent after its events |
//! | `error` | the stream ends with an `error` event; a JSON call answers 500 |
//! | `end=complete\|named\|done\|marker\|none` | how a stream ends, see [`Ending`] |
//! | `times=N` | the fault strikes only the first N calls of that message |

use std::str::FromStr;

use crate::config::AgentConfig;

/// Events a marker may ask for.
pub const EVENTS_MAX: u32 = 100_000;
/// Bytes of text a marker may ask for.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a stream that was not broken off ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// `data: {"type":"complete","response":{…}}`.
    #[default]
    Complete,
    /// `event: complete` with the answer itself as data.
    Named,
    /// `event: done` with no answer.
    Done,
    /// `data: [DONE]`.
    Marker,
    /// Nothing: the stream just ends.
    None,
}

/// What strikes instead of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strike {
    /// Nothing does.
    #[default]
    None,
    /// This status.
    Status(u16),
    /// Not JSON.
    Garbage,
    /// The connection breaks.
    Cut,
    /// Silence.
    Hang,
    /// An `error` event.
    Error,
}

/// Everything one call will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Milliseconds before the answer.
    pub delay_ms: u64,
    /// Progress events.
    pub events: u32,
    /// Milliseconds between events.
    pub gap_ms: u64,
    /// Bytes the text is filled up to.
    pub answer_bytes: usize,
    /// The fault, if any.
    pub strike: Strike,
    /// Seconds for the header `Retry-After`.
    pub retry_after_seconds: Option<u64>,
    /// Milliseconds for `retry_after_ms`.
    pub retry_after_ms: Option<u64>,
    /// Only the first so many calls of a message are struck.
    pub times: Option<u32>,
    /// How the stream ends.
    pub ending: Ending,
}

/// A word that is not of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError(String);

impl std::fmt::Display for FaultError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the fault word `{}` is unknown or has a wrong value", self.0)
    }
}

impl std::error::Error for FaultError {}

impl Plan {
    /// The plan of a call that no marker touches.
    #[must_use]
    pub fn of(config: &AgentConfig, call: u64) -> Plan {
        let spread = match config.delay_spread_ms {
            0 => 0,
            // Fibonacci hashing: neighbouring calls get far-apart delays.
            spread => (call.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % (spread + 1),
        };
        Plan {
            delay_ms: config.delay_ms + spread,
            events: config.events,
            gap_ms: config.event_gap_ms,
            answer_bytes: config.answer_bytes,
            ..Plan::default()
        }
    }

    /// Applies the words of one marker. Stops at the first wrong one.
    pub fn apply(&mut self, words: &str) -> Result<(), FaultError> {
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            self.apply_word(name, value).ok_or_else(|| FaultError(word.to_owned()))?;
        }
        Ok(())
    }

    /// Applies every `[[...]]` of a message. Words it does not know are left
    /// alone: a person may well write double brackets.
    pub fn apply_text(&mut self, text: &str) {
        let mut rest = text;
        while let Some((_, tail)) = rest.split_once("[[") {
            let Some((words, after)) = tail.split_once("]]") else {
                return;
            };
            for word in words.split_whitespace() {
                let _ = self.apply(word);
            }
            rest = after;
        }
    }

    /// Takes the fault away, for calls beyond `times`.
    pub fn spare(&mut self) {
        self.strike = Strike::None;
        self.ending = Ending::Complete;
    }

    fn apply_word(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "delay" => self.delay_ms = number(value)?,
            "events" => self.events = number::<u32>(value)?.min(EVENTS_MAX),
            "gap" => self.gap_ms = number(value)?,
            "size" => self.answer_bytes = number::<usize>(value)?.min(ANSWER_BYTES_MAX),
            "status" => {
                let status: u16 = number(value)?;
                (200..=599).contains(&status).then_some(())?;
                self.strike = Strike::Status(status);
            }
            "retry_after" => self.retry_after_seconds = Some(number(value)?),
            "retry_after_ms" => self.retry_after_ms = Some(number(value)?),
            "times" => self.times = Some(number(value)?),
            "garbage" => self.strike = Strike::Garbage,
            "cut" => self.strike = Strike::Cut,
            "hang" => self.strike = Strike::Hang,
            "error" => self.strike = Strike::Error,
            "end" => self.ending = ending(value)?,
            _ => return None,
        }
        Some(())
    }
}

fn number<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

fn ending(value: &str) -> Option<Ending> {
    match value {
        "complete" => Some(Ending::Complete),
        "named" => Some(Ending::Named),
        "done" => Some(Ending::Done),
        "marker" => Some(Ending::Marker),
        "none" => Some(Ending::None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_read_and_other_brackets_left_alone() {
        let mut plan = Plan::of(&AgentConfig::default(), 1);
        plan.apply_text("hi [[delay=200]] see [[my wiki]] [[status=503 retry_after=1 times=2]] [[open");
        assert_eq!(plan.delay_ms, 200);
        assert_eq!(plan.strike, Strike::Status(503));
        assert_eq!((plan.retry_after_seconds, plan.times), (Some(1), Some(2)));
        assert!(plan.apply("bogus").is_err());
        assert!(plan.apply("status=9000").is_err());
    }

    #[test]
    fn spread_stays_in_its_range_and_differs() {
        let config = AgentConfig { delay_ms: 10, delay_spread_ms: 5, ..AgentConfig::default() };
        let delays: std::collections::BTreeSet<u64> =
            (0..100).map(|n| Plan::of(&config, n).delay_ms).collect();
        assert_eq!(delays, (10..=15).collect());
    }
}

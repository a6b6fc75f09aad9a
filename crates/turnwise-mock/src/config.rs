//! Settings of the fake agent: names, meanings, defaults.
//!
//! They are also the settings of `turnwise agent mock`.

use serde::{Deserialize, Serialize};

/// How the fake agent behaves when a message says nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Milliseconds before an answer, or before the first event of a stream. Default 0.
    pub delay_ms: u64,
    /// Up to this many milliseconds more, differing from call to call in a
    /// fixed pattern, so that runs can be repeated. Default 0.
    pub delay_spread_ms: u64,
    /// `progress` events before `complete` on the stream route. Default 3.
    pub events: u32,
    /// Milliseconds between two events of a stream. Default 0: all at once.
    pub event_gap_ms: u64,
    /// Bytes the text of an answer is filled up to. Default 0: not filled.
    pub answer_bytes: usize,
    /// Calls worked on at once; one more is answered 503 with Retry-After. Default: no cap.
    pub slots: Option<u32>,
    /// Seconds in that Retry-After, and in the 429 of `refuse_overlap`. Default 1.
    pub retry_after_seconds: u64,
    /// Answer 429 to a second call of a conversation that has one in flight. Default false.
    pub refuse_overlap: bool,
    /// The bearer key callers must send. Default: any or none.
    pub api_key: Option<String>,
    /// Obey `[[...]]` markers in message texts. Default true.
    pub markers: bool,
    /// Faults that come by themselves, see [`FaultRule`]. Default none.
    pub faults: Vec<FaultRule>,
    /// Calls the journal keeps; later ones are only counted. Default 1,000,000.
    pub journal_calls_max: usize,
    /// Bytes of a request body that are read; more is answered 413. Default 64 MiB.
    pub body_bytes_max: usize,
}

/// A fault that strikes every n-th call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Strikes calls `every`, 2 × `every`, ... counted from 1; 0 never strikes.
    pub every: u64,
    /// What happens, in the words of a marker, for example `status=500`.
    pub fault: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            delay_ms: 0,
            delay_spread_ms: 0,
            events: 3,
            event_gap_ms: 0,
            answer_bytes: 0,
            slots: None,
            retry_after_seconds: 1,
            refuse_overlap: false,
            api_key: None,
            markers: true,
            faults: Vec::new(),
            journal_calls_max: 1_000_000,
            body_bytes_max: 64 * 1024 * 1024,
        }
    }
}

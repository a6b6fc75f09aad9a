//! A fake agent, a fake receiver of callbacks, a small HTTP client, and checkers of what they saw.
//!
//! Used by `demo`, `agent mock`, `bench` and the tests. Knows the agent's wire
//! form and nothing of the broker's insides.

pub mod accept;
mod agent;
mod answer;
pub mod callbacks;
pub mod checker;
pub mod client;
pub mod config;
pub mod fault;
pub mod host;
pub mod journal;
pub mod receiver;

pub use accept::accept;
pub use agent::FakeAgent;
pub use callbacks::{CallbackChecker, CallbackViolation};
pub use checker::{HistoryChecker, Terminal, TurnReceipt, Verdict, Violation};
pub use client::{Answer, ClientError, Conn, SseEvent, SseReader};
pub use config::{AgentConfig, FaultRule};
pub use fault::{Ending, FaultError, Plan};
pub use host::Host;
pub use journal::{Call, CallOutcome, Journal, Log, Stats, conversation_of_group, conversation_of_user};
pub use receiver::{Answering, CallbackReceiver, Received};

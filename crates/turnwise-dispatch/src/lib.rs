//! Outbound HTTP of Turnwise: takes turns from the broker, calls the agent,
//! stores its answer.
//!
//! Knows nothing of the clients that wait, and nothing of how turns are kept.

mod agent;
mod callback;
mod causes;
mod config;
mod counts;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
mod reply;
mod run;
mod span;
pub mod sse;
mod tls;
mod tracked;
mod turn;
mod verdict;

pub use callback::config::{CallbackConfig, CallbackConfigError, Secret};
pub use callback::connect::{Resolve, Resolved, SystemResolver};
pub use callback::{CallbackWorker, Random};
pub use causes::innermost;
pub use config::{ConfigError, DispatchConfig, StreamMode};
pub use run::{AgentProbe, AgentStatus, Dispatcher};
pub use tls::{Trust, trusting};
pub use tracked::Tracked;

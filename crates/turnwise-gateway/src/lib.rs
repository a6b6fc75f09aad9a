//! Inbound HTTP: the serving loop, the routes of the conversations, and what
//! every request passes on its way. Knows nothing of agents or of how turns
//! are dispatched.

mod access;
mod app;
mod asyncapi;
mod auth;
mod body;
mod config;
mod counters;
mod counts;
mod crowd;
mod docs;
mod drain;
mod ends;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod held;
mod hex;
mod limits;
mod methods;
mod note;
mod openapi;
mod prefer;
mod rate;
mod request_id;
mod rest;
mod router;
mod scope;
mod serve;
mod span;
mod sse;
mod stall;
mod streams;
mod ticket;
mod trace;
mod wire;
mod ws;

pub use asyncapi::text as asyncapi_text;
pub use auth::{Exchanged, KeyRing};
pub use config::{AgentProbe, AgentStatus, ApiKey, GatewayConfig, StoreReport, StoreStatus};
pub use counters::Counters;
pub use drain::{Drain, Phase};
pub use openapi::text as openapi_text;
pub use rate::Rate;
pub use router::{RouteInfo, routes};
pub use scope::{Access, Scope};
pub use serve::Gateway;
#[doc(hidden)]
pub use wire::fuzz::fuzz_head;

//! WebSocket connections (RFC 6455): one for each client, over which it
//! follows topics, publishes, and asks for more as it goes. The framing is our
//! own: what a reader is sent is encoded once for all, everything that waits
//! goes out in one write, and an idle connection holds no buffer.

pub(crate) mod admin;
mod agents;
pub(crate) mod connections;
mod frames;
pub(crate) mod framing;
pub(crate) mod handshake;
mod out;
mod requests;
mod session;
mod topics;

pub(crate) use connections::{Connections, Identity};
pub(crate) use handshake::{Accepted, Handover, require_agent};

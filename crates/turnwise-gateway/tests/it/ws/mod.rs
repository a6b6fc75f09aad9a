//! `/ws/connect`, byte by byte.

mod agents;
mod client;
mod handshake;
mod life;
mod table;
mod topics;

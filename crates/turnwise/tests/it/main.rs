//! The binary from outside: its commands, its configuration, and what it
//! promises when it is killed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where it is wrong")]

mod browser;
mod bus;
mod callbacks;
mod config;
mod demo;
mod drain;
mod edge;
mod examples;
mod import;
mod json;
mod keys;
mod kill9;
mod limits;
mod logs;
mod metrics;
mod nodes;
mod outage;
mod page;
mod postgres;
mod power;
mod queues;
mod redis;
mod secrets;
mod send;
mod socket;
mod sockets;
mod storm;
mod stream;
mod streams;
mod support;
mod topics;
mod watch;

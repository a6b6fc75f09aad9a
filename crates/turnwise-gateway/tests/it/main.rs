//! The gateway through real HTTP on loopback, over the memory engine. The
//! tests play the agent themselves: they claim turns and finish them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it fails")]

mod access;
mod bad_input;
mod bus;
mod callbacks;
mod cancel;
mod client;
mod crowd;
mod described;
mod forged;
mod hostile;
mod idempotency;
mod ids;
mod isolation;
mod metrics;
mod node;
mod panics;
mod queue;
mod queues;
mod rate;
mod raw;
mod readers;
mod retention;
mod serving;
mod slow;
mod store_trouble;
mod stream;
mod streams;
mod submission;
mod subscribe;
mod tail;
mod ticket;
mod topics;
mod topics_hostile;
mod ws;

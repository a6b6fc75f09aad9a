//! Parts of the simulation of the whole way of a turn: a store seat per node
//! with latency, faults and freezes, agents over pipes, and the book that
//! judges what happened. Knows neither broker nor dispatch, which drive it.

pub mod agent;
pub mod book;
pub mod counts;
mod request;
pub mod seat;
pub mod weather;

pub use agent::Agents;
pub use book::Book;
pub use counts::Counts;
pub use seat::{Seat, Shared, now_or_block};
pub use weather::{Power, SimClock, Weather};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere has told its own story already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

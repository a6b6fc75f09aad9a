//! Storage engines of Turnwise: `memory` for a process's life, `embedded` for
//! a folder on disk, `redis` and `postgres` for a server
//! that several nodes share. The only crate that names a database driver.

pub mod clock;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod counted;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod counts;
pub mod embedded;
mod front;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod gather;
mod hub;
pub mod memory;
pub mod mutants;
pub mod open;
mod own;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;

pub use clock::{Clock, system_clock};
pub use front::Front;

//! What the suite needs to know of an engine: how to open it, and how to crash it.

use crate::clock::ManualClock;
use async_trait::async_trait;
use std::sync::Arc;
use turnwise_core::Store;

/// Messages on one key before clause Q17 asks for another key.
pub const BACKLOG: usize = 200_000;

/// Makes an engine's storage hang (`true`) or go on (`false`).
pub type HangSwitch = Box<dyn Fn(bool) + Send + Sync>;

/// One engine under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Its name in the table.
    fn name(&self) -> &str;
    /// A fresh, empty store on this harness's clock.
    async fn open(&self) -> Arc<dyn Store>;
    /// Ends `store` without warning and opens what it left behind. Only called
    /// when [`Harness::durable`].
    async fn crash_and_reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
    /// Another node on the data of the store opened last; none where one process has it for itself.
    async fn open_another(&self) -> Option<Arc<dyn Store>> {
        None
    }
    /// A fresh store that gives up on an operation within a second, and the
    /// switch that makes what is below it hang; or why there is no such switch,
    /// which the table of clauses then shows as not run.
    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str>;
    /// The clock all its stores read.
    fn clock(&self) -> &ManualClock;
    /// Whether anything is left after a crash.
    fn durable(&self) -> bool;
    /// Whether a lease that need not be durable outlives a crash all the same: on a server that several nodes
    /// share it does not end with one of them, but when its time is over.
    fn keeps_lazy_leases(&self) -> bool {
        false
    }
    /// Steps between two crashes of clause X1; only where a crash takes seconds there is more than one.
    fn steps_between_crashes(&self) -> u64 {
        1
    }
    /// Messages for clause Q17; only the mutant run, which looks elsewhere, asks for fewer.
    fn backlog(&self) -> usize {
        BACKLOG
    }
}

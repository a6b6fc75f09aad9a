//! Settings of the embedded store, and its limits by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What waits for the owner thread, in units of [`UNIT_BYTES`]; further callers wait their turn.
pub(super) const WAITING_UNITS_MAX: u32 = 65_536;
/// Bytes per unit.
pub(super) const UNIT_BYTES: u64 = 4_096;
/// Units every operation takes besides its bytes.
pub(super) const OPERATION_UNITS: u32 = 16;
/// Operations that can wait at once.
pub(super) const OPERATIONS_WAITING_MAX: usize = (WAITING_UNITS_MAX / OPERATION_UNITS) as usize;
/// A commit takes further operations until they bring this much.
pub(super) const COMMIT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Changes that may be lost with the process are on disk after this long.
pub(super) const LAZY_MAX: Duration = Duration::from_secs(1);
/// Longest and shortest sleep while something comes due.
pub(super) const NAP_MAX: Duration = Duration::from_secs(1);
/// See [`NAP_MAX`].
pub(super) const NAP_MIN: Duration = Duration::from_millis(5);
/// Commits whose duration is remembered.
pub(super) const COMMITS_MEASURED: usize = 256;

/// When an answer counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On disk before the answer.
    #[default]
    Immediate,
    /// On disk within a second: a crash of process or machine loses that much.
    Relaxed,
}

/// Called when the disk can no longer be trusted, with what happened.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

/// How an embedded store runs.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// See [`Durability`].
    pub durability: Durability,
    /// Save what redb needs to skip its own repair after a crash, for one more sync
    /// and a third less throughput. Pointless while `check_on_open` reads the file anyway.
    pub quick_repair: bool,
    /// Verify every page of the file when it is opened.
    pub check_on_open: bool,
    /// Act when nothing but time has passed: write lazy changes, hint at what falls
    /// due. Off only where time is simulated and every step must be repeatable.
    pub acts_by_itself: bool,
    /// Memory for pages of the file.
    pub page_cache_bytes: usize,
    /// Memory for bodies stored lately.
    pub body_cache_bytes: usize,
    /// New work is refused when less is free, at most an eighth of the file system.
    pub disk_reserve_bytes: u64,
    /// Every operation ends within this time.
    pub call_timeout: Duration,
    /// Logs and ends the process, unless a test replaces it. If it returns,
    /// the store stops and answers nothing any more.
    pub on_fatal: FatalHook,
}

impl Default for EmbeddedConfig {
    fn default() -> EmbeddedConfig {
        EmbeddedConfig {
            durability: Durability::Immediate,
            quick_repair: false,
            check_on_open: true,
            acts_by_itself: true,
            page_cache_bytes: 64 * 1024 * 1024,
            body_cache_bytes: 64 * 1024 * 1024,
            disk_reserve_bytes: 64 * 1024 * 1024,
            call_timeout: Duration::from_secs(30),
            on_fatal: Arc::new(|what| {
                tracing::error!(
                    what,
                    "the store cannot go on; the process ends so that nothing false is acknowledged"
                );
                std::process::abort()
            }),
        }
    }
}

impl fmt::Debug for EmbeddedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedConfig")
            .field("durability", &self.durability)
            .field("quick_repair", &self.quick_repair)
            .field("check_on_open", &self.check_on_open)
            .field("acts_by_itself", &self.acts_by_itself)
            .field("page_cache_bytes", &self.page_cache_bytes)
            .field("body_cache_bytes", &self.body_cache_bytes)
            .field("disk_reserve_bytes", &self.disk_reserve_bytes)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}

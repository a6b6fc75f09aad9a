//! File descriptors: every connection takes one, and a system's soft limit is
//! far below what it really allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the store, the agent's connections and the rest of the process.
const RESERVE: u64 = 256;
/// Connections served even where descriptors are few.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the soft limit of open files to the hard one, where it is allowed.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// As many of these connections as there are descriptors for.
pub(crate) fn connections_within(wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = limit.saturating_sub(RESERVE).max(CONNECTIONS_MIN);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if wanted > most {
        tracing::warn!(
            open_files = limit,
            connections_max = most,
            "http.connections_max is lowered to what the limit of open files allows (`ulimit -n`)"
        );
    }
    wanted.min(most)
}

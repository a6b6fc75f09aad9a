//! What the system grants this process. File descriptors: every connection takes one, and a system's soft limit is
//! far below what it really allows. Memory: it holds keys and message texts, which belong in no core dump.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the store and the rest of the process, besides one for each call that may run.
const RESERVE: u64 = 256;
/// One connection in so many is for other requests than streams.
const OTHERS_SHARE: usize = 4;
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

/// A crash leaves no copy of the memory on disk. Where the system hands dumps to a program (core(5): a core_pattern
/// that begins with a pipe), the limit does not count and that program decides.
pub(crate) fn no_core_dumps() {
    let limit = getrlimit(Resource::Core);
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit }) {
        tracing::warn!(%error, "core dumps cannot be turned off: a crash may write keys and texts to disk");
    }
}

/// As many of these connections as there are descriptors for, beside so many
/// calls of ours to agent and callbacks.
pub(crate) fn connections_within(wanted: usize, calls: u64) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = beside_calls(limit, calls);
    if wanted > most {
        tracing::warn!(
            open_files = limit,
            connections_max = most,
            "http.connections_max is lowered to what the limit of open files allows (`ulimit -n`)"
        );
    }
    wanted.min(most)
}

/// As many of these streams as leave a quarter of the connections to other requests.
pub(crate) fn streams_within(wanted: usize, connections: usize) -> usize {
    let most = connections - connections / OTHERS_SHARE;
    if wanted > most {
        tracing::info!(
            connections_max = connections,
            streams_max = most,
            "http.streams_max is lowered to leave connections to other requests"
        );
    }
    wanted.min(most)
}

fn beside_calls(limit: u64, calls: u64) -> usize {
    let kept = RESERVE.saturating_add(calls);
    usize::try_from(limit.saturating_sub(kept).max(CONNECTIONS_MIN)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_connections_to_other_requests() {
        assert_eq!(streams_within(12_288, 16_384), 12_288);
        assert_eq!(streams_within(100, 16_384), 100);
        let few = beside_calls(1_024, 96);
        assert_eq!((few, streams_within(12_288, few)), (672, 504));
        assert_eq!(streams_within(usize::MAX, 16), 12);
    }

    #[test]
    fn connections_of_clients_leave_descriptors_for_every_call() {
        assert_eq!(beside_calls(20_000, 64 + 128), 20_000 - 256 - 192);
        assert_eq!(beside_calls(4_096, 10_000), 16);
        assert_eq!(beside_calls(4_096, u64::MAX), 16);
    }
}

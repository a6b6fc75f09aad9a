//! From where to where each setting may go. Whatever another part of the
//! program limits is taken from there, so that a node starts with every value.

use std::ops::RangeInclusive;
use std::time::Duration;
use turnwise_core::limits::{DEDUP_WINDOW_MAX, LEASE_MAX, PAYLOAD_BYTES_MAX, RETRY_DELAY_MAX};

/// 0 takes a free one.
pub(super) const PORT: RangeInclusive<u64> = 0..=u16::MAX as u64;
/// A body becomes one stored message, so it is not larger than one.
pub(super) const BODY_BYTES: RangeInclusive<u64> = 1_024..=PAYLOAD_BYTES_MAX as u64;
/// Less than a second is no time on a network; more than a day is none at all.
pub(super) const HTTP_TIME: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Fewer would not do for a health check beside the clients.
pub(super) const CONNECTIONS: RangeInclusive<u64> = 16..=1_000_000;
/// At most all of them.
pub(super) const CONNECTIONS_PER_ADDRESS: RangeInclusive<u64> = 1..=*CONNECTIONS.end();
/// The same.
pub(super) const STREAMS: RangeInclusive<u64> = CONNECTIONS_PER_ADDRESS;
/// Nothing else limits it: an agent may think for days.
pub(super) const AGENT_TIMEOUT: RangeInclusive<Duration> = MOMENT..=MONTH;
/// Each call needs a connection and memory of its own.
pub(super) const AGENT_CONCURRENCY: RangeInclusive<u64> = 1..=100_000;
/// Each try needs a connection of its own.
pub(super) const CALLBACK_CONCURRENCY: RangeInclusive<u64> = 1..=10_000;
/// The lease of a try is longer by a while.
pub(super) const CALLBACK_TIMEOUT: RangeInclusive<Duration> = MOMENT..=Duration::from_secs(300);
/// With ten minutes between two.
pub(super) const CALLBACK_ATTEMPTS: RangeInclusive<u64> = 1..=1_000;
/// Turns that wait are counted, not listed.
pub(super) const DEPTH: RangeInclusive<u64> = 1..=1_000_000;
/// One carries hundreds of operations at once.
pub(super) const STORE_CONNECTIONS: RangeInclusive<u64> = 1..=256;
/// Longer than a lease nobody waits.
pub(super) const STORE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);
/// Renewed every third of it: less than a second would be lost to a slow disk.
pub(super) const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=LEASE_MAX;
/// More would repeat a turn that kills its process for days.
pub(super) const ATTEMPTS: RangeInclusive<u64> = 1..=1_000;
/// The store holds a message back for so long at most.
pub(super) const RETRY_AFTER: RangeInclusive<Duration> = MOMENT..=RETRY_DELAY_MAX;
/// A repeated client message id is recognised for as long as its turn is kept.
pub(super) const RETENTION: RangeInclusive<Duration> = Duration::from_secs(1)..=DEDUP_WINDOW_MAX;
/// What TOML can write.
pub(super) const RETAINED_TURNS: RangeInclusive<u64> = 1..=i64::MAX as u64;
/// A process that stops is waited for at most a day.
pub(super) const DRAIN: RangeInclusive<Duration> = MOMENT..=Duration::from_secs(24 * 3600);
/// Load balancers look every few seconds.
pub(super) const LINGER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);
/// Far more than pays.
pub(super) const THREADS: RangeInclusive<u64> = 1..=256;

/// A second has so many requests at most, far more than one process answers. 0 is no limit.
pub(super) const RATE: RangeInclusive<u64> = 0..=1_000_000;
/// Every key is compared with what a request shows.
pub(super) const KEYS_MAX: usize = 1_000;
/// A key that was chosen by hand is at least as long when others can reach the port.
pub(super) const OPEN_KEY_BYTES_MIN: usize = 16;

/// The shortest time that is one: clocks here count milliseconds.
const MOMENT: Duration = Duration::from_millis(1);
/// Thirty days.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

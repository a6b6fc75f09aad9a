//! Every limit of the storage contract, by name. A batch that breaks one is
//! `Invalid` before anything changes (clause Q15).

use std::time::Duration;

/// Items in one batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Bytes of one message's payload or one event's data (a 25 MB audio file in base64, and room around it).
pub const PAYLOAD_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Bytes of all headers of one message.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// What of that is left free in the messages of `at_end`, for the header that names the ended message.
pub const ENDED_HEADER_BYTES: usize = 64;
/// Bytes of an ordering key.
pub const KEY_BYTES_MAX: usize = 2_048;
/// Bytes of a dedup key.
pub const DEDUP_KEY_BYTES_MAX: usize = 2_048;
/// Bytes of an organisation's id, and of a queue's or topic's own name.
pub const NAME_BYTES_MAX: usize = 256;
/// Effects of one settlement.
pub const EFFECTS_MAX: usize = 64;
/// Effects a message carries for the case that the store itself ends it.
pub const AT_END_EFFECTS_MAX: usize = 8;
/// Highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u8 = 9;
/// Messages one claim may lease.
pub const CLAIM_LIMIT_MAX: u32 = 1_000;
/// Things of each kind that time has brought and one operation notices in passing: messages past their time,
/// leases that ran out, messages that fell due. A claim ends as many again when it meets them as heads. The
/// rest waits for the operations behind it and for `sweep`.
pub const TICK_ITEMS_MAX: usize = 1_000;
/// Rows one list or read may return.
pub const LIST_LIMIT_MAX: u32 = 1_000;
/// Bytes one page of events may hold, so that neither store nor reader keeps more of a topic in memory. An
/// event that is larger stands alone on its page.
pub const READ_BYTES_MAX: usize = 1024 * 1024;
/// Longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Longest retry delay.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest dedup window.
pub const DEDUP_WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most attempts a message may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000_000;
/// Bytes of a reason kept with a retry or dead letter.
pub const REASON_BYTES_MAX: usize = 4_096;
/// Bytes of an event's type.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;

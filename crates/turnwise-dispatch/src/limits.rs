//! Every limit of the way to the agent, by name.

use std::time::Duration;

/// Bytes of a whole answer. Leaves room in one stored event for what goes with it.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of one event of a stream. The last one holds the whole answer.
pub const EVENT_BYTES_MAX: usize = ANSWER_BYTES_MAX;
/// Bytes of all events of one stream.
pub const STREAM_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes read of an answer that is not a success.
pub const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Characters of the agent's own words in an error.
pub const REFUSAL_CHARS_MAX: usize = 300;
/// Events gathered while an append is on its way; then the stream is not read.
pub const GATHERED_EVENTS_MAX: usize = 256;
/// Bytes gathered while an append is on its way; one event may exceed it.
pub const GATHERED_BYTES_MAX: usize = 1024 * 1024;
/// Events stored in the same step as the end of a turn.
pub const UNSAVED_EVENTS_MAX: usize = 32;
/// Bytes stored in the same step as the end of a turn, beside its last event.
pub const UNSAVED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an event's name; a longer one is left out.
pub const EVENT_NAME_BYTES_MAX: usize = 128;
/// How long a connection may take to open; less if the agent's timeout is less.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Common servers close theirs after 5 s.
pub const IDLE_CONNECTION_TIME_MAX: Duration = Duration::from_secs(4);
/// Waiting time when the agent is busy and does not say for how long.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// Shortest waiting time an agent can ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
/// Longest waiting time an agent can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Wait at the head of its conversation of a turn, or callback, for which no file descriptor was left.
pub const DESCRIPTORS_WAIT: Duration = Duration::from_secs(1);
/// Pause between two looks at the agent's health.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long such a look may take.
pub const HEALTH_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of answers, and of callbacks made from them, in memory at once for all tries.
pub const CALLBACK_BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Answers read for callbacks at once, before it is known how large they are.
pub const CALLBACK_ANSWERS_READ_MAX: usize = 2;
/// Bytes read of what a callback's host answers. None of it is kept.
pub const CALLBACK_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the head of such an answer.
pub const CALLBACK_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of such an answer.
pub const CALLBACK_HEADERS_MAX: usize = 100;
/// How long the body of such an answer is read, within the time of the whole try.
pub const CALLBACK_BODY_TIME_MAX: Duration = Duration::from_secs(1);
/// Addresses of a host that are tried.
pub const CALLBACK_ADDRESSES_MAX: usize = 8;
/// How long one address may take to connect.
pub const CALLBACK_CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Wait before the second try of a callback; each further one is longer by the factor.
pub const CALLBACK_RETRY_FIRST: Duration = Duration::from_secs(1);
/// By how much each wait is longer than the one before.
pub const CALLBACK_RETRY_FACTOR: u32 = 4;
/// Longest wait between two tries, also if the host asks for more.
pub const CALLBACK_RETRY_MAX: Duration = Duration::from_secs(600);
/// A wait is shorter or longer by up to this part, so that hosts are not met by all at once.
pub const CALLBACK_JITTER_PART: f64 = 0.25;
/// A host that takes longer than this is slow.
pub const CALLBACK_SLOW_AFTER: Duration = Duration::from_secs(1);
/// Tries at once that a slow host gets.
pub const CALLBACK_SLOW_HOST_SLOTS: u32 = 2;
/// Callbacks leased and held until a slot of their host is free.
pub const CALLBACKS_HELD_MAX: usize = 64;
/// Longest time one is held so; then it goes back to the store for a while.
pub const CALLBACK_HELD_TIME_MAX: Duration = Duration::from_secs(1);
/// For how long, at least.
pub const CALLBACK_DEFERRED_MIN: Duration = Duration::from_secs(1);
/// More for each other that went back for the same host.
pub const CALLBACK_DEFERRED_STEP: Duration = Duration::from_millis(10);
/// For how long, at most.
pub const CALLBACK_DEFERRED_MAX: Duration = Duration::from_secs(30);
/// Hosts of which it is remembered that they are slow.
pub const CALLBACK_HOSTS_MAX: usize = 1_024;
/// Pause before an end that the store did not take is offered again.
pub const FINISH_PAUSE: Duration = Duration::from_millis(200);
/// Pause after the store failed to hand out turns.
pub const CLAIM_PAUSE: Duration = Duration::from_millis(500);
/// Turns asked for at once.
pub const CLAIM_TURNS_MAX: u32 = 256;
/// How long turns given back at shutdown may take to be stored.
pub const RELEASE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long connections to the agent may take to close at the end.
pub const CLOSE_TIME_MAX: Duration = Duration::from_millis(200);

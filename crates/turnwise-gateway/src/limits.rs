//! Every limit of the inbound side, by name.

use crate::ws::framing::CloseCode;
use std::time::Duration;

/// Connections served at once unless configured.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// Connections of one address unless configured: a person needs a handful, a
/// company behind one address some hundreds.
pub(crate) const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Open event streams and WebSocket connections unless configured: fewer than connections, so that other requests find one.
pub(crate) const STREAMS_MAX: usize = 12_288;
/// Seconds after which who found no room for a stream should come back.
pub(crate) const STREAMS_RETRY_SECONDS: u32 = 5;
/// Connections beyond those that are told so at once; others are closed without a word.
pub(crate) const CROWDED_TOLD_MAX: usize = 64;
/// Time for such a connection to ask before it is closed.
pub(crate) const CROWDED_TIME_MAX: Duration = Duration::from_secs(1);
/// Time for the head of a request to arrive unless configured.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Time between two requests on one connection unless configured.
pub(crate) const KEEP_ALIVE_MAX: Duration = Duration::from_secs(75);
/// Bytes of a request line.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a method.
pub(crate) const METHOD_BYTES_MAX: usize = 32;
/// Bytes of the head of a request.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Fields in the head of a request, and in the trailers of its body.
pub(crate) const FIELD_LINES_MAX: usize = 64;
/// Bytes of the line before a chunk, with its extensions.
pub(crate) const CHUNK_LINE_BYTES_MAX: usize = 1_024;
/// Bytes of the trailers of a body.
pub(crate) const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes read ahead of what has been used of a connection; holds a head.
pub(crate) const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Pause after the listener could not accept, for example for want of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time without progress while something waits to be written to a client, unless configured.
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Bytes that wait in the kernel for a client that reads slowly.
pub(crate) const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// How long a client that is still sending is listened to after our last
/// answer, so that it can read it.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes that are read and forgotten in that time.
pub(crate) const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// For the bytes of the last answers after the drain.
pub(crate) const LAST_WORD: Duration = Duration::from_millis(500);
/// How long who waits for a turn, or reads along, looks for its end once no call runs any more.
pub(crate) const CLOSING_LOOK: Duration = Duration::from_millis(40);

/// Bytes of a body unless configured.
pub(crate) const BODY_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Longest pause inside a body unless configured.
pub(crate) const BODY_IDLE_MAX: Duration = Duration::from_secs(30);
/// Time for a whole body to arrive unless configured.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(120);
/// Bodies up to this many bytes are not counted against [`LARGE_BODIES_BYTES_MAX`].
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all larger bodies held at once.
pub(crate) const LARGE_BODIES_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Answers, and pieces of streams, up to this many bytes are not counted against [`LARGE_ANSWERS_BYTES_MAX`].
pub(crate) const SMALL_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all longer ones that wait for their readers, unless configured.
pub(crate) const LARGE_ANSWERS_BYTES_MAX: usize = 512 * 1024 * 1024;
/// One key's answers hold at most one part in so many of that room.
pub(crate) const ANSWERS_SHARE_OF_KEY: usize = 4;
/// A large body's share of those grows with what has arrived, by at least this many bytes.
pub(crate) const LARGE_BODY_STEP_BYTES: usize = 256 * 1024;

/// Route templates with series of their own in `/metrics`.
pub(crate) const ROUTES_COUNTED_MAX: usize = 64;

/// Bytes of a user's, chat's, organisation's or client message's id.
pub(crate) const ID_BYTES_MAX: usize = 256;
/// Bytes of a client id.
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 64;
/// Bytes of a message's text; recordings have a limit of their own.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a recording after decoding.
pub(crate) const AUDIO_BYTES_MAX: usize = 25 * 1000 * 1000;
/// Bytes of a format, a speaker's name or a language.
pub(crate) const LABEL_BYTES_MAX: usize = 256;
/// Bytes of `metadata`.
pub(crate) const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request id that is taken over.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 128;
/// Longest wait a request may ask for with `Prefer: wait`.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(600);
/// Longest wait for a running turn to stop before `stopping` is answered instead of its end.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(1);

/// Conversations whose rate is known at once, twice over; with more, the oldest are forgotten.
pub(crate) const METERS_MAX: usize = 100_000;

/// Time in which a ticket is used for the first time.
pub(crate) const TICKET_FIRST_USE_MAX: Duration = Duration::from_secs(30);
/// Time for which a ticket that was used opens its stream again.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Time after its reader had the end of the stream for which a ticket still gets the last words again.
pub(crate) const TICKET_LAST_WORDS: Duration = Duration::from_secs(30);
/// Tickets that are out at once.
pub(crate) const TICKETS_MAX: usize = 100_000;
/// Of these, those that one key has made.
pub(crate) const TICKETS_PER_KEY_MAX: usize = 50_000;
/// Least time between two searches for tickets that are over, while there are too many.
pub(crate) const TICKET_SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Silence on an event stream before a comment is sent.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Onlookers of `/api/v1/tail` at once.
pub(crate) const ONLOOKERS_MAX: usize = 64;
/// What `retry:` tells a reader of an event stream.
pub(crate) const RECONNECT_MS: u32 = 2_000;
/// The same when the node goes away: the least, and over how many more its readers are spread.
pub(crate) const RECONNECT_SPREAD_MS: (u32, u32) = (500, 2_000);
/// Bytes of events gathered into one write, unless a single one is longer.
pub(crate) const STREAM_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of an event's name on the wire.
pub(crate) const EVENT_NAME_BYTES_MAX: usize = 128;
/// Callbacks in one page of a list.
pub(crate) const CALLBACKS_PAGE_MAX: u32 = 100;
/// The same when nothing is asked for.
pub(crate) const CALLBACKS_PAGE_USUAL: u32 = 50;
/// Ids in one redrive.
pub(crate) const CALLBACKS_NAMED_MAX: usize = 1_000;
/// Bytes of a topic's name, and of a pattern of such.
pub(crate) const TOPIC_NAME_BYTES_MAX: usize = 128;
/// Bytes of an event's type; the store's limit for types is a little more.
pub(crate) const EVENT_TYPE_BYTES_MAX: usize = 120;
/// Bytes of an event's data, or of a whole CloudEvent: a page of events holds it.
pub(crate) const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Events in one publish.
pub(crate) const EVENTS_PUBLISHED_MAX: usize = 1_000;
/// Attributes of a CloudEvent.
pub(crate) const CLOUDEVENT_ATTRIBUTES_MAX: usize = 64;
/// Bytes of a CloudEvent's source, and of each other attribute that is named in the specification.
pub(crate) const CLOUDEVENT_SOURCE_BYTES_MAX: usize = 1_024;
/// Events or topics in one page.
pub(crate) const TOPIC_PAGE_MAX: u32 = 1_000;
/// The same when nothing is asked for.
pub(crate) const TOPIC_PAGE_USUAL: u32 = 100;
/// Topics and patterns of one subscription.
pub(crate) const PATTERNS_MAX: usize = 64;
/// Longest age that a topic's events may be given: a hundred years.
pub(crate) const RETENTION_AGE_SECONDS_MAX: u64 = 100 * 365 * 24 * 3_600;
/// Most events, or bytes, that a topic may be given.
pub(crate) const RETENTION_SIZE_MAX: u64 = 1 << 53;

/// Bytes of a message from a WebSocket client, unless configured: an event fits in, with what is around it.
pub(crate) const WS_FRAME_BYTES_MAX: usize = 1024 * 1024 + 16 * 1024;
/// Time between two pings on a WebSocket.
pub(crate) const WS_PING_EVERY: Duration = Duration::from_secs(30);
/// Time after a client's last frame when its connection is closed.
pub(crate) const WS_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Time for a close frame to be taken, and answered.
pub(crate) const WS_CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes read from a WebSocket at once.
pub(crate) const WS_READ_BYTES: usize = 4 * 1024;
/// Bytes of answers that wait for a client before it is asked to read them: nothing more is heard of it until then.
pub(crate) const WS_ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// Requests of one WebSocket connection that wait for their answers.
pub(crate) const WS_REQUESTS_MAX: usize = 64;
/// Bytes of the id that a client gives a frame.
pub(crate) const FRAME_ID_BYTES_MAX: usize = 128;
/// Close codes with series of their own in `/metrics`.
pub(crate) const WS_CLOSES_COUNTED: [CloseCode; 11] = [
    CloseCode::GoingAway,
    CloseCode::Protocol,
    CloseCode::Unsupported,
    CloseCode::NotUtf8,
    CloseCode::TooLong,
    CloseCode::Internal,
    CloseCode::Full,
    CloseCode::Unauthorized,
    CloseCode::Forbidden,
    CloseCode::Silent,
    CloseCode::TooSlow,
];
/// Connections in one page of a list.
pub(crate) const CONNECTIONS_PAGE_MAX: u64 = 1_000;
/// The same when nothing is asked for.
pub(crate) const CONNECTIONS_PAGE_USUAL: u64 = 100;

/// Fields of one object in a request about work queues, and headers of a message.
pub(crate) const FORM_FIELDS_MAX: usize = 32;
/// Mistakes named in one answer about work queues.
pub(crate) const ERRORS_NAMED_MAX: usize = 20;
/// Bytes of an unknown field's name that are told back.
pub(crate) const FIELD_NAME_BYTES_TOLD: usize = 64;
/// Messages in one batch, receipts in one batch, and ids in one redrive.
pub(crate) const QUEUE_BATCH_MAX: usize = 1_000;
/// Bytes of a message's payload in a work queue.
pub(crate) const QUEUE_PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a message's headers in a work queue; the store's limit leaves room for the broker's own.
pub(crate) const QUEUE_HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a header's name.
pub(crate) const QUEUE_HEADER_NAME_BYTES_MAX: usize = 128;
/// Bytes of a reason.
pub(crate) const REASON_BYTES_MAX: usize = 1_024;
/// Attempts a message may ask for.
pub(crate) const QUEUE_ATTEMPTS_MAX: u64 = 1_000;
/// The furthest a message may be put off, and the longest it may be kept: 366 days.
pub(crate) const QUEUE_TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Messages one claim may take.
pub(crate) const CLAIM_MESSAGES_MAX: u32 = 100;
/// How long a claim may wait.
pub(crate) const CLAIM_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a lease lasts that nothing else is asked for.
pub(crate) const LEASE_USUAL: Duration = Duration::from_secs(30);
/// The shortest time that is one: less is none to the clocks here.
pub(crate) const MOMENT: Duration = Duration::from_millis(1);
/// The slowest a queue may be handed out: one message in about a quarter of an hour.
pub(crate) const RATE_MIN: f64 = 0.001;
/// The fastest that is a limit at all, in messages a second.
pub(crate) const RATE_MAX: f64 = 1_000_000.0;
/// The most messages in hand at once that a policy may name.
pub(crate) const QUEUE_CONCURRENCY_NAMED_MAX: u64 = 1_000_000;
/// The most messages a policy may allow a queue; less than that holds for all queues together.
pub(crate) const QUEUE_MESSAGES_NAMED_MAX: u64 = 1_000_000_000;
/// Queues or messages in one page of a list.
pub(crate) const QUEUE_PAGE_MAX: u32 = 100;
/// The same when nothing is asked for.
pub(crate) const QUEUE_PAGE_USUAL: u32 = 50;
/// Bytes of the content of a message between agents.
pub(crate) const BUS_CONTENT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of what is carried along with it.
pub(crate) const BUS_METADATA_BYTES_MAX: usize = 8 * 1024;
/// How far ahead it may be told to expire.
pub(crate) const BUS_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Deliveries of it that may be asked for.
pub(crate) const BUS_ATTEMPTS_MAX: u64 = 100;
/// Agents that one message leaves out.
pub(crate) const BUS_EXCLUDED_MAX: usize = 100;
/// How long the sender of a request may wait for its answer.
pub(crate) const BUS_REPLY_WAIT_MAX: Duration = Duration::from_secs(120);
/// Recipients told of one message.
pub(crate) const BUS_RECIPIENTS_TOLD_MAX: u32 = 1_000;

/// Bytes of one append to a stream, and of what a stream begins with.
pub(crate) const STREAM_APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a stream's name: what stands behind `/streams/`.
pub(crate) const STREAM_NAME_BYTES_MAX: usize = 256;
/// Bytes of a content type, a producer's id, or a writer's sequence.
pub(crate) const STREAM_LABEL_BYTES_MAX: usize = 256;
/// Longest time to live of a stream, and how far ahead it may end: a hundred years.
pub(crate) const STREAM_TTL_SECONDS_MAX: u64 = 100 * 365 * 24 * 3_600;
/// Greatest epoch and sequence of a producer: those that JavaScript counts with.
pub(crate) const PRODUCER_NUMBER_MAX: u64 = (1 << 53) - 1;
/// How long a long-poll waits for something to come.
pub(crate) const LONG_POLL_MAX: Duration = Duration::from_secs(20);
/// How long a stream is followed on one connection by server-sent events.
pub(crate) const STREAM_SSE_TIME: Duration = Duration::from_secs(60);
/// A cursor stands for so long a time.
pub(crate) const CURSOR_INTERVAL: Duration = Duration::from_secs(20);
/// A reader that brings its cursor back within that time gets one that is later by at most so many.
pub(crate) const CURSOR_STEPS_MAX: u64 = 180;
/// The organisation of streams on a server without keys, unless one is named.
pub(crate) const STREAM_ORG_USUAL: &str = "default";

//! Every limit of the broker, by name.

use std::time::Duration;
use turnwise_core::Timestamp;

/// How long another node waits for one that keeps house and is gone.
pub(crate) const DUTY_LEASE: Duration = Duration::from_secs(15);
/// Known orgs read at start per page.
pub(crate) const ORGS_PAGE: u32 = 1_000;
/// Orgs one store knows unless configured; they are never forgotten.
pub(crate) const ORGS_MAX: usize = 100_000;
/// Orgs one question about a user's queues may go through.
pub(crate) const ORGS_ASKED_MAX: usize = 1_000;
/// Events read from a reply topic at a time.
pub(crate) const EVENTS_PAGE: u32 = 256;
/// Events read ahead of a reader: what one that stops may hold. A page is bounded in bytes, too.
pub(crate) const FOLLOWED_PAGE: u32 = 32;
/// Queues listed at a time when the store is asked without a hint.
pub(crate) const QUEUES_PAGE: u32 = 1_000;
/// Ended turns whose clients may be waiting are remembered for this many submissions.
pub(crate) const FRESH_MAX: usize = 65_536;
/// Turns remembered that ended before their submission was known to be stored.
pub(crate) const OVER_MAX: usize = 4_096;
/// Signals a slow listener may fall behind; it then asks the store.
pub(crate) const SIGNALS_KEPT: usize = 8;
/// Bytes of events handed to listeners in one signal; they read more from the store.
pub(crate) const HANDED_OVER_BYTES_MAX: usize = 64 * 1024;
/// Places worth telling a waiting reader about.
pub(crate) const POSITION_PLACES_MAX: u64 = 100;
/// Steps of turns kept for onlookers that are slower than the turns.
pub(crate) const NEWS_KEPT: usize = 1_024;
/// Events read at a time for a timeline. Few: what comes after the first of the answer is not needed.
pub(crate) const TIMELINE_PAGE: u32 = 16;
/// Steps of calls that found the agent busy in one timeline; later ones are left out.
pub(crate) const TIMELINE_STEPS_MAX: usize = 256;
/// Text put together for a turn without a whole answer.
pub(crate) const PARTIAL_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of an agent's own event name that are kept; the store's limit minus our prefix.
pub(crate) const EVENT_NAME_BYTES_MAX: usize = 100;
/// Longer trace contexts are not carried (W3C: 55 bytes today).
pub(crate) const TRACEPARENT_BYTES_MAX: usize = 256;
/// Unsaved events that fit beside the others of a settlement.
pub(crate) const UNSAVED_IN_SETTLEMENT_MAX: usize = 56;
/// Shortest wait before a busy agent is tried again.
pub(crate) const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
/// How long parts of an answer are kept and tried again while the store says that it stored nothing.
pub(crate) const APPEND_PATIENCE: Duration = Duration::from_secs(10);
/// First wait between those tries, and the longest.
pub(crate) const APPEND_BACKOFF: Duration = Duration::from_millis(50);
/// See [`APPEND_BACKOFF`].
pub(crate) const APPEND_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Times a settlement is repeated when the store did not confirm.
pub(crate) const SETTLE_TRIES_MAX: u32 = 5;
/// First wait between those.
pub(crate) const SETTLE_BACKOFF: Duration = Duration::from_millis(100);
/// A client message id may outlive this many dropped turns.
pub(crate) const DEDUP_GENERATIONS_MAX: usize = 16;
/// Bytes of a callback URL.
pub(crate) const CALLBACK_URL_BYTES_MAX: usize = 2_048;
/// Ports of callback URLs whose host the operator has not listed.
pub(crate) const CALLBACK_PORTS: [u16; 2] = [443, 8443];
/// Callbacks listed, put back or dropped at a time.
pub(crate) const CALLBACKS_PAGE: u32 = 100;
/// Times a cancel, or the drop of a callback, looks again when what it is about moves under it.
pub(crate) const CANCEL_TRIES_MAX: u32 = 8;
/// Group conversations remembered per node for `GET /queue`.
pub(crate) const GROUPS_MAX: usize = 100_000;
/// Active conversations looked up in each round of the sweeper, whether they are still so.
pub(crate) const LANES_LOOKED_AT: usize = 100;
/// Conversations listed in one queue view.
pub(crate) const CONVERSATIONS_LISTED_MAX: usize = 1_000;
/// Things one sweep of the store may notice.
pub(crate) const SWEEP_LIMIT: u32 = 1_000;
/// Sweeps in a row before the sweeper pauses.
pub(crate) const SWEEPS_IN_A_ROW_MAX: u32 = 100;
/// Topics listed or dropped at a time.
pub(crate) const TOPICS_PAGE: u32 = 1_000;
/// Turns looked at at a time when conversations are counted after a start. Few: a page brings their requests along.
pub(crate) const RECOUNT_PAGE: u32 = 16;
/// Such pages in one round of the sweeper.
pub(crate) const RECOUNT_PAGES_A_ROUND: u32 = 500;
/// Dead letters looked at at a time. Few, for the same reason.
pub(crate) const DEAD_PAGE: u32 = 8;
/// How often retention is enforced.
pub(crate) const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// How long a dedup key of a public event is known.
pub(crate) const TOPIC_DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Events that all subscriptions of an org read together at a time.
pub(crate) const FEED_PAGE: u32 = 256;
/// Pages of them kept for who is a little slower.
pub(crate) const FEED_STRETCHES_MAX: usize = 64;
/// Their bytes: at least those of one page.
pub(crate) const FEED_BYTES_MAX: usize = 1024 * 1024;
/// Of them, a reader takes about so many at once.
pub(crate) const STRETCHES_BYTES_TAKEN: usize = 16 * 1024;
/// Pages in a row without an event after which a store that never stands still was read to its end.
pub(crate) const FEED_EMPTY_PAGES_MAX: u32 = 3;
/// Readers that are woken at once for what is new. More of them cost fewer rounds, and a later look at what came
/// meanwhile.
pub(crate) const BELL_READERS: usize = 32;
/// Events that a subscription which is behind reads ahead of its reader.
pub(crate) const SUBSCRIBED_PAGE: u32 = 32;
/// First wait for an event that was hinted at and is not to be seen yet.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Changes of a subscription that wait for it.
pub(crate) const CHANGES_WAITING_MAX: usize = 4;
/// What a subscription remembers of what it has handed out, while it reads the same stretch again for others.
pub(crate) const REPLAYS_MAX: usize = 256;
/// Silence after which a subscriber is told the place it has come to.
pub(crate) const PLACE_INTERVAL: Duration = Duration::from_secs(15);
/// Unless it is said otherwise, events of a topic that are older than this go.
pub(crate) const TOPIC_AGE_USUAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// With more of them, the oldest go.
pub(crate) const TOPIC_EVENTS_USUAL: u64 = 1_000_000;
/// With more of their bytes, the oldest go.
pub(crate) const TOPIC_BYTES_USUAL: u64 = 1024 * 1024 * 1024;
/// Topics of one org of which it may be said otherwise.
pub(crate) const RETENTIONS_PER_ORG_MAX: usize = 10_000;
/// Topics whose oldest events are looked at in one round of retention; the next one goes on behind them.
pub(crate) const TOPICS_LOOKED_AT: u32 = 10_000;
/// Events of a topic read at a time to find those that go.
pub(crate) const RETENTION_PAGE: u32 = 256;
/// Such pages of one topic in one round.
pub(crate) const RETENTION_PAGES_MAX: u32 = 64;
/// Topics of a subscription that are asked whether they lost something; with more, a gap of the org is one of theirs.
pub(crate) const GAP_TOPICS_MAX: u32 = 64;
/// Pages without an event of its own that are read for one of them.
pub(crate) const GAP_PAGES_MAX: u32 = 16;
/// Messages all work queues hold at most: each takes some hundred bytes of memory, wherever its payload is.
pub(crate) const QUEUE_MESSAGES_MAX: u64 = 1_000_000;
/// The same of one org.
pub(crate) const ORG_QUEUE_MESSAGES_MAX: u64 = 500_000;
/// Work queues of one org that hold messages at once, or did a minute ago.
pub(crate) const ORG_QUEUES_MAX: u64 = 10_000;
/// Bytes of a work queue's name.
pub(crate) const QUEUE_NAME_BYTES_MAX: usize = 128;
/// Work queues of one org for which something is set.
pub(crate) const SET_QUEUES_MAX: usize = 1_000;
/// Events about set queues that are not in force any more; with more, their topic is written anew.
pub(crate) const SET_EVENTS_STALE_MAX: usize = 4_096;
/// Events about set queues read at a time.
pub(crate) const SET_EVENTS_PAGE: u32 = 256;
/// How long a repeated message of a work queue is recognised.
pub(crate) const QUEUE_DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Work queues counted in one round of the sweeper; with more, each is counted in its turn.
pub(crate) const QUEUES_COUNTED_A_ROUND: usize = 256;
/// The rates of a work queue are those of about this time.
pub(crate) const RATE_WINDOW: Duration = Duration::from_secs(10);
/// A work queue that is empty and at rest is not counted any more after this.
pub(crate) const QUEUE_AT_REST: Duration = Duration::from_secs(60);
/// Messages of a work queue that one request to redrive or purge looks at.
pub(crate) const QUEUE_LOOKED_AT_MAX: usize = 100_000;
/// How long a redrive at a rate goes on in one request.
pub(crate) const REDRIVE_PACED_MAX: Duration = Duration::from_secs(20);
/// Messages of a work queue listed at a time: a page brings their payloads along, so it grows only while they are
/// short.
pub(crate) const QUEUE_PAGE_MIN: u32 = 16;
/// How far it grows.
pub(crate) const QUEUE_PAGE_MAX: u32 = 512;
/// And while a page has no more bytes than this.
pub(crate) const QUEUE_PAGE_BYTES: usize = 1024 * 1024;
/// How often a node checks its store.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The same after a check that failed.
pub(crate) const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// A check that takes longer has failed.
pub(crate) const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// A check that takes longer than this is degraded.
pub(crate) const CHECK_DEGRADED: Duration = Duration::from_millis(50);
/// And unhealthy, if longer than this.
pub(crate) const CHECK_UNHEALTHY: Duration = Duration::from_millis(200);
/// Times of each check that are remembered.
pub(crate) const CHECKS_KEPT: usize = 100;
/// Events of checks that stay: those of other nodes are read before they go.
pub(crate) const PROBES_KEPT: u64 = 64;
/// Events that the bus reads from a topic of its own at a time.
pub(crate) const BUS_PAGE: u32 = 256;
/// Agents of one organisation that the bus knows.
pub(crate) const AGENTS_PER_ORG_MAX: usize = 10_000;
/// Connections of one node.
pub(crate) const LINKS_MAX: usize = 20_000;
/// Connections of one agent on one node.
pub(crate) const AGENT_LINKS_MAX: usize = 64;
/// Workspaces of one agent; with more, the one it was not seen in for longest is left.
pub(crate) const AGENT_WORKSPACES_MAX: usize = 64;
/// Topics and patterns whose messages one agent gets.
pub(crate) const AGENT_TOPICS_MAX: usize = 64;
/// Messages in one inbox, dead letters included.
pub(crate) const INBOX_MESSAGES_MAX: u64 = 10_000;
/// Messages that one connection holds without having settled them.
pub(crate) const INBOX_WINDOW_MAX: u32 = 100;
/// Messages taken from an inbox at a time for connections.
pub(crate) const INBOX_CLAIM_MAX: u32 = 16;
/// Bytes of messages that wait for the reader of one connection; a claim may add to them once.
pub(crate) const LINK_BYTES_MAX: usize = 1024 * 1024;
/// Live messages, receipts and presence that wait for it.
pub(crate) const LINK_EVENTS_MAX: usize = 1_024;
/// How long a connected agent has a message before the lease is extended again.
pub(crate) const LINK_LEASE: Duration = Duration::from_secs(30);
/// How often an inbox is asked for connections when no hint comes. The sweeper rings for those that hold anything.
pub(crate) const INBOX_POLL: Duration = Duration::from_secs(30);
/// How long an agent is remembered that is not heard of, with its workspaces.
pub(crate) const AGENT_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a message waits in an inbox unless it is said otherwise.
pub(crate) const BUS_TTL_USUAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Deliveries of a message of the bus unless it is said otherwise.
pub(crate) const BUS_ATTEMPTS_USUAL: u32 = 5;
/// How long the receipts of a message are kept after it could last be delivered.
pub(crate) const RECEIPTS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a dead letter stays in an inbox.
pub(crate) const INBOX_DEAD_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long what agents are told live can be read by a node that is behind.
pub(crate) const LIVE_KEPT: Duration = Duration::from_secs(60);
/// Recipients in one event.
pub(crate) const ADDRESSED_PAGE: usize = 256;
/// How often a node that has connections says that it lives.
pub(crate) const NODE_BEAT: Duration = Duration::from_secs(4);
/// Beats left out after which it is gone.
pub(crate) const NODE_BEATS_MISSED: u32 = 4;
/// Events about agents beyond four for each; with more they are written anew.
pub(crate) const ROSTER_EVENTS_STALE_MAX: u64 = 4_096;
/// An organisation whose agents nobody asked about for so long is read again when somebody does.
pub(crate) const ROOM_AT_REST: Duration = Duration::from_secs(600);
/// Bytes of the head of a stream's step: room for all that is to be known of a stream.
pub(crate) const STREAM_HEAD_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one stream, with what it inherited.
pub(crate) const STREAM_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Streams of one org at once; about, for they are counted now and then.
pub(crate) const STREAMS_PER_ORG_MAX: u64 = 100_000;
/// How long such a count is good for, and how long when it says that there are too many.
pub(crate) const STREAMS_COUNTED_FOR: Duration = Duration::from_secs(60);
/// See [`STREAMS_COUNTED_FOR`].
pub(crate) const STREAMS_FULL_FOR: Duration = Duration::from_secs(5);
/// Producers of a stream whose place is known.
pub(crate) const STREAM_PRODUCERS_MAX: usize = 256;
/// Silence after which a producer may be forgotten when there are more.
pub(crate) const STREAM_PRODUCER_IDLE: Duration = Duration::from_secs(3600);
/// Forks of one stream.
pub(crate) const STREAM_FORKS_MAX: usize = 256;
/// Streams whose parts one fork is made of.
pub(crate) const STREAM_SEGMENTS_MAX: usize = 16;
/// Streams looked at to find out whether a deleted one is still needed; beyond that it is.
pub(crate) const STREAM_FORKS_LOOKED_AT: u32 = 1_024;
/// How long a fork that was announced to its source may take to be there.
pub(crate) const STREAM_FORK_PENDING: Duration = Duration::from_secs(60);
/// Streams whose state a node remembers.
pub(crate) const STREAMS_KNOWN_MAX: usize = 4_096;
/// How long what a node remembers of a stream need not be read from the beginning again. Shorter than
/// [`STREAM_GRACE`]: in that time no stream ends and has its topic dropped.
pub(crate) const STREAM_KNOWN_FOR: Duration = Duration::from_secs(10);
/// How long the topic of a stream that is over, or was deleted, is kept.
pub(crate) const STREAM_GRACE: Duration = Duration::from_secs(60);
/// How long a slot that was taken is known to be. Shorter than [`STREAM_GRACE`]: the next topic of this name has the
/// same slots.
pub(crate) const STREAM_SLOT_WINDOW: Duration = Duration::from_secs(30);
/// The year 2100: what is kept until then is the sweeper's to drop, not the store's.
pub(crate) const STREAM_KEPT_FOR_EVER: Timestamp = Timestamp(4_102_444_800_000_000);
/// Steps of a stream read at a time.
pub(crate) const STREAM_STEPS_PAGE: u32 = 1_000;
/// Steps of a stream after which all that is to be known of it is written once more.
pub(crate) const STREAM_WHOLE_EVERY: u64 = 64;
/// The same in bytes.
pub(crate) const STREAM_WHOLE_BYTES: usize = 1024 * 1024;
/// Void steps that are passed over on the way back to one that counts.
pub(crate) const STREAM_VOIDS_MAX: u64 = 1_024;
/// Times a step is tried again because another writer was faster.
pub(crate) const STREAM_TRIES_MAX: u32 = 64;
/// Times it is repeated while the store does not confirm.
pub(crate) const STREAM_CONFIRM_TRIES: u32 = 4;
/// Pages without bytes that are read on the way to the next ones.
pub(crate) const STREAM_EMPTY_PAGES_MAX: u32 = 16;
/// Bytes of a page of a stream; one append that is longer stands alone.
pub(crate) const STREAM_PAGE_BYTES: usize = 1024 * 1024;

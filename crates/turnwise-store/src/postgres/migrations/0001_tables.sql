-- The tables of one store, in a schema of its own. Times are microseconds, as everywhere in Turnwise.

-- Places of messages in their lanes, and the numbers in message ids: one sequence, never the time.
CREATE SEQUENCE places AS bigint;
-- The newest token of a lease.
CREATE SEQUENCE tokens AS bigint MINVALUE 0 START 0;

-- One row: which server this data belongs to, and what readers' positions are good for.
CREATE TABLE meta (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch      bigint NOT NULL,
    system_id  text NOT NULL,
    timeline   text NOT NULL,
    -- Added to transaction numbers, so that positions rise through a move to another server.
    step_base  bigint NOT NULL DEFAULT 0
);

CREATE TABLE queue (
    id   bigint PRIMARY KEY,
    org  text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    UNIQUE (org, kind, name)
);

-- The messages of one key, or one message without a key, that are ready or leased. The row is the lock of
-- all that happens to them, and holds the one lease there can be: a second has no place to be written.
CREATE TABLE lane (
    id           bigint PRIMARY KEY,
    queue_id     bigint NOT NULL,
    key          bytea,
    length       bigint NOT NULL CHECK (length > 0),
    -- The first message, and what a claim asks about it.
    head         bigint NOT NULL,
    priority     smallint NOT NULL,
    place        bigint NOT NULL,
    -- The highest place in it: the next message goes behind.
    tail         bigint NOT NULL,
    max_attempts integer NOT NULL,
    expires_at   bigint,
    -- Its state. Only a head has one.
    attempt      integer NOT NULL DEFAULT 0,
    not_before   bigint,
    token        bigint,
    until        bigint,
    stop         boolean NOT NULL DEFAULT false
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX lane_key ON lane (queue_id, key) WHERE key IS NOT NULL;
-- Q3 once more: a message has at most one lease.
CREATE UNIQUE INDEX lane_lease ON lane (queue_id, head) WHERE until IS NOT NULL;
CREATE INDEX lane_claim ON lane (queue_id, priority DESC, place) WHERE until IS NULL AND not_before IS NULL;
CREATE INDEX lane_until ON lane (until) WHERE until IS NOT NULL;
CREATE INDEX lane_delay ON lane (not_before) WHERE not_before IS NOT NULL;

CREATE TABLE message (
    seq          bigint PRIMARY KEY,
    nonce        bigint NOT NULL,
    queue_id     bigint NOT NULL,
    key          bytea,
    -- 0 scheduled, 1 ready or leased, 3 dead.
    stage        smallint NOT NULL,
    -- Where it stands while its stage is 1.
    lane         bigint,
    place        bigint NOT NULL,
    priority     smallint NOT NULL,
    max_attempts integer NOT NULL,
    -- Of a dead letter. A head's is in its lane.
    attempt      integer NOT NULL DEFAULT 0,
    enqueued_at  bigint NOT NULL,
    deliver_at   bigint,
    expires_at   bigint,
    reason       bytea,
    -- The message whose end put this one.
    ended_seq    bigint,
    ended_nonce  bigint,
    -- Headers and payload. Only Rust looks inside.
    body         bytea NOT NULL,
    -- Effects for the case that the store ends it.
    at_end       jsonb
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE message ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX message_lane ON message (lane, place) WHERE lane IS NOT NULL;
CREATE INDEX message_stage ON message (queue_id, stage, seq);
CREATE INDEX message_due ON message (deliver_at, seq) WHERE stage = 0;
CREATE INDEX message_due_key ON message (queue_id, key, deliver_at, seq) WHERE stage = 0 AND key IS NOT NULL;
CREATE INDEX message_end ON message (expires_at, seq) WHERE expires_at IS NOT NULL AND stage < 2;

-- Counters of a queue: each session adds to a row of its own, so that nobody waits for anybody.
CREATE TABLE tally (
    queue_id  bigint NOT NULL,
    session   integer NOT NULL,
    enqueued  bigint NOT NULL DEFAULT 0,
    acked     bigint NOT NULL DEFAULT 0,
    removed   bigint NOT NULL DEFAULT 0,
    expired   bigint NOT NULL DEFAULT 0,
    scheduled bigint NOT NULL DEFAULT 0,
    ready     bigint NOT NULL DEFAULT 0,
    leased    bigint NOT NULL DEFAULT 0,
    dead      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue_id, session)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);

-- To find those of sessions that are over.
CREATE INDEX tally_session ON tally (session);

-- Dedup keys in use, by the digest of scope, name and key.
CREATE TABLE dedup (
    id      bytea PRIMARY KEY,
    content bytea NOT NULL,
    until   bigint NOT NULL,
    -- The first message's number and nonce, or the first event's offset.
    answer  bigint NOT NULL,
    nonce   bigint NOT NULL
);
CREATE INDEX dedup_until ON dedup (until);

-- The row is the lock of all appends to a topic: whoever holds it knows the next offset until it commits.
CREATE TABLE topic (
    id         bigint PRIMARY KEY,
    org        text COLLATE "C" NOT NULL,
    kind       smallint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    first      bigint NOT NULL DEFAULT 1,
    last       bigint NOT NULL DEFAULT 0,
    bytes      bigint NOT NULL DEFAULT 0,
    keep_until bigint,
    -- The newest event's.
    position   bigint NOT NULL DEFAULT 0,
    UNIQUE (org, kind, name)
) WITH (fillfactor = 70, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX topic_keep ON topic (keep_until) WHERE keep_until IS NOT NULL;

CREATE TABLE event (
    topic_id    bigint NOT NULL,
    at_offset   bigint NOT NULL,
    -- The number of the transaction and a number within it, and above that of the event before it in its topic:
    -- see tw_publish and tw_read_many. Two may have the same.
    position    bigint NOT NULL,
    appended_at bigint NOT NULL,
    size        integer NOT NULL,
    -- Type and data. Only Rust looks inside.
    body        bytea NOT NULL,
    PRIMARY KEY (topic_id, at_offset)
) WITH (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX event_position ON event (position);

-- The highest position that was dropped in an organisation and kind.
CREATE TABLE dropped (
    org      text COLLATE "C" NOT NULL,
    kind     smallint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (org, kind)
);

CREATE TABLE cursor (
    org          text COLLATE "C" NOT NULL,
    kind         smallint NOT NULL,
    name         text COLLATE "C" NOT NULL,
    subscription bytea NOT NULL,
    epoch        bigint NOT NULL,
    at_offset    bigint NOT NULL,
    PRIMARY KEY (org, kind, name, subscription)
);

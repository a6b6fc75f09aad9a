-- Looking without changing.

-- What is known about each message. A head's state is in its lane.
CREATE VIEW info AS
    SELECT m.queue_id, m.seq, m.nonce, m.key, m.priority, m.stage, coalesce(l.attempt, m.attempt) AS attempt,
           m.max_attempts, m.enqueued_at, CASE WHEN m.stage = 0 THEN m.deliver_at ELSE l.not_before END AS not_before,
           l.until, m.expires_at, m.reason, coalesce(l.stop, false) AS stop, m.ended_seq, m.ended_nonce, m.body
    FROM message m LEFT JOIN lane l ON l.id = m.lane AND l.head = m.seq;

CREATE FUNCTION tw_depth(p_org text, p_kind smallint, p_name text)
RETURNS TABLE (o_enqueued bigint, o_acked bigint, o_removed bigint, o_expired bigint, o_scheduled bigint,
               o_ready bigint, o_leased bigint, o_dead bigint, o_oldest bigint) LANGUAGE sql STABLE AS $$
    SELECT sum(enqueued)::bigint, sum(acked)::bigint, sum(removed)::bigint, sum(expired)::bigint,
           sum(scheduled)::bigint, sum(ready)::bigint, sum(leased)::bigint, sum(dead)::bigint,
           (SELECT i.enqueued_at FROM info i
            WHERE i.queue_id = tw_known_queue(p_org, p_kind, p_name) AND i.stage = 1 AND i.until IS NULL
            ORDER BY i.seq LIMIT 1)
    FROM tally WHERE queue_id = tw_known_queue(p_org, p_kind, p_name)
$$;

CREATE FUNCTION tw_lane_status(p_org text, p_kind smallint, p_name text, p_key bytea, p_of bigint, p_nonce bigint)
RETURNS TABLE (o_length bigint, o_head bigint, o_nonce bigint, o_place bigint, o_oldest bigint)
LANGUAGE sql STABLE AS $$
    SELECT l.length, CASE WHEN l.until IS NOT NULL THEN l.head END,
           (SELECT m.nonce FROM message m WHERE m.seq = l.head),
           (SELECT count(*) FROM message m WHERE m.lane = l.id AND m.place <= o.place),
           (SELECT m.enqueued_at FROM message m
            WHERE m.lane = l.id AND m.place >= l.place + (l.until IS NOT NULL)::int ORDER BY m.place LIMIT 1)
    FROM lane l LEFT JOIN message o ON o.seq = p_of AND o.nonce = p_nonce AND o.lane = l.id
    WHERE l.queue_id = tw_known_queue(p_org, p_kind, p_name) AND l.key = p_key
$$;

-- Names of queues where time has brought something, for a hint. Looks at no more than `p_limit` of each kind.
CREATE FUNCTION tw_due_queues(p_given bigint, p_limit int)
RETURNS TABLE (o_org text, o_kind smallint, o_name text) LANGUAGE sql STABLE AS $$
    SELECT q.org, q.kind, q.name FROM queue q WHERE q.id IN (
        (SELECT queue_id FROM lane WHERE until <= (SELECT tw_now(p_given)) ORDER BY until LIMIT p_limit)
        UNION (SELECT queue_id FROM lane WHERE not_before <= (SELECT tw_now(p_given)) ORDER BY not_before LIMIT p_limit)
        UNION (SELECT queue_id FROM message WHERE stage = 0 AND deliver_at <= (SELECT tw_now(p_given)) ORDER BY deliver_at LIMIT p_limit))
$$;

-- Which server this is: the number it was made with, and its history.
CREATE FUNCTION tw_server(OUT o_system text, OUT o_timeline text) LANGUAGE sql STABLE AS $$
    SELECT (SELECT system_identifier::text FROM pg_control_system()),
           substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
$$;

-- X5. The epoch, a new one if this is not the server it was or if `p_lost`: somebody who saw a later state of
-- this very server says that writes are gone since epoch `p_known`, and nobody has said so before.
CREATE FUNCTION tw_hello(p_lost boolean, p_known bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    s record;
    v meta;
    v_top bigint;
BEGIN
    SELECT * INTO s FROM tw_server();
    SELECT * INTO v FROM meta;
    IF v.system_id = s.o_system AND v.timeline = s.o_timeline AND NOT p_lost THEN RETURN v.epoch; END IF;
    SELECT * INTO v FROM meta FOR UPDATE;
    IF v.system_id = s.o_system AND v.timeline = s.o_timeline AND NOT (p_lost AND v.epoch <= p_known) THEN
        RETURN v.epoch;
    END IF;
    SELECT max(position) >> 17 INTO v_top FROM event;
    UPDATE meta SET epoch = greatest(v.epoch + 1, p_known + 1, tw_now(NULL)), system_id = s.o_system, timeline = s.o_timeline,
        step_base = greatest(v.step_base, coalesce(v_top, 0) + 1 - CASE WHEN v.system_id = s.o_system
            THEN pg_current_xact_id()::text::bigint ELSE 0 END)
    RETURNING epoch INTO v.epoch;
    RETURN v.epoch;
END $$;

-- What only time brings (Q6, Q7, Q8, Q10, Q14).

-- Whether time has brought anything.
CREATE FUNCTION tw_is_due(p_now bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- Each looks at the first row of its own index and at no other: ordered, and not further than now, so that rows
    -- that are gone, of which an index may be full, are not passed by.
    RETURN EXISTS (SELECT FROM lane WHERE until <= p_now ORDER BY until LIMIT 1)
        OR EXISTS (SELECT FROM lane WHERE not_before <= p_now ORDER BY not_before LIMIT 1)
        OR EXISTS (SELECT FROM message WHERE stage = 0 AND deliver_at <= p_now ORDER BY deliver_at, seq LIMIT 1)
        OR coalesce((SELECT true FROM message m LEFT JOIN lane l ON l.id = m.lane
                     WHERE m.stage < 2 AND m.expires_at <= p_now
                       AND NOT coalesce(l.head = m.seq AND l.until IS NOT NULL, false)
                     ORDER BY m.expires_at, m.seq LIMIT 1), false);
END $$;

-- Ends messages past their time, the oldest first; the queue of each.
CREATE FUNCTION tw_end_expired(p_now bigint, p_limit int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
    g record;
    m message;
    l lane;
    v_queues bigint[] := '{}';
BEGIN
    FOR v_seq IN
        SELECT c.seq FROM message c LEFT JOIN lane h ON h.id = c.lane
        WHERE c.stage < 2 AND c.expires_at <= p_now
          AND NOT coalesce(h.head = c.seq AND h.until IS NOT NULL, false)
        ORDER BY c.expires_at, c.seq LIMIT p_limit
    LOOP
        SELECT * INTO g FROM tw_grab(v_seq, true);
        m := g.m;
        l := g.l;
        CONTINUE WHEN m.seq IS NULL OR m.stage > 1 OR coalesce(l.head = m.seq AND l.until IS NOT NULL, false);
        PERFORM tw_expire(m, false, p_now);
        v_queues := v_queues || m.queue_id;
    END LOOP;
    RETURN v_queues;
END $$;

-- Ends leases that ran out, the oldest first; the queue of each.
CREATE FUNCTION tw_end_lapsed(p_now bigint, p_limit int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_id bigint;
    v_queues bigint[] := '{}';
    l lane;
BEGIN
    v_ids := ARRAY(SELECT id FROM lane WHERE until <= p_now ORDER BY until, place LIMIT p_limit
                   FOR UPDATE SKIP LOCKED);
    FOREACH v_id IN ARRAY v_ids LOOP
        SELECT * INTO l FROM lane WHERE id = v_id;
        PERFORM tw_return(l, NULL, NULL, p_now);
        v_queues := v_queues || l.queue_id;
    END LOOP;
    RETURN v_queues;
END $$;

-- Lines up what fell due, the oldest first; the queue of each. A key is lined up as a whole or not at all.
CREATE FUNCTION tw_end_waits(p_now bigint, p_limit int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_queues bigint[];
    c record;
    m message;
BEGIN
    WITH over AS (
        UPDATE lane SET not_before = NULL WHERE id = ANY (ARRAY(
            SELECT id FROM lane WHERE not_before <= p_now ORDER BY not_before, place LIMIT p_limit
            FOR UPDATE SKIP LOCKED)) RETURNING queue_id)
    SELECT coalesce(array_agg(queue_id), '{}') INTO v_queues FROM over;
    FOR c IN
        SELECT seq, queue_id, key FROM message WHERE stage = 0 AND deliver_at <= p_now
        ORDER BY deliver_at, seq LIMIT greatest(p_limit - cardinality(v_queues), 0)
    LOOP
        IF c.key IS NOT NULL THEN
            -- All of a key keep their order among themselves: another holds the lane, then another lines up.
            CONTINUE WHEN NOT EXISTS (SELECT FROM message WHERE seq = c.seq AND stage = 0);
            PERFORM 1 FROM lane WHERE queue_id = c.queue_id AND key = c.key;
            IF FOUND THEN
                PERFORM 1 FROM lane WHERE queue_id = c.queue_id AND key = c.key FOR UPDATE SKIP LOCKED;
                CONTINUE WHEN NOT FOUND;
            END IF;
            SELECT * INTO m FROM message WHERE queue_id = c.queue_id AND key = c.key AND stage = 0
                AND deliver_at <= p_now ORDER BY deliver_at, seq LIMIT 1 FOR UPDATE;
        ELSE
            SELECT * INTO m FROM message WHERE seq = c.seq AND stage = 0 FOR UPDATE SKIP LOCKED;
        END IF;
        CONTINUE WHEN m.seq IS NULL;
        PERFORM tw_tail(m);
        PERFORM tw_count(m.queue_id, 0, 0, 0, 0, -1, 1, 0, 0);
        v_queues := v_queues || m.queue_id;
    END LOOP;
    RETURN v_queues;
END $$;

-- Notices what time has brought, a limited number of each kind, so that no operation pays for a night. Answers
-- names for hints.
CREATE FUNCTION tw_tick(p_given bigint, p_limit int) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_mark bigint := nextval('places');
    v_queues bigint[];
BEGIN
    v_queues := tw_end_expired(v_now, p_limit) || tw_end_lapsed(v_now, p_limit) || tw_end_waits(v_now, p_limit);
    RETURN CASE WHEN cardinality(v_queues) = 0 THEN '{}' ELSE tw_touched(v_queues, v_mark) END;
END $$;

-- Housekeeping, at most `p_limit` things: how many there were, 0 when nothing is left, and names for hints.
CREATE FUNCTION tw_sweep(p_given bigint, p_limit int, p_events int, OUT o_count int, OUT o_hints text[])
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_mark bigint := nextval('places');
    v_queues bigint[];
    v_forgotten int;
BEGIN
    v_queues := tw_end_expired(v_now, p_limit);
    v_queues := v_queues || tw_end_lapsed(v_now, p_limit - cardinality(v_queues));
    v_queues := v_queues || tw_end_waits(v_now, p_limit - cardinality(v_queues));
    o_count := cardinality(v_queues);
    o_hints := CASE WHEN o_count = 0 THEN '{}' ELSE tw_touched(v_queues, v_mark) END;
    DELETE FROM dedup WHERE id = ANY (ARRAY(
        SELECT id FROM dedup WHERE until <= v_now ORDER BY until LIMIT p_limit - o_count FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_forgotten = ROW_COUNT;
    o_count := o_count + v_forgotten;
    o_count := o_count + tw_drop_old_topics(v_now, p_limit - o_count, p_events);
END $$;

-- Adds up the counters of sessions that are over, at most `p_limit` rows; how many.
CREATE FUNCTION tw_fold(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_live int[] := ARRAY(SELECT pid FROM pg_stat_activity);
    v_over int[];
    v_count int;
BEGIN
    -- From one session to the next in the index.
    WITH RECURSIVE s AS (
        SELECT min(session) AS session FROM tally WHERE session > 0
        UNION ALL
        SELECT (SELECT min(t.session) FROM tally t WHERE t.session > s.session) FROM s WHERE s.session IS NOT NULL)
    SELECT array_agg(session) INTO v_over FROM s WHERE session IS NOT NULL AND session <> ALL (v_live);
    WITH gone AS (
        DELETE FROM tally WHERE (queue_id, session) IN (
            SELECT queue_id, session FROM tally WHERE session = ANY (v_over)
            LIMIT p_limit FOR UPDATE SKIP LOCKED) RETURNING *
    ), sums AS (
        SELECT queue_id, sum(enqueued) enqueued, sum(acked) acked, sum(removed) removed, sum(expired) expired,
               sum(scheduled) scheduled, sum(ready) ready, sum(leased) leased, sum(dead) dead, count(*) AS many
        FROM gone GROUP BY queue_id ORDER BY queue_id
    ), added AS (
        INSERT INTO tally AS t
        SELECT queue_id, 0, enqueued, acked, removed, expired, scheduled, ready, leased, dead FROM sums
        ON CONFLICT (queue_id, session) DO UPDATE SET
            enqueued = t.enqueued + excluded.enqueued, acked = t.acked + excluded.acked,
            removed = t.removed + excluded.removed, expired = t.expired + excluded.expired,
            scheduled = t.scheduled + excluded.scheduled, ready = t.ready + excluded.ready,
            leased = t.leased + excluded.leased, dead = t.dead + excluded.dead)
    SELECT coalesce(sum(many), 0)::int INTO v_count FROM sums;
    RETURN v_count;
END $$;

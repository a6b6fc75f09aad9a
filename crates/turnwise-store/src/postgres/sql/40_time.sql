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

-- Lines up a message that fell due, or one of its key that comes before it: all of a key keep their order. False if
-- somebody else is at it.
CREATE FUNCTION tw_line_up_one(p_seq bigint, p_queue bigint, p_key bytea, p_place bigint, p_now bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_first bigint := p_seq;
    m message;
BEGIN
    IF p_key IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM message WHERE seq = p_seq AND stage = 0) THEN RETURN false; END IF;
        IF EXISTS (SELECT FROM lane WHERE queue_id = p_queue AND key = p_key) THEN
            PERFORM 1 FROM lane WHERE queue_id = p_queue AND key = p_key FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN RETURN false; END IF;
        END IF;
        SELECT seq INTO v_first FROM message WHERE queue_id = p_queue AND key = p_key AND stage = 0
            AND deliver_at <= p_now ORDER BY deliver_at, seq LIMIT 1;
    END IF;
    SELECT * INTO m FROM message WHERE seq = v_first AND stage = 0 FOR UPDATE SKIP LOCKED;
    IF m.seq IS NULL THEN RETURN false; END IF;
    PERFORM tw_tail(m, p_place);
    PERFORM tw_count(m.queue_id, 0, 0, 0, 0, -1, 1, 0, 0);
    RETURN true;
END $$;

-- Lines up these messages that fell due and says last words; the queue of each that lined up. Places are drawn in
-- the order of time; lanes are made, and waited for, in the one order of locks, unless two share a dedup key.
CREATE FUNCTION tw_bring(p_due bigint[], p_words jsonb[], p_now bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_effects jsonb[] := '{}';
    v_events jsonb[] := '{}';
    v_names bigint[] := '{}';
    v_places bigint[] := '{}';
    v_seqs bigint[] := '{}';
    v_nonces bigint[] := '{}';
    v_due_places bigint[];
    v_sorted boolean;
    v_queues bigint[] := '{}';
    w jsonb;
    e jsonb;
    r record;
    p record;
BEGIN
    FOREACH w IN ARRAY p_words LOOP
        FOR e IN SELECT value FROM jsonb_array_elements(w->'f') LOOP
            IF e->>'e' = '1' THEN
                v_events := v_events || e;
                CONTINUE;
            END IF;
            v_effects := v_effects || e;
            v_names := v_names || tw_queue(e->>'o', (e->>'t')::smallint, e->>'n');
            v_places := v_places || nextval('places');
            v_seqs := v_seqs || (w->>'s')::bigint;
            v_nonces := v_nonces || (w->>'i')::bigint;
        END LOOP;
    END LOOP;
    v_due_places := ARRAY(SELECT nextval('places') FROM generate_series(1, cardinality(p_due)));
    v_sorted := NOT EXISTS (SELECT FROM unnest(v_effects) f WHERE f ? 'dk' GROUP BY f->>'dk' HAVING count(*) > 1);
    -- Of one key, first what fell due.
    FOR r IN
        SELECT * FROM (
            SELECT 0 AS what, d.at::int, d.seq, m.queue_id AS queue, m.key
            FROM unnest(p_due) WITH ORDINALITY AS d (seq, at)
            CROSS JOIN LATERAL (SELECT queue_id, key FROM message WHERE seq = d.seq OFFSET 0) m
            UNION ALL
            SELECT 1, f.at::int, NULL, f.queue, decode(f.e->>'k', 'base64')
            FROM unnest(v_effects, v_names) WITH ORDINALITY AS f (e, queue, at)) b
        ORDER BY CASE WHEN v_sorted THEN b.queue END, CASE WHEN v_sorted THEN b.key END, b.what, b.at
    LOOP
        IF r.what = 0 THEN
            IF tw_line_up_one(r.seq, r.queue, r.key, v_due_places[r.at], p_now) THEN
                v_queues := v_queues || r.queue;
            END IF;
            CONTINUE;
        END IF;
        e := v_effects[r.at];
        SELECT * INTO p FROM tw_put(e - 'l', r.queue, tw_body(e, NULL), v_places[r.at], v_seqs[r.at],
                                    v_nonces[r.at], p_now);
        IF p.o_kind = 0 THEN
            PERFORM tw_count(r.queue, 1, 0, 0, 0, p.o_scheduled::int, (NOT p.o_scheduled)::int, 0, 0);
        END IF;
    END LOOP;
    PERFORM tw_apply_events(v_events, NULL, p_now);
    RETURN v_queues;
END $$;

-- Notices what time has brought: at most `p_limit` of each kind and `p_total` of all, the oldest first; the queue of
-- each. First the lanes that last words go to are locked, in the one order of locks, each waited for. What time brings
-- it to is locked without waiting: what somebody else holds, he or the next one notices.
CREATE FUNCTION tw_end_all(p_now bigint, p_limit int, p_total int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_expired bigint[];
    v_ids bigint[];
    v_heads bigint[];
    v_ends bigint[];
    v_waits bigint[];
    v_due bigint[];
    v_queues bigint[] := '{}';
    v_words jsonb[] := '{}';
    v_word jsonb;
    g record;
    m message;
    l lane;
BEGIN
    v_expired := ARRAY(
        SELECT c.seq FROM message c LEFT JOIN lane h ON h.id = c.lane
        WHERE c.stage < 2 AND c.expires_at <= p_now
          AND NOT coalesce(h.head = c.seq AND h.until IS NOT NULL, false)
        ORDER BY c.expires_at, c.seq LIMIT p_limit);
    SELECT coalesce(array_agg(c.id), '{}'), coalesce(array_agg(c.head), '{}'),
           coalesce(array_agg(c.head) FILTER (WHERE c.attempt >= c.max_attempts OR c.expires_at <= p_now), '{}')
    INTO v_ids, v_heads, v_ends
    FROM (SELECT * FROM lane WHERE until <= p_now ORDER BY until, place LIMIT p_limit) c;
    IF cardinality(v_expired) + cardinality(v_ends) > 0 THEN
        PERFORM 1 FROM lane WHERE id = ANY (tw_targets(ARRAY(
            SELECT at_end FROM message WHERE seq = ANY (v_expired || v_ends) AND at_end IS NOT NULL)))
        ORDER BY queue_id, key, id FOR UPDATE;
    END IF;
    FOR i IN 1 .. cardinality(v_expired) LOOP
        EXIT WHEN cardinality(v_queues) >= p_total;
        SELECT * INTO g FROM tw_grab(v_expired[i], true);
        m := g.m;
        l := g.l;
        CONTINUE WHEN m.seq IS NULL OR m.stage > 1 OR coalesce(l.head = m.seq AND l.until IS NOT NULL, false);
        v_word := tw_expire(m, false);
        IF v_word IS NOT NULL THEN v_words := v_words || v_word; END IF;
        v_queues := v_queues || m.queue_id;
    END LOOP;
    FOR i IN 1 .. cardinality(v_ids) LOOP
        EXIT WHEN cardinality(v_queues) >= p_total;
        SELECT * INTO l FROM lane WHERE id = v_ids[i] AND head = v_heads[i] AND until <= p_now FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        v_word := tw_return(l, NULL, NULL, p_now);
        IF v_word IS NOT NULL THEN v_words := v_words || v_word; END IF;
        v_queues := v_queues || l.queue_id;
    END LOOP;
    WITH over AS (
        UPDATE lane SET not_before = NULL WHERE id = ANY (ARRAY(
            SELECT id FROM lane WHERE not_before <= p_now ORDER BY not_before, place
            LIMIT least(p_limit, p_total - cardinality(v_queues)) FOR UPDATE SKIP LOCKED)) RETURNING queue_id)
    SELECT coalesce(array_agg(queue_id), '{}') INTO v_waits FROM over;
    v_queues := v_queues || v_waits;
    v_due := ARRAY(
        SELECT seq FROM message WHERE stage = 0 AND deliver_at <= p_now ORDER BY deliver_at, seq
        LIMIT greatest(least(p_limit - cardinality(v_waits), p_total - cardinality(v_queues)), 0));
    RETURN v_queues || tw_bring(v_due, v_words, p_now);
END $$;

-- What any operation notices in passing, so that none pays for a night. Answers names for hints.
CREATE FUNCTION tw_tick(p_given bigint, p_limit int) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_mark bigint := nextval('places');
    v_queues bigint[] := tw_end_all(tw_now(p_given), p_limit, 3 * p_limit);
BEGIN
    RETURN CASE WHEN cardinality(v_queues) = 0 THEN '{}' ELSE tw_touched(v_queues, v_mark) END;
END $$;

-- Housekeeping, at most `p_limit` things: how many there were, 0 when nothing is left, and names for hints.
CREATE FUNCTION tw_sweep(p_given bigint, p_limit int, p_events int, OUT o_count int, OUT o_hints text[])
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_mark bigint := nextval('places');
    v_queues bigint[] := tw_end_all(v_now, p_limit, p_limit);
    v_forgotten int;
BEGIN
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

-- How messages enter and leave lanes.

-- Puts a message that waited for its time, or was dead, at the tail of its lane (Q10, Q14), in this place if nobody
-- there stands behind it.
CREATE FUNCTION tw_tail(m message, p_place bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l lane;
    v_place bigint := p_place;
BEGIN
    LOOP
        l := NULL;
        IF m.key IS NOT NULL THEN
            SELECT * INTO l FROM lane WHERE queue_id = m.queue_id AND key = m.key FOR UPDATE;
        END IF;
        IF l.id IS NOT NULL THEN
            v_place := greatest(v_place, l.tail + 1);
            UPDATE lane SET length = length + 1, tail = v_place WHERE id = l.id;
            EXIT;
        END IF;
        INSERT INTO lane (id, queue_id, key, length, head, priority, place, tail, max_attempts, expires_at)
        VALUES (v_place, m.queue_id, m.key, 1, m.seq, m.priority, v_place, v_place, m.max_attempts, m.expires_at)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            l.id := v_place;
            EXIT;
        END IF;
    END LOOP;
    UPDATE message SET stage = 1, lane = l.id, place = v_place, attempt = 0 WHERE seq = m.seq;
END $$;

-- Takes a message that is gone, or dead, out of its lane; the next one is the head.
CREATE FUNCTION tw_leave(p_lane bigint, p_gone bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l lane;
    n message;
BEGIN
    SELECT * INTO l FROM lane WHERE id = p_lane;
    IF l.length <= 1 THEN
        DELETE FROM lane WHERE id = p_lane;
    ELSIF l.head <> p_gone THEN
        UPDATE lane SET length = length - 1 WHERE id = p_lane;
    ELSE
        SELECT seq, priority, place, max_attempts, expires_at
        INTO n.seq, n.priority, n.place, n.max_attempts, n.expires_at
        FROM message WHERE lane = p_lane AND place > l.place ORDER BY place LIMIT 1;
        UPDATE lane SET length = length - 1, head = n.seq, priority = n.priority, place = n.place,
            max_attempts = n.max_attempts, expires_at = n.expires_at,
            attempt = 0, not_before = NULL, until = NULL, stop = false WHERE id = p_lane;
    END IF;
END $$;

-- Q10: what is due in a key takes its place before anything new does.
CREATE FUNCTION tw_line_up(p_queue bigint, p_key bytea, p_now bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    m message;
    v_count int := 0;
BEGIN
    LOOP
        SELECT * INTO m FROM message
        WHERE queue_id = p_queue AND key = p_key AND stage = 0 AND deliver_at <= p_now
        ORDER BY deliver_at, seq LIMIT 1 FOR UPDATE;
        EXIT WHEN NOT FOUND;
        PERFORM tw_tail(m, nextval('places'));
        v_count := v_count + 1;
    END LOOP;
    IF v_count > 0 THEN
        PERFORM tw_count(p_queue, 0, 0, 0, 0, -v_count, v_count, 0, 0);
    END IF;
    RETURN v_count;
END $$;

-- Locks a message and the lane it stands in, and answers both as they are then; nulls if it is not there.
-- Whoever passes `p_skip` does not wait: what somebody else holds is not there for it.
CREATE FUNCTION tw_grab(p_seq bigint, p_skip boolean, OUT m message, OUT l lane) LANGUAGE plpgsql AS $$
DECLARE
    v_lane bigint;
BEGIN
    LOOP
        m := NULL;
        l := NULL;
        SELECT lane INTO v_lane FROM message WHERE seq = p_seq;
        IF NOT FOUND THEN RETURN; END IF;
        IF v_lane IS NOT NULL THEN
            IF p_skip THEN
                SELECT * INTO l FROM lane WHERE id = v_lane FOR UPDATE SKIP LOCKED;
                IF NOT FOUND THEN RETURN; END IF;
            ELSE
                SELECT * INTO l FROM lane WHERE id = v_lane FOR UPDATE;
            END IF;
        END IF;
        IF p_skip THEN
            SELECT * INTO m FROM message WHERE seq = p_seq FOR UPDATE SKIP LOCKED;
        ELSE
            SELECT * INTO m FROM message WHERE seq = p_seq FOR UPDATE;
        END IF;
        IF NOT FOUND THEN
            m := NULL;
            RETURN;
        END IF;
        EXIT WHEN m.lane IS NOT DISTINCT FROM v_lane AND (v_lane IS NULL OR l.id IS NOT NULL);
    END LOOP;
END $$;

-- Makes a message a dead letter: the head of a lane, which is locked.
CREATE FUNCTION tw_bury(l lane, p_reason bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE message SET stage = 3, lane = NULL, attempt = l.attempt, reason = p_reason WHERE seq = l.head;
    PERFORM tw_leave(l.id, l.head);
    PERFORM tw_count(l.queue_id, 0, 0, 0, 0, 0, 0, -1, 1);
END $$;

-- The last words of a message that the store ends, for `tw_say`; null if there are none.
CREATE FUNCTION tw_words(m message) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN m.at_end IS NOT NULL THEN jsonb_build_object('f', m.at_end, 's', m.seq, 'i', m.nonce) END;
END $$;

-- The store ends a message whose time is over; its lane, if it stands in one, is locked. Answers its last words.
CREATE FUNCTION tw_expire(m message, p_leased boolean) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM message WHERE seq = m.seq;
    IF m.lane IS NOT NULL THEN PERFORM tw_leave(m.lane, m.seq); END IF;
    PERFORM tw_count(m.queue_id, 0, 0, 0, 1, -(m.stage = 0)::int,
                     -(m.stage = 1 AND NOT p_leased)::int, -p_leased::int, 0);
    RETURN tw_words(m);
END $$;

-- A lease is over: back to its place, or dead, or past its time. The lane is locked, its head leased.
-- Answers the last words of a message that this ends.
CREATE FUNCTION tw_return(l lane, p_not_before bigint, p_reason bytea, p_now bigint)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    m message;
BEGIN
    IF l.attempt >= l.max_attempts THEN
        SELECT * INTO m FROM message WHERE seq = l.head;
        PERFORM tw_bury(l, convert_to('attempts used up (' || l.attempt || '): ', 'UTF8')
                           || coalesce(p_reason, convert_to('the lease ran out', 'UTF8')));
        RETURN tw_words(m);
    ELSIF l.expires_at <= p_now THEN
        SELECT * INTO m FROM message WHERE seq = l.head;
        RETURN tw_expire(m, true);
    END IF;
    UPDATE lane SET until = NULL, stop = false, attempt = l.attempt, not_before = p_not_before WHERE id = l.id;
    IF p_reason IS NOT NULL THEN UPDATE message SET reason = p_reason WHERE seq = l.head; END IF;
    PERFORM tw_count(l.queue_id, 0, 0, 0, 0, 0, 1, -1, 0);
    RETURN NULL;
END $$;

-- Notices what time has brought to this one message of this queue, and answers it and its lane as they are
-- then, locked; nulls if it is not there (Q5, Q14, X4).
CREATE FUNCTION tw_notice(p_seq bigint, p_nonce bigint, p_queue bigint, p_now bigint,
                          OUT m message, OUT l lane) LANGUAGE plpgsql AS $$
DECLARE
    g record;
    v_leased boolean;
BEGIN
    SELECT * INTO g FROM tw_grab(p_seq, false);
    m := g.m;
    l := g.l;
    IF m.seq IS NULL OR m.nonce <> p_nonce THEN
        m := NULL;
        l := NULL;
        RETURN;
    END IF;
    v_leased := coalesce(l.head = p_seq AND l.until IS NOT NULL, false);
    IF v_leased AND l.until <= p_now THEN
        PERFORM tw_say(tw_return(l, NULL, NULL, p_now), p_now);
    ELSIF m.stage < 2 AND NOT v_leased AND m.expires_at <= p_now THEN
        PERFORM tw_say(tw_expire(m, false), p_now);
    ELSE
        IF m.queue_id IS DISTINCT FROM p_queue THEN m := NULL; END IF;
        RETURN;
    END IF;
    -- It changed: as it is now. The locks are still held.
    SELECT * INTO m FROM message WHERE seq = p_seq;
    l := NULL;
    IF m.lane IS NOT NULL THEN SELECT * INTO l FROM lane WHERE id = m.lane; END IF;
    IF m.queue_id IS DISTINCT FROM p_queue THEN m := NULL; END IF;
END $$;

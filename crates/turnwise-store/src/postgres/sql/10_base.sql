-- What all operations share. Locks are taken in one order: lanes by queue, key and number, whether they are there
-- or about to be made; then messages, then topics by name.

-- The store's time: the server's clock, unless a test passes its own.
CREATE FUNCTION tw_now(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

-- The number of a queue; a name that is new gets one.
CREATE FUNCTION tw_queue(p_org text, p_kind smallint, p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    LOOP
        SELECT id INTO v_id FROM queue WHERE org = p_org AND kind = p_kind AND name = p_name;
        IF FOUND THEN RETURN v_id; END IF;
        INSERT INTO queue VALUES (nextval('places'), p_org, p_kind, p_name) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Adds to the counters of a queue. In PL/pgSQL, as all that is called often: its plans are kept.
CREATE FUNCTION tw_count(p_queue bigint, p_enqueued int, p_acked int, p_removed int, p_expired int,
                         p_scheduled int, p_ready int, p_leased int, p_dead int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tally SET
        enqueued = enqueued + p_enqueued, acked = acked + p_acked, removed = removed + p_removed,
        expired = expired + p_expired, scheduled = scheduled + p_scheduled, ready = ready + p_ready,
        leased = leased + p_leased, dead = dead + p_dead
    WHERE queue_id = p_queue AND session = pg_backend_pid();
    IF NOT FOUND THEN
        INSERT INTO tally AS t
        VALUES (p_queue, pg_backend_pid(), p_enqueued, p_acked, p_removed, p_expired,
                p_scheduled, p_ready, p_leased, p_dead)
        ON CONFLICT (queue_id, session) DO UPDATE SET
            enqueued = t.enqueued + excluded.enqueued, acked = t.acked + excluded.acked,
            removed = t.removed + excluded.removed, expired = t.expired + excluded.expired,
            scheduled = t.scheduled + excluded.scheduled, ready = t.ready + excluded.ready,
            leased = t.leased + excluded.leased, dead = t.dead + excluded.dead;
    END IF;
END $$;

-- The first of `p_many` tokens (Q4). The lock is held for this step only, not until the commit; a session
-- that fails in between is closed by whoever called.
CREATE FUNCTION tw_tokens(p_many int, p_now bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_lock int := hashtext(current_schema());
    v_first bigint;
BEGIN
    PERFORM pg_advisory_lock(7462, v_lock);
    v_first := greatest(nextval('tokens'), p_now);
    PERFORM setval('tokens', v_first + p_many - 1);
    PERFORM pg_advisory_unlock(7462, v_lock);
    RETURN v_first;
END $$;

-- A body that came beside the call by its number, or one inside a stored effect.
CREATE FUNCTION tw_body(p_item jsonb, p_bodies bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF jsonb_typeof(p_item->'b') = 'number' THEN RETURN p_bodies[(p_item->>'b')::int]; END IF;
    RETURN decode(p_item->>'b', 'base64');
END $$;

-- Looks a dedup key up, and notes it if it is not in use (Q11, T4). Answers what was known, or nulls.
CREATE FUNCTION tw_remember(p_item jsonb, p_answer bigint, p_nonce bigint, p_now bigint,
                            OUT o_answer bigint, OUT o_nonce bigint, OUT o_same boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_id bytea := decode(p_item->>'dk', 'base64');
    v_content bytea := decode(p_item->>'dc', 'base64');
    v_until bigint := p_now + (p_item->>'dw')::bigint;
BEGIN
    IF v_until > p_now THEN
        INSERT INTO dedup AS d VALUES (v_id, v_content, v_until, p_answer, p_nonce)
        ON CONFLICT (id) DO UPDATE SET content = excluded.content, until = excluded.until,
            answer = excluded.answer, nonce = excluded.nonce WHERE d.until <= p_now;
        IF FOUND THEN RETURN; END IF;
    END IF;
    SELECT answer, nonce, content = v_content INTO o_answer, o_nonce, o_same
    FROM dedup WHERE id = v_id AND until > p_now;
END $$;

-- The same without noting it.
CREATE FUNCTION tw_seen(p_item jsonb, p_now bigint, OUT o_answer bigint, OUT o_nonce bigint, OUT o_same boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT answer, nonce, content = decode(p_item->>'dc', 'base64') INTO o_answer, o_nonce, o_same
    FROM dedup WHERE id = decode(p_item->>'dk', 'base64') AND until > p_now;
END $$;

-- The operations on queues. Each first asks whether time has brought anything: then it answers only that, the
-- caller lets `tw_tick` notice it in a step of its own, so that no step holds locks of two kinds, and comes
-- again with `p_ticked`.

-- The number of a queue that is there.
CREATE FUNCTION tw_known_queue(p_org text, p_kind smallint, p_name text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT id FROM queue WHERE org = p_org AND kind = p_kind AND name = p_name);
END $$;

-- One after the other, in the order in which they are given: that of the locks, unless two share a dedup key.
-- `y` is where an item stands in the batch, from 1.
CREATE FUNCTION tw_enqueue(p_given bigint, p_ticked boolean, p_items jsonb, p_bodies bytea[])
RETURNS TABLE (o_at int, o_kind int, o_seq bigint, o_nonce bigint, o_position bigint, o_in_flight boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_seqs bigint[];
    e jsonb;
    r record;
    v_queue bigint;
    v_name jsonb;
    v_last jsonb;
    v_scheduled int := 0;
    v_ready int := 0;
BEGIN
    IF NOT p_ticked AND tw_is_due(tw_now(p_given)) THEN
        o_kind := -1;
        RETURN NEXT;
        RETURN;
    END IF;
    -- In the order of the batch: so they are claimed.
    v_seqs := ARRAY(SELECT nextval('places') FROM generate_series(1, jsonb_array_length(p_items)));
    FOR e IN SELECT value FROM jsonb_array_elements(p_items) LOOP
        v_name := jsonb_build_array(e->'o', e->'t', e->'n');
        IF v_last IS DISTINCT FROM v_name THEN
            IF v_scheduled + v_ready > 0 THEN
                PERFORM tw_count(v_queue, v_scheduled + v_ready, 0, 0, 0, v_scheduled, v_ready, 0, 0);
            END IF;
            v_queue := tw_queue(e->>'o', (e->>'t')::smallint, e->>'n');
            v_last := v_name;
            v_scheduled := 0;
            v_ready := 0;
        END IF;
        o_at := (e->>'y')::int;
        SELECT * INTO r FROM tw_put(e, v_queue, tw_body(e, p_bodies), v_seqs[o_at], NULL, NULL, tw_now(p_given));
        IF r.o_kind = 0 THEN
            v_scheduled := v_scheduled + r.o_scheduled::int;
            v_ready := v_ready + (NOT r.o_scheduled)::int;
        END IF;
        o_kind := r.o_kind;
        o_seq := r.o_seq;
        o_nonce := r.o_nonce;
        o_position := r.o_position;
        o_in_flight := r.o_in_flight;
        RETURN NEXT;
    END LOOP;
    IF v_scheduled + v_ready > 0 THEN
        PERFORM tw_count(v_queue, v_scheduled + v_ready, 0, 0, 0, v_scheduled, v_ready, 0, 0);
    END IF;
END $$;

-- The heads of several queues, each with its own limit and length of lease; `o_at` says which, from 0; -1: see above.
CREATE FUNCTION tw_claim(p_given bigint, p_ticked boolean, p_orgs text[], p_kinds smallint[], p_names text[],
                         p_limits int[], p_leases bigint[])
RETURNS TABLE (o_at int, o_seq bigint, o_nonce bigint, o_token bigint, o_until bigint, o_attempt int, o_key bytea,
               o_priority smallint, o_enqueued_at bigint, o_ended_seq bigint, o_ended_nonce bigint, o_body bytea)
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_queue bigint;
    v_ids bigint[];
    v_token bigint;
BEGIN
    IF NOT p_ticked AND tw_is_due(v_now) THEN
        o_at := -1;
        RETURN NEXT;
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(p_names) LOOP
        v_queue := tw_known_queue(p_orgs[i], p_kinds[i], p_names[i]);
        -- A head past its time waits for the next tick: it is not handed out, and only the tick ends it. What somebody
        -- holds is passed by; only where it changes again at that moment does the server wait, and a circle that this
        -- may close it ends, which the caller tries again.
        v_ids := ARRAY(
            SELECT id FROM lane
            WHERE queue_id = v_queue AND until IS NULL AND not_before IS NULL
              AND (expires_at IS NULL OR expires_at > v_now)
            ORDER BY priority DESC, place LIMIT p_limits[i] FOR UPDATE SKIP LOCKED);
        CONTINUE WHEN cardinality(v_ids) = 0;
        v_token := tw_tokens(cardinality(v_ids), v_now);
        PERFORM tw_count(v_queue, 0, 0, 0, 0, 0, -cardinality(v_ids), cardinality(v_ids), 0);
        RETURN QUERY
            WITH leased AS (
                UPDATE lane l SET token = v_token + u.at - 1, until = v_now + p_leases[i],
                    attempt = l.attempt + 1, stop = false
                FROM unnest(v_ids) WITH ORDINALITY AS u (id, at)
                WHERE l.id = u.id AND l.id = ANY (v_ids) RETURNING l.head, l.token, l.until, l.attempt)
            SELECT i - 1, m.seq, m.nonce, d.token, d.until, d.attempt, m.key, m.priority, m.enqueued_at,
                   m.ended_seq, m.ended_nonce, m.body
            FROM leased d CROSS JOIN LATERAL (SELECT * FROM message WHERE seq = d.head OFFSET 0) m ORDER BY d.token;
    END LOOP;
END $$;

-- Whether a receipt is a live lease; then its lane is locked until the end of the step.
CREATE FUNCTION tw_hold(p_item jsonb, p_given bigint, OUT l lane) LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint := (p_item->>'s')::bigint;
    v_nonce bigint := (p_item->>'i')::bigint;
    v_queue bigint := tw_known_queue(p_item->>'o', (p_item->>'t')::smallint, p_item->>'n');
    v_lane bigint;
    v_now bigint;
BEGIN
    SELECT m.lane INTO v_lane FROM message m WHERE m.seq = v_seq AND m.nonce = v_nonce AND m.queue_id = v_queue;
    IF v_lane IS NOT NULL THEN
        SELECT * INTO l FROM lane WHERE id = v_lane FOR UPDATE;
        v_now := tw_now(p_given);
        IF l.head = v_seq AND l.token = (p_item->>'v')::bigint AND l.until > v_now THEN RETURN; END IF;
    END IF;
    -- What was seen to be over stays over, whatever the clock says later.
    PERFORM tw_notice(v_seq, v_nonce, v_queue, tw_now(p_given));
    l := NULL;
END $$;

-- Locks the lanes of these messages, and those that their effects go to, in one order.
CREATE FUNCTION tw_lock_lanes(p_items jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_targets bigint[] := tw_targets(ARRAY(SELECT i->'f' FROM jsonb_array_elements(p_items) i WHERE i ? 'f'));
BEGIN
    IF jsonb_array_length(p_items) > 1 OR cardinality(v_targets) > 0 THEN
        PERFORM 1 FROM lane WHERE id = ANY (v_targets || ARRAY(
            SELECT m.lane FROM message m
            WHERE m.seq = ANY (ARRAY(SELECT (i->>'s')::bigint FROM jsonb_array_elements(p_items) i))))
        ORDER BY queue_id, key, id FOR UPDATE;
    END IF;
END $$;

-- The new end of each lease, negative if the holder is asked to stop, null if it is lost.
CREATE FUNCTION tw_extend(p_given bigint, p_ticked boolean, p_items jsonb, p_lease bigint)
RETURNS TABLE (o_ticks boolean, o_ends bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    e jsonb;
    g record;
    l lane;
    v_end bigint;
BEGIN
    o_ticks := NOT p_ticked AND tw_is_due(v_now);
    o_ends := '{}';
    IF NOT o_ticks THEN
        PERFORM tw_lock_lanes(p_items);
        FOR e IN SELECT value FROM jsonb_array_elements(p_items) LOOP
            l := tw_hold(e, p_given);
            v_end := NULL;
            IF l.id IS NOT NULL THEN
                v_end := tw_now(p_given) + p_lease;
                UPDATE lane SET until = v_end WHERE id = l.id;
                IF l.stop THEN v_end := -v_end; END IF;
            END IF;
            o_ends := o_ends || v_end;
        END LOOP;
    END IF;
    RETURN NEXT;
END $$;

-- Ends one lease that is live, and puts the messages among its effects; answers the events among them.
CREATE FUNCTION tw_settle_one(e jsonb, l lane, p_bodies bytea[], p_now bigint) RETURNS jsonb[]
LANGUAGE plpgsql AS $$
DECLARE
    v_delay bigint := (e->>'w')::bigint;
BEGIN
    CASE (e->>'c')::int
        WHEN 0 THEN
            DELETE FROM message WHERE seq = l.head;
            PERFORM tw_leave(l.id, l.head);
            PERFORM tw_count(l.queue_id, 0, 1, 0, 0, 0, 0, -1, 0);
        WHEN 1 THEN
            PERFORM tw_say(tw_return(l, CASE WHEN v_delay > 0 THEN p_now + v_delay END, decode(e->>'r', 'base64'),
                                     p_now), p_now);
        WHEN 2 THEN
            l.attempt := greatest(l.attempt - 1, 0);
            PERFORM tw_say(tw_return(l, NULL, NULL, p_now), p_now);
        ELSE
            PERFORM tw_bury(l, decode(e->>'r', 'base64'));
    END CASE;
    RETURN CASE WHEN e ? 'f' THEN tw_apply_messages(e->'f', p_bodies, NULL, NULL, p_now) ELSE '{}' END;
END $$;

-- For each item whether it was done, and names for hints beside the effects; `o_ticks`: see above.
CREATE FUNCTION tw_settle(p_given bigint, p_ticked boolean, p_items jsonb, p_bodies bytea[])
RETURNS TABLE (o_ticks boolean, o_done boolean[], o_hints text[]) LANGUAGE plpgsql AS $$
DECLARE
    e jsonb;
    l lane;
    v_mark bigint;
    v_events jsonb[] := '{}';
BEGIN
    o_ticks := NOT p_ticked AND tw_is_due(tw_now(p_given));
    o_done := '{}';
    o_hints := '{}';
    IF o_ticks THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM tw_lock_lanes(p_items);
    -- Attempts may be used up: then its last words come in between.
    IF EXISTS (SELECT FROM jsonb_array_elements(p_items) i WHERE i->>'c' IN ('1', '2')) THEN
        v_mark := nextval('places');
        IF jsonb_array_length(p_items) > 1 THEN
            PERFORM tw_lock_topics(ARRAY(
                SELECT f FROM jsonb_array_elements(p_items) i, jsonb_array_elements(i->'f') f
                WHERE i ? 'f' AND f->>'e' = '1'));
        END IF;
    END IF;
    FOR e IN SELECT value FROM jsonb_array_elements(p_items) LOOP
        l := tw_hold(e, p_given);
        IF l.id IS NOT NULL THEN
            v_events := v_events || tw_settle_one(e, l, p_bodies, tw_now(p_given));
            IF v_mark IS NOT NULL THEN
                PERFORM tw_apply_events(v_events, p_bodies, tw_now(p_given));
                v_events := '{}';
            END IF;
        END IF;
        o_done := o_done || (l.id IS NOT NULL);
    END LOOP;
    PERFORM tw_apply_events(v_events, p_bodies, tw_now(p_given));
    IF v_mark IS NOT NULL THEN
        IF jsonb_array_length(p_items) > 1 THEN
            PERFORM tw_unlock_topics(ARRAY(
                SELECT f FROM jsonb_array_elements(p_items) i, jsonb_array_elements(i->'f') f
                WHERE i ? 'f' AND f->>'e' = '1'));
        END IF;
        o_hints := tw_touched('{}', v_mark);
    END IF;
    RETURN NEXT;
END $$;

-- For each item: 0 not found, 1 done, 2 leased, 3 dead and to be left so.
CREATE FUNCTION tw_remove(p_given bigint, p_ticked boolean, p_org text, p_kind smallint, p_name text,
                          p_items jsonb, p_bodies bytea[])
RETURNS TABLE (o_ticks boolean, o_answers int[]) LANGUAGE plpgsql AS $$
DECLARE
    v_queue bigint := tw_known_queue(p_org, p_kind, p_name);
    e jsonb;
    g record;
    m message;
    l lane;
    v_answer int;
BEGIN
    o_ticks := NOT p_ticked AND tw_is_due(tw_now(p_given));
    o_answers := '{}';
    IF NOT o_ticks THEN
        PERFORM tw_lock_lanes(p_items);
        FOR e IN SELECT value FROM jsonb_array_elements(p_items) LOOP
            SELECT * INTO g FROM tw_notice((e->>'s')::bigint, (e->>'i')::bigint, v_queue, tw_now(p_given));
            m := g.m;
            l := g.l;
            v_answer := CASE WHEN m.seq IS NULL THEN 0
                             WHEN l.head = m.seq AND l.until IS NOT NULL THEN 2
                             WHEN m.stage = 3 AND e ? 'f' THEN 3
                             ELSE 1 END;
            IF v_answer = 1 THEN
                DELETE FROM message WHERE seq = m.seq;
                IF m.lane IS NOT NULL THEN PERFORM tw_leave(m.lane, m.seq); END IF;
                PERFORM tw_count(v_queue, 0, 0, 1, 0, -(m.stage = 0)::int, -(m.stage = 1)::int, 0,
                                 -(m.stage = 3)::int);
                IF e ? 'f' THEN PERFORM tw_apply(e->'f', p_bodies, NULL, NULL, tw_now(p_given)); END IF;
            END IF;
            o_answers := o_answers || v_answer;
        END LOOP;
    END IF;
    RETURN NEXT;
END $$;

-- -1: see above; 0 not found, 1 not leased, 2 asked.
CREATE FUNCTION tw_request_stop(p_given bigint, p_ticked boolean, p_org text, p_kind smallint, p_name text,
                                p_seq bigint, p_nonce bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    g record;
    m message;
    l lane;
BEGIN
    IF NOT p_ticked AND tw_is_due(v_now) THEN RETURN -1; END IF;
    SELECT * INTO g FROM tw_notice(p_seq, p_nonce, tw_known_queue(p_org, p_kind, p_name), v_now);
    m := g.m;
    l := g.l;
    IF m.seq IS NULL THEN RETURN 0; END IF;
    IF l.head = p_seq AND l.until IS NOT NULL THEN
        UPDATE lane SET stop = true WHERE id = l.id;
        RETURN 2;
    END IF;
    RETURN 1;
END $$;

-- How many were dead; -1: see above.
CREATE FUNCTION tw_redrive(p_given bigint, p_ticked boolean, p_org text, p_kind smallint, p_name text,
                           p_seqs bigint[], p_nonces bigint[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_queue bigint := tw_known_queue(p_org, p_kind, p_name);
    g record;
    m message;
    v_count int := 0;
BEGIN
    IF NOT p_ticked AND tw_is_due(v_now) THEN RETURN -1; END IF;
    PERFORM 1 FROM lane l WHERE (l.queue_id, l.key) IN (
        SELECT d.queue_id, d.key FROM message d WHERE d.seq = ANY (p_seqs) AND d.queue_id = v_queue)
    ORDER BY l.queue_id, l.key FOR UPDATE;
    FOR i IN 1 .. cardinality(p_seqs) LOOP
        SELECT * INTO g FROM tw_notice(p_seqs[i], p_nonces[i], v_queue, v_now);
        m := g.m;
        CONTINUE WHEN m.seq IS NULL OR m.stage <> 3;
        IF m.key IS NOT NULL THEN PERFORM tw_line_up(v_queue, m.key, v_now); END IF;
        PERFORM tw_tail(m, nextval('places'));
        PERFORM tw_count(v_queue, 0, 0, 0, 0, 0, 1, 0, -1);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

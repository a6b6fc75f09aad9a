-- The same for many messages at once, where nothing particular is asked of any of them. Plans are made once, maybe over
-- empty tables: `= ANY (array)` and `OFFSET 0` leave them no choice but the primary keys.

-- Stores messages that have no dedup key and no time to wait for. They come in groups, each the messages of one key or
-- one message without a key: `p_group` says whose each is, `p_nth` where it stands in it. Of a group: its queue, key,
-- length, first and last message, and what is asked of its first. A group has one limit of its lane.
CREATE FUNCTION tw_enqueue_many(
    p_given bigint, p_orgs text[], p_kinds smallint[], p_names text[],
    p_queues int[], p_keys bytea[], p_lengths bigint[], p_firsts int[], p_lasts int[],
    p_group int[], p_nth bigint[], p_nonces bigint[], p_priorities smallint[], p_attempts int[],
    p_ends bigint[], p_limits bigint[], p_bodies bytea[], p_at_end text[])
RETURNS TABLE (o_at int, o_kind int, o_seq bigint, o_nonce bigint, o_position bigint, o_in_flight boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := tw_now(p_given);
    v_queues bigint[];
    v_ranks int[];
    v_seqs bigint[];
    v_lanes bigint[];
    v_counts bigint[];
    v_tails bigint[];
    v_leased boolean[];
    v_full boolean;
    r record;
BEGIN
    -- Then nothing that waits in one of these keys has to come before them.
    IF tw_is_due(v_now) THEN
        o_kind := -1;
        RETURN NEXT;
        RETURN;
    END IF;
    v_queues := ARRAY(SELECT tw_queue(n.org, n.kind, n.name)
                      FROM unnest(p_orgs, p_kinds, p_names) WITH ORDINALITY AS n (org, kind, name, at) ORDER BY at);
    -- In the order of the batch: so they are claimed.
    v_seqs := ARRAY(SELECT nextval('places') FROM generate_series(1, cardinality(p_group)));
    IF cardinality(v_queues) > 1 THEN
        v_ranks := ARRAY(
            SELECT s.rank FROM (
                SELECT g.at, row_number() OVER (ORDER BY v_queues[g.queue], g.key, g.at)::int AS rank
                FROM unnest(p_queues, p_keys) WITH ORDINALITY AS g (queue, key, at)) s ORDER BY s.at);
    ELSE
        v_ranks := ARRAY(SELECT generate_series(1, cardinality(p_queues)));
    END IF;
    -- Whoever was in a lane with a higher place since then stays ahead: the new ones get places behind it.
    WITH put AS (
        INSERT INTO lane AS l (id, queue_id, key, length, head, priority, place, tail, max_attempts, expires_at)
        SELECT v_seqs[g.first], v_queues[g.queue], g.key, g.length, v_seqs[g.first], p_priorities[g.first],
               v_seqs[g.first], v_seqs[g.last], p_attempts[g.first], p_ends[g.first]
        FROM unnest(p_queues, p_keys, p_lengths, p_firsts, p_lasts) WITH ORDINALITY
            AS g (queue, key, length, first, last, at)
        ORDER BY v_queues[g.queue], g.key, g.at
        ON CONFLICT (queue_id, key) WHERE key IS NOT NULL DO UPDATE SET
            length = l.length + excluded.length,
            tail = CASE WHEN l.tail < excluded.place THEN excluded.tail
                        ELSE greatest(l.tail, excluded.tail) + excluded.length END
        RETURNING l.id, l.length, l.tail, l.until IS NOT NULL AS leased)
    SELECT array_agg(id), array_agg(length), array_agg(tail), array_agg(leased)
    INTO v_lanes, v_counts, v_tails, v_leased FROM put;
    RETURN QUERY
        WITH new AS MATERIALIZED (
            SELECT i.at::int, v_seqs[i.at] AS seq, v_ranks[i.g] AS rank, i.g, i.nth, i.nonce, i.priority, i.attempts,
                   i.ends, i.body, i.at_end, v_counts[v_ranks[i.g]] - p_lengths[i.g] + i.nth AS position,
                   coalesce(v_counts[v_ranks[i.g]] - p_lengths[i.g] + i.nth > i.most, false) AS full
            FROM unnest(p_group, p_nth, p_nonces, p_priorities, p_attempts, p_ends, p_limits, p_bodies, p_at_end)
                WITH ORDINALITY AS i (g, nth, nonce, priority, attempts, ends, most, body, at_end, at)
        ), put AS (
            INSERT INTO message (seq, nonce, queue_id, key, stage, lane, place, priority, max_attempts, enqueued_at,
                                 expires_at, body, at_end)
            SELECT n.seq, n.nonce, v_queues[p_queues[n.g]], p_keys[n.g], 1, v_lanes[n.rank],
                   CASE WHEN v_tails[n.rank] = v_seqs[p_lasts[n.g]] THEN n.seq
                        ELSE v_tails[n.rank] - p_lengths[n.g] + n.nth END,
                   n.priority, n.attempts, v_now, n.ends, n.body, n.at_end::jsonb
            FROM new n WHERE NOT n.full
        )
        SELECT n.at, CASE WHEN n.full THEN 3 ELSE 0 END, n.seq, n.nonce, n.position, v_leased[n.rank] FROM new n;
    FOR r IN
        SELECT s.lane, s.queue, s.many, s.over, s.rank FROM (
            SELECT v_lanes[v_ranks[g.at]] AS lane, v_queues[g.queue] AS queue, g.length AS many, v_ranks[g.at] AS rank,
                   coalesce(least(g.length, greatest(v_counts[v_ranks[g.at]] - p_limits[g.first], 0)), 0) AS over
            FROM unnest(p_queues, p_lengths, p_firsts) WITH ORDINALITY AS g (queue, length, first, at)) s
        WHERE s.over > 0
    LOOP
        IF v_counts[r.rank] > r.over THEN
            UPDATE lane SET length = length - r.over WHERE id = r.lane;
        ELSE
            DELETE FROM lane WHERE id = r.lane;
        END IF;
    END LOOP;
    FOR r IN
        SELECT v_queues[g.queue] AS queue, sum(g.length - greatest(least(g.length,
                   v_counts[v_ranks[g.at]] - coalesce(p_limits[g.first], v_counts[v_ranks[g.at]])), 0))::int AS many
        FROM unnest(p_queues, p_lengths, p_firsts) WITH ORDINALITY AS g (queue, length, first, at) GROUP BY 1
    LOOP
        IF r.many > 0 THEN PERFORM tw_count(r.queue, r.many, 0, 0, 0, 0, r.many, 0, 0); END IF;
    END LOOP;
END $$;

-- Acknowledges leases, no message twice, none with effects: whether each was live. `o_ticks`: see `tw_settle`.
CREATE FUNCTION tw_ack_many(p_given bigint, p_ticked boolean, p_orgs text[], p_kinds smallint[], p_names text[],
                            p_queues int[], p_seqs bigint[], p_nonces bigint[], p_tokens bigint[])
RETURNS TABLE (o_ticks boolean, o_done boolean[], o_hints text[]) LANGUAGE plpgsql AS $$
DECLARE
    v_queues bigint[];
    v_now bigint;
    v_at int[];
    v_gone bigint[];
    v_over bigint[];
    v_on bigint[];
    v_places bigint[];
    r record;
BEGIN
    o_ticks := NOT p_ticked AND tw_is_due(tw_now(p_given));
    o_done := '{}';
    o_hints := '{}';
    IF o_ticks THEN
        RETURN NEXT;
        RETURN;
    END IF;
    v_queues := ARRAY(SELECT tw_known_queue(n.org, n.kind, n.name)
                      FROM unnest(p_orgs, p_kinds, p_names) WITH ORDINALITY AS n (org, kind, name, at) ORDER BY at);
    PERFORM 1 FROM lane WHERE id = ANY (ARRAY(SELECT m.lane FROM message m WHERE m.seq = ANY (p_seqs)))
    ORDER BY queue_id, key, id FOR UPDATE;
    v_now := tw_now(p_given);
    SELECT array_agg(i.at), array_agg(i.seq), array_agg(l.id) FILTER (WHERE l.length = 1),
           array_agg(l.id) FILTER (WHERE l.length > 1), array_agg(l.place) FILTER (WHERE l.length > 1)
    INTO v_at, v_gone, v_over, v_on, v_places
    FROM unnest(p_queues, p_seqs, p_nonces, p_tokens) WITH ORDINALITY AS i (queue, seq, nonce, token, at)
    JOIN LATERAL (SELECT * FROM message WHERE seq = i.seq OFFSET 0) m
        ON m.nonce = i.nonce AND m.queue_id = v_queues[i.queue]
    JOIN LATERAL (SELECT * FROM lane WHERE id = m.lane OFFSET 0) l
        ON l.head = i.seq AND l.token = i.token AND l.until > v_now;
    IF v_gone IS NOT NULL THEN
        DELETE FROM message WHERE seq = ANY (v_gone);
        DELETE FROM lane WHERE id = ANY (v_over);
        IF v_on IS NOT NULL THEN
            UPDATE lane l SET length = l.length - 1, head = n.seq, priority = n.priority, place = n.place,
                max_attempts = n.max_attempts, expires_at = n.expires_at,
                attempt = 0, not_before = NULL, until = NULL, stop = false
            FROM unnest(v_on, v_places) AS u (id, place) CROSS JOIN LATERAL (
                SELECT m.seq, m.priority, m.place, m.max_attempts, m.expires_at FROM message m
                WHERE m.lane = u.id AND m.place > u.place ORDER BY m.place LIMIT 1) n
            WHERE l.id = u.id AND l.id = ANY (v_on);
        END IF;
        FOR r IN SELECT v_queues[p_queues[a]] AS queue, count(*)::int AS many FROM unnest(v_at) a GROUP BY 1 LOOP
            PERFORM tw_count(r.queue, 0, r.many, 0, 0, 0, 0, -r.many, 0);
        END LOOP;
    END IF;
    o_done := ARRAY(SELECT false FROM generate_series(1, cardinality(p_seqs)));
    FOR i IN 1 .. coalesce(cardinality(v_at), 0) LOOP
        o_done[v_at[i]] := true;
    END LOOP;
    IF coalesce(cardinality(v_at), 0) < cardinality(p_seqs) THEN
        -- What was seen to be over stays over, whatever the clock says later.
        FOR i IN 1 .. cardinality(p_seqs) LOOP
            IF NOT o_done[i] THEN
                PERFORM tw_notice(p_seqs[i], p_nonces[i], v_queues[p_queues[i]], tw_now(p_given));
            END IF;
        END LOOP;
    END IF;
    RETURN NEXT;
END $$;

-- The operations on topics.

-- Appends for several callers, each for the holder of a lease or, where that is null, for nobody; `p_whose` says which
-- caller an event is of, from 1. The offset of each event, null where its dedup key was used with other content. Of a
-- caller whose lease is not live nothing is appended: its `o_held` is false. `o_ticks` as for queues.
CREATE FUNCTION tw_append(p_given bigint, p_ticked boolean, p_holders jsonb, p_whose int[], p_items jsonb,
                          p_bodies bytea[])
RETURNS TABLE (o_ticks boolean, o_held boolean[], o_epoch bigint, o_offsets bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint;
    v_items jsonb[];
    v_floor bigint := 0;
    v_offset bigint;
    h jsonb;
    e jsonb;
    l lane;
BEGIN
    o_held := '{}';
    o_offsets := '{}';
    SELECT epoch INTO o_epoch FROM meta;
    o_ticks := p_holders @? '$[*].s' AND NOT p_ticked AND tw_is_due(tw_now(p_given));
    IF o_ticks THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM tw_lock_lanes(p_holders);
    FOR h IN SELECT value FROM jsonb_array_elements(p_holders) LOOP
        IF jsonb_typeof(h) = 'null' THEN
            o_held := o_held || true;
        ELSE
            l := tw_hold(h, p_given);
            o_held := o_held || (l.id IS NOT NULL);
        END IF;
    END LOOP;
    v_items := ARRAY(SELECT CASE WHEN o_held[p_whose[i.at]] THEN i.value END
                     FROM jsonb_array_elements(p_items) WITH ORDINALITY AS i (value, at) ORDER BY i.at);
    PERFORM tw_lock_topics(array_remove(v_items, NULL));
    v_now := tw_now(p_given);
    FOREACH e IN ARRAY v_items LOOP
        v_offset := NULL;
        IF e IS NOT NULL THEN
            SELECT * INTO v_offset, v_floor FROM tw_publish(e, tw_body(e, p_bodies), v_now, v_floor);
        END IF;
        o_offsets := o_offsets || v_offset;
    END LOOP;
    IF EXISTS (SELECT FROM unnest(v_items) i WHERE i ? 'dk') THEN
        PERFORM tw_unlock_topics(array_remove(v_items, NULL));
    END IF;
    RETURN NEXT;
END $$;

-- First a row that tells the epoch and the ends of the topic, then events behind `p_after`, as one snapshot.
-- `p_mode`: 0 from the oldest, 1 only the end, 2 behind `p_after` of `p_epoch`.
CREATE FUNCTION tw_read(p_org text, p_kind smallint, p_name text, p_mode int, p_epoch bigint, p_after bigint,
                        p_limit int, p_bytes bigint)
RETURNS TABLE (o_epoch bigint, o_first bigint, o_last bigint, o_gap boolean, o_offset bigint, o_at bigint,
               o_body bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE
    t topic;
    v_after bigint := p_after;
BEGIN
    SELECT epoch INTO o_epoch FROM meta;
    SELECT * INTO t FROM topic WHERE org = p_org AND kind = p_kind AND name = p_name;
    o_first := coalesce(t.first, 1);
    o_last := coalesce(t.last, 0);
    o_gap := p_mode = 2 AND (p_epoch <> o_epoch OR p_after NOT BETWEEN o_first - 1 AND o_last);
    RETURN NEXT;
    IF t.id IS NULL OR p_mode = 1 OR o_gap THEN RETURN; END IF;
    IF p_mode = 0 THEN v_after := t.first - 1; END IF;
    RETURN QUERY
        SELECT o_epoch, o_first, o_last, false, s.at_offset, s.appended_at, s.body
        FROM (SELECT e.at_offset, e.appended_at, e.body, sum(e.size) OVER w AS run, row_number() OVER w AS n
              FROM event e WHERE e.topic_id = t.id AND e.at_offset > v_after
              WINDOW w AS (ORDER BY e.at_offset) ORDER BY e.at_offset LIMIT p_limit) s
        WHERE s.run <= p_bytes OR s.n = 1 ORDER BY s.at_offset;
END $$;

-- Events of many topics behind a position, and in the last row, which has no event, where to go on. An event's
-- position begins with the number of its transaction. A transaction that is not over may still bring events
-- below those of others, so a reader sees only numbers below all those that run: nothing turns up behind it.
CREATE FUNCTION tw_read_many(p_orgs text[], p_kinds smallint[], p_patterns text[], p_epoch bigint,
                             p_after bigint, p_limit int, p_bytes bigint, p_scan int)
RETURNS TABLE (o_epoch bigint, o_position bigint, o_gap boolean, o_org text, o_kind smallint, o_name text,
               o_offset bigint, o_at bigint, o_body bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_after bigint := p_after;
    v_bound bigint;
    v_upper bigint;
    v_bytes bigint := 0;
    v_count int := 0;
    v_next bigint;
    v_gap boolean;
    r record;
BEGIN
    SELECT epoch, (step_base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) << 17
    INTO o_epoch, v_bound FROM meta;
    IF p_epoch <> o_epoch THEN v_after := 0; END IF;
    v_gap := p_epoch <> o_epoch AND p_after > 0;
    IF v_after > 0 THEN
        v_gap := v_gap OR EXISTS (
            SELECT FROM dropped d, unnest(p_orgs, p_kinds) AS p (org, kind)
            WHERE d.org = p.org AND d.kind = p.kind AND d.position > v_after);
    END IF;
    SELECT e.position INTO v_upper FROM event e WHERE e.position > v_after AND e.position < v_bound
    ORDER BY e.position OFFSET p_scan LIMIT 1;
    -- To the end of its step.
    v_next := greatest(v_after, least(v_upper | ((1 << 17) - 1), v_bound - 1));
    FOR r IN
        SELECT e.*, t.org, t.kind, t.name FROM event e JOIN topic t ON t.id = e.topic_id
        WHERE e.position > v_after AND e.position <= v_next AND e.position < v_bound
          AND EXISTS (SELECT FROM unnest(p_orgs, p_kinds, p_patterns) AS p (org, kind, pattern)
                      WHERE p.org = t.org AND p.kind = t.kind AND t.name ~ p.pattern)
        ORDER BY e.position
    LOOP
        -- What one step appended comes together where the bytes allow it. Of two at one position both come, or none.
        IF v_count > 0 AND r.position <> o_position AND (v_bytes + r.size > p_bytes OR v_count >= p_limit
            AND (r.position >> 17 <> o_position >> 17 OR v_count >= p_limit + 4096)) THEN
            v_next := o_position;
            EXIT;
        END IF;
        v_count := v_count + 1;
        v_bytes := v_bytes + r.size;
        o_position := r.position;
        o_org := r.org;
        o_kind := r.kind;
        o_name := r.name;
        o_offset := r.at_offset;
        o_at := r.appended_at;
        o_body := r.body;
        RETURN NEXT;
    END LOOP;
    o_position := v_next;
    o_gap := v_gap;
    o_offset := NULL;
    o_body := NULL;
    RETURN NEXT;
END $$;

-- Notes that readers below a position in this organisation and kind missed something.
CREATE FUNCTION tw_mark(p_org text, p_kind smallint, p_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO dropped AS d VALUES (p_org, p_kind, p_position)
    ON CONFLICT (org, kind) DO UPDATE SET position = greatest(d.position, excluded.position)
$$;

-- Deletes the events of a locked topic that are below an offset, at most `p_limit`; how many.
CREATE FUNCTION tw_cut(t topic, p_before bigint, p_limit int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_first bigint := least(p_before, t.last + 1, t.first + p_limit);
    v_bytes bigint;
    v_highest bigint;
BEGIN
    IF v_first <= t.first THEN RETURN 0; END IF;
    WITH gone AS (DELETE FROM event WHERE topic_id = t.id AND at_offset < v_first RETURNING size, position)
    SELECT coalesce(sum(size), 0), max(position) INTO v_bytes, v_highest FROM gone;
    UPDATE topic SET first = v_first, bytes = t.bytes - v_bytes WHERE id = t.id;
    IF v_highest IS NOT NULL THEN PERFORM tw_mark(t.org, t.kind, v_highest); END IF;
    RETURN v_first - t.first;
END $$;

-- Trims a topic by at most `p_limit` events; whether there may be more to trim.
CREATE FUNCTION tw_trim(p_org text, p_kind smallint, p_name text, p_before bigint, p_limit int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    t topic;
BEGIN
    SELECT * INTO t FROM topic WHERE org = p_org AND kind = p_kind AND name = p_name FOR UPDATE;
    RETURN t.id IS NOT NULL AND tw_cut(t, p_before, p_limit) >= p_limit;
END $$;

-- Drops topics that are locked, with their events and cursors, until that were `p_limit` events: how many topics,
-- and whether there is more to do.
CREATE FUNCTION tw_drop(p_ids bigint[], p_limit int, OUT o_dropped int, OUT o_more boolean) LANGUAGE plpgsql AS $$
DECLARE
    t topic;
    v_id bigint;
    v_left int := p_limit;
BEGIN
    o_dropped := 0;
    o_more := true;
    FOREACH v_id IN ARRAY p_ids LOOP
        IF v_left <= 0 THEN RETURN; END IF;
        SELECT * INTO t FROM topic WHERE id = v_id;
        v_left := v_left - tw_cut(t, t.last + 1, v_left);
        SELECT * INTO t FROM topic WHERE id = v_id;
        IF t.first <= t.last THEN RETURN; END IF;
        DELETE FROM cursor WHERE org = t.org AND kind = t.kind AND name = t.name;
        DELETE FROM topic WHERE id = v_id;
        o_dropped := o_dropped + 1;
    END LOOP;
    o_more := false;
END $$;

CREATE FUNCTION tw_drop_topics(p_orgs text[], p_kinds smallint[], p_names text[], p_limit int,
                               OUT o_dropped int, OUT o_more boolean) LANGUAGE plpgsql AS $$
BEGIN
    SELECT d.o_dropped, d.o_more INTO o_dropped, o_more FROM tw_drop(ARRAY(
        SELECT t.id FROM topic t JOIN (SELECT DISTINCT * FROM unnest(p_orgs, p_kinds, p_names) AS u (org, kind, name)) n
            ON t.org = n.org AND t.kind = n.kind AND t.name = n.name
        ORDER BY t.org, t.kind, t.name FOR UPDATE OF t), p_limit) d;
END $$;

-- Drops topics past their time, until that were `p_events` events; how many, one at least if there is more to do.
CREATE FUNCTION tw_drop_old_topics(p_now bigint, p_limit int, p_events int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    d record;
BEGIN
    SELECT * INTO d FROM tw_drop(ARRAY(
        SELECT id FROM topic WHERE keep_until <= p_now ORDER BY keep_until LIMIT p_limit
        FOR UPDATE SKIP LOCKED), p_events);
    RETURN d.o_dropped + d.o_more::int;
END $$;

-- T5: from exactly there, and only forward.
CREATE FUNCTION tw_advance(p_org text, p_kind smallint, p_name text, p_subscription bytea,
                           p_from_epoch bigint, p_from bigint, p_to_epoch bigint, p_to bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_from IS NULL THEN
        INSERT INTO cursor VALUES (p_org, p_kind, p_name, p_subscription, p_to_epoch, p_to)
        ON CONFLICT DO NOTHING;
    ELSE
        UPDATE cursor SET epoch = p_to_epoch, at_offset = p_to
        WHERE org = p_org AND kind = p_kind AND name = p_name AND subscription = p_subscription
          AND epoch = p_from_epoch AND at_offset = p_from AND NOT (epoch = p_to_epoch AND p_to < at_offset);
    END IF;
    RETURN FOUND;
END $$;

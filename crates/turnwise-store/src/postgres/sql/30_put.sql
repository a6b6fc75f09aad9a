-- Storing messages and appending events.

-- Stores one message, unless its dedup key is in use or its lane is full. `kind`: 0 new, 1 a repeat, 2 the
-- key was used with other content, 3 full. The caller counts. Its number is `p_seq`, a new one if that is null.
CREATE FUNCTION tw_put(p_item jsonb, p_queue bigint, p_body bytea, p_seq bigint, p_ended_seq bigint,
                       p_ended_nonce bigint, p_now bigint, OUT o_kind int, OUT o_seq bigint, OUT o_nonce bigint,
                       OUT o_position bigint, OUT o_in_flight boolean, OUT o_scheduled boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_key bytea := decode(p_item->>'k', 'base64');
    v_deliver bigint := (p_item->>'d')::bigint;
    v_max bigint := (p_item->>'l')::bigint;
    v_known record;
    v_created boolean := false;
    v_place bigint;
    l lane;
BEGIN
    o_position := 1;
    o_in_flight := false;
    o_nonce := (p_item->>'i')::bigint;
    IF v_deliver <= p_now THEN v_deliver := NULL; END IF;
    o_scheduled := v_deliver IS NOT NULL;
    IF p_item ? 'dk' THEN
        SELECT * INTO v_known FROM tw_seen(p_item, p_now);
        IF v_known.o_answer IS NOT NULL THEN
            SELECT CASE WHEN v_known.o_same THEN 1 ELSE 2 END, v_known.o_answer, v_known.o_nonce
            INTO o_kind, o_seq, o_nonce;
            RETURN;
        END IF;
    END IF;
    o_kind := 3;
    LOOP
        IF v_key IS NOT NULL THEN
            SELECT * INTO l FROM lane WHERE queue_id = p_queue AND key = v_key FOR UPDATE;
            IF EXISTS (SELECT FROM message WHERE queue_id = p_queue AND key = v_key AND stage = 0
                       AND deliver_at <= p_now) THEN
                PERFORM tw_line_up(p_queue, v_key, p_now);
                SELECT * INTO l FROM lane WHERE queue_id = p_queue AND key = v_key FOR UPDATE;
            END IF;
            IF coalesce(l.length, 0) >= v_max THEN RETURN; END IF;
        END IF;
        o_seq := coalesce(p_seq, nextval('places'));
        v_place := o_seq;
        EXIT WHEN o_scheduled;
        IF l.id IS NOT NULL THEN
            -- Known under the lane's lock: places follow the order of commits within a key.
            v_place := greatest(o_seq, l.tail + 1);
            o_position := l.length + 1;
            o_in_flight := l.until IS NOT NULL;
            EXIT;
        END IF;
        INSERT INTO lane (id, queue_id, key, length, head, priority, place, tail, max_attempts, expires_at)
        VALUES (o_seq, p_queue, v_key, 1, o_seq, (p_item->>'p')::smallint, o_seq, o_seq, (p_item->>'m')::int,
                (p_item->>'x')::bigint)
        ON CONFLICT DO NOTHING;
        v_created := FOUND;
        EXIT WHEN v_created;
    END LOOP;
    IF p_item ? 'dk' THEN
        -- Somebody may have stored it since.
        SELECT * INTO v_known FROM tw_remember(p_item, o_seq, o_nonce, p_now);
        IF v_known.o_answer IS NOT NULL THEN
            IF v_created THEN DELETE FROM lane WHERE id = o_seq; END IF;
            SELECT CASE WHEN v_known.o_same THEN 1 ELSE 2 END, v_known.o_answer, v_known.o_nonce
            INTO o_kind, o_seq, o_nonce;
            RETURN;
        END IF;
    END IF;
    o_kind := 0;
    IF l.id IS NOT NULL AND NOT o_scheduled THEN
        UPDATE lane SET length = length + 1, tail = v_place WHERE id = l.id;
    END IF;
    INSERT INTO message (seq, nonce, queue_id, key, stage, lane, place, priority, max_attempts, enqueued_at,
                         deliver_at, expires_at, ended_seq, ended_nonce, body, at_end)
    VALUES (o_seq, o_nonce, p_queue, v_key, CASE WHEN o_scheduled THEN 0 ELSE 1 END,
            CASE WHEN o_scheduled THEN NULL ELSE coalesce(l.id, o_seq) END, v_place, (p_item->>'p')::smallint,
            (p_item->>'m')::int, p_now, v_deliver, (p_item->>'x')::bigint, p_ended_seq, p_ended_nonce,
            p_body, p_item->'a');
END $$;

-- The lowest position that this transaction may give to an event.
CREATE FUNCTION tw_step() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT (step_base + pg_current_xact_id()::text::bigint) << 17 FROM meta WHERE one);
END $$;

-- Locks these topics in the order of their names and makes those that are missing, so that two appends
-- to the same topics wait for each other and never in a circle.
CREATE FUNCTION tw_lock_topics(p_items jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT DISTINCT i->>'o' AS org, (i->>'t')::smallint AS kind, i->>'n' AS name FROM unnest(p_items) i
        ORDER BY 1, 2, 3
    LOOP
        LOOP
            PERFORM 1 FROM topic WHERE org = t.org AND kind = t.kind AND name = t.name FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO topic (id, org, kind, name) VALUES (nextval('places'), t.org, t.kind, t.name)
            ON CONFLICT DO NOTHING;
            EXIT WHEN FOUND;
        END LOOP;
    END LOOP;
END $$;

-- Drops those that are still empty: their events were repeats of events that are gone.
CREATE FUNCTION tw_unlock_topics(p_items jsonb[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM topic t USING unnest(p_items) i
    WHERE t.org = i->>'o' AND t.kind = (i->>'t')::smallint AND t.name = i->>'n' AND t.last = 0
$$;

-- Appends one event to a topic that is locked; its offset, or null when its dedup key was used with other
-- content. Its position is above `p_floor`, the last one of this call, and above the topic's last one: another
-- transaction with a higher number may have come first here. While this one runs, no reader passes its number.
CREATE FUNCTION tw_publish(p_item jsonb, p_body bytea, p_now bigint, p_floor bigint,
                           OUT o_offset bigint, OUT o_position bigint) LANGUAGE plpgsql AS $$
DECLARE
    t topic;
    v_known record;
    v_step bigint := tw_step();
    v_size int := octet_length(p_body) - 1;
BEGIN
    o_position := p_floor;
    SELECT * INTO t FROM topic WHERE org = p_item->>'o' AND kind = (p_item->>'t')::smallint
        AND name = p_item->>'n';
    IF p_item ? 'dk' THEN
        SELECT * INTO v_known FROM tw_remember(p_item, t.last + 1, 0, p_now);
        IF v_known.o_answer IS NOT NULL THEN
            o_offset := CASE WHEN v_known.o_same THEN v_known.o_answer END;
            RETURN;
        END IF;
    END IF;
    IF p_floor = 0 THEN
        -- What this transaction appended before.
        SELECT position INTO o_position FROM event
        WHERE position >= v_step AND position < v_step + (1 << 17) ORDER BY position DESC LIMIT 1;
    END IF;
    o_offset := t.last + 1;
    o_position := greatest(v_step, t.position + 1, o_position + 1);
    UPDATE topic SET last = o_offset, bytes = t.bytes + v_size, position = o_position,
        keep_until = greatest(t.keep_until, (p_item->>'u')::bigint) WHERE id = t.id;
    INSERT INTO event (topic_id, at_offset, position, appended_at, size, body)
    VALUES (t.id, o_offset, o_position, p_now, v_size, p_body);
END $$;

-- Effects of an end that are messages, in order; answers those that are events. Those of a message that the
-- store ended name it.
CREATE FUNCTION tw_apply_messages(p_effects jsonb, p_bodies bytea[], p_ended_seq bigint, p_ended_nonce bigint,
                                  p_now bigint) RETURNS jsonb[] LANGUAGE plpgsql AS $$
DECLARE
    e jsonb;
    r record;
    v_queue bigint;
    v_events jsonb[] := '{}';
BEGIN
    FOR e IN SELECT value FROM jsonb_array_elements(p_effects) LOOP
        IF (e->>'e')::int = 1 THEN
            v_events := v_events || e;
            CONTINUE;
        END IF;
        v_queue := tw_queue(e->>'o', (e->>'t')::smallint, e->>'n');
        SELECT * INTO r FROM tw_put(e - 'l', v_queue, tw_body(e, p_bodies), NULL, p_ended_seq, p_ended_nonce, p_now);
        IF r.o_kind = 0 THEN
            PERFORM tw_count(v_queue, 1, 0, 0, 0, r.o_scheduled::int, (NOT r.o_scheduled)::int, 0, 0);
        END IF;
    END LOOP;
    RETURN v_events;
END $$;

-- Appends events in order, each topic locked first.
CREATE FUNCTION tw_apply_events(p_events jsonb[], p_bodies bytea[], p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    e jsonb;
    r record;
    v_floor bigint := 0;
    v_repeats boolean := false;
BEGIN
    IF cardinality(p_events) = 0 THEN RETURN; END IF;
    PERFORM tw_lock_topics(p_events);
    FOREACH e IN ARRAY p_events LOOP
        SELECT * INTO r FROM tw_publish(e, tw_body(e, p_bodies), p_now, v_floor);
        v_floor := r.o_position;
        v_repeats := v_repeats OR e ? 'dk';
    END LOOP;
    IF v_repeats THEN PERFORM tw_unlock_topics(p_events); END IF;
END $$;

-- Effects of an end, in order; events after messages.
CREATE FUNCTION tw_apply(p_effects jsonb, p_bodies bytea[], p_ended_seq bigint, p_ended_nonce bigint,
                         p_now bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tw_apply_events(tw_apply_messages(p_effects, p_bodies, p_ended_seq, p_ended_nonce, p_now),
                            p_bodies, p_now);
END $$;

-- Last words of one message.
CREATE FUNCTION tw_say(p_words jsonb, p_now bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_words IS NOT NULL THEN
        PERFORM tw_apply(p_words->'f', NULL, (p_words->>'s')::bigint, (p_words->>'i')::bigint, p_now);
    END IF;
END $$;

-- The lanes that messages among these effects go to, as far as they are there.
CREATE FUNCTION tw_targets(p_effects jsonb[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT l.id FROM unnest(p_effects) f CROSS JOIN LATERAL jsonb_array_elements(f) e
        CROSS JOIN LATERAL (
            SELECT tw_known_queue(e->>'o', (e->>'t')::smallint, e->>'n') AS id, decode(e->>'k', 'base64') AS key
            OFFSET 0) q
        CROSS JOIN LATERAL (SELECT id FROM lane WHERE queue_id = q.id AND key = q.key OFFSET 0) l
        WHERE e->>'e' = '0' AND e ? 'k');
END $$;

-- Names for hints, a limited number: these queues, what messages that the store ended put into queues since
-- number `p_mark`, and what this step appended to. Written as `hints.rs` reads them.
CREATE FUNCTION tw_touched(p_queues bigint[], p_mark bigint) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_step bigint := tw_step();
BEGIN
    RETURN ARRAY(
            SELECT 'q' || q.org || chr(31) || q.kind || chr(31) || q.name FROM queue q WHERE q.id IN (
                SELECT unnest(p_queues)
                UNION SELECT m.queue_id FROM message m WHERE m.seq > p_mark AND m.ended_seq IS NOT NULL)
            LIMIT 100)
        || ARRAY(
            SELECT DISTINCT 't' || t.org || chr(31) || t.kind || chr(31) || t.name
            FROM event e JOIN topic t ON t.id = e.topic_id
            WHERE e.position >= v_step AND e.position < v_step + (1 << 17) LIMIT 100);
END $$;

-- The edge charges for what is behind it: it opens a hold with the token of whoever asks, and settles it
-- when the answer is there, whatever has become of that token. Nobody else settles it. So the batch is
-- told who asks, and no longer concludes it from there being a session.

SET ROLE tollgate_definer;

-- One argument more, so that a process from before fails and does not misread.
DROP FUNCTION credits.post;

-- Answers a batch, one row each, by their place in it; the caller sorts it by user, and a
-- user's captures and voids before their charges. No two of a batch have the same key or
-- hold. What refuses one is its row's outcome and not an error, so that it never spoils its
-- neighbours:
--   posted        done
--   replayed      done before, under the same key or by the same settlement; the row says how
--   mismatch      the key was used with other values
--   insufficient  there is less than that; `free` and `paid` say how much
--   signed_out    the session is over, or the account cannot be used
--   unknown_user  no such user, or none who ever had a session with the app that asks
--   unknown_hold  no such hold, or somebody else's
--   settled       captured or voided before, otherwise
--   expired       the hold's time is over
--   exceeded      more than the hold
-- `app_id` and `description` are given for settlements alone: of a charge the caller has them.
-- Who asks is `user`, by a token that names its session; `edge`, by one as well where it charges, and
-- by none where it settles what it has opened; or `app:` and the app whose key asks. The id of a
-- charge with a key is made from that key, so what was done under it is found by the id, whoever may
-- or may not by now. `p_again` says that an attempt was made before whose end is unknown: then the
-- others are looked for as well.
CREATE FUNCTION credits.post(
    p_again boolean, p_kinds text[], p_ids uuid[], p_users uuid[], p_openers text[], p_sessions uuid[], p_apps text[],
    p_amounts bigint[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_holds uuid[], p_lifetimes integer[], p_daily bigint, p_daily_expires boolean
) RETURNS TABLE (
    place integer, outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint,
    created_at timestamptz, app_id text, description text
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Whatever the statistics say of a table that was empty a moment ago.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_material = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_count integer := cardinality(p_ids);
    v_now timestamptz;
    v_today date;
    -- Which are not answered yet.
    v_open boolean[] := array_fill(true, ARRAY[v_count]);
    v_settles boolean := p_kinds && ARRAY['capture', 'void'];
    -- The first expiry, and the first day that has not brought its credits, of any of them.
    v_due timestamptz;
    v_daily date;
    v_refused record;
    b credits.balances;
    -- The wallets as locked, in user order, and as they become.
    w_users uuid[];
    w_free bigint[];
    w_paid bigint[];
    w_held bigint[];
    w_spent bigint[];
    w_versions bigint[];
    w_due timestamptz[];
    w_at integer := 0;
    -- Their first lots in burning order, what those had and what they have left.
    l_users uuid[];
    l_versions bigint[];
    l_had bigint[];
    l_left bigint[];
    l_at integer := 1;
    l_end integer := 1;
    l_next integer := 1;
    l_read integer;
    v_more bigint[];
    v_more_left bigint[];
    -- The wallet at hand.
    v_user uuid;
    v_known boolean := false;
    v_free bigint;
    v_paid bigint;
    v_held bigint;
    v_spent bigint;
    v_version bigint;
    v_need bigint;
    v_part bigint;
    -- Each charge: its version, how much of it was free, and what is left after it.
    c_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    c_from_free bigint[] := c_versions;
    c_free bigint[] := c_versions;
    c_paid bigint[] := c_versions;
    -- The first lot that each burned, and how much of it.
    c_lots bigint[] := c_versions;
    c_lot_amounts bigint[] := c_versions;
    -- What some burned of further lots.
    a_users uuid[] := '{}';
    a_versions bigint[] := '{}';
    a_lots bigint[] := '{}';
    a_amounts bigint[] := '{}';
BEGIN
    -- Locks the wallets; once more after they were brought up to date.
    LOOP
        SELECT array_agg(l.user_id), array_agg(l.free), array_agg(l.paid), array_agg(l.version), array_agg(l.due_at),
            array_fill(0::bigint, ARRAY[count(*)::integer]), array_fill(0::bigint, ARRAY[count(*)::integer]),
            min(l.due_at), min(coalesce(l.daily_on, '-infinity'))
        INTO w_users, w_free, w_paid, w_versions, w_due, w_held, w_spent, v_due, v_daily
        FROM (
            SELECT * FROM credits.balances w WHERE w.user_id = ANY (p_users) ORDER BY w.user_id FOR UPDATE
        ) l;
        EXIT WHEN v_now IS NOT NULL;
        v_now := clock_timestamp();
        v_today := (v_now AT TIME ZONE 'UTC')::date;

        -- What was done before.
        FOR place, outcome, transaction_id, amount, free, paid, created_at, app_id, description IN
            SELECT i, CASE
                    WHEN p_keys[i] IS NULL THEN 'posted'
                    WHEN t.fingerprint <> p_fingerprints[i] THEN 'mismatch'
                    ELSE 'replayed'
                END, t.id, t.amount, t.free_after, t.paid_after, t.created_at, t.app_id,
                CASE WHEN p_kinds[i] IN ('capture', 'void') THEN (
                    SELECT h.description FROM credits.transactions h WHERE h.user_id = t.user_id AND h.version = t.of_version
                ) END
            FROM generate_series(1, v_count) i JOIN credits.transactions t ON t.user_id = p_users[i] AND t.id = p_ids[i]
            WHERE v_open[i] AND (p_again OR p_keys[i] IS NOT NULL)
        LOOP
            v_open[place] := false;
            RETURN NEXT;
        END LOOP;
        transaction_id := NULL; amount := NULL; free := NULL; paid := NULL; created_at := NULL;
        app_id := NULL; description := NULL;

        -- Who may not.
        FOR v_refused IN
            SELECT o.* FROM (SELECT DISTINCT n.session, n.user_id FROM unnest(p_sessions, p_users) AS n (session, user_id)) o
            -- A scalar, so that it is looked up by the session's own key whatever the statistics say.
            WHERE o.session IS NOT NULL AND o.user_id IS DISTINCT FROM (
                SELECT s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                WHERE s.id = o.session AND s.revoked_at IS NULL AND s.expires_at > v_now AND u.status = 'active'
            )
        LOOP
            FOR i IN 1 .. v_count LOOP
                CONTINUE WHEN NOT v_open[i] OR p_sessions[i] IS DISTINCT FROM v_refused.session
                    OR p_users[i] <> v_refused.user_id;
                v_open[i] := false;
                place := i; outcome := 'signed_out';
                RETURN NEXT;
            END LOOP;
        END LOOP;
        IF array_position(p_sessions, NULL) IS NOT NULL THEN
            FOR place, outcome IN
                SELECT o.i, 'unknown_user'
                FROM unnest(p_openers, p_sessions, p_users, p_apps, p_kinds) WITH ORDINALITY
                    AS o (opener, session, user_id, app_id, kind, i)
                WHERE v_open[o.i] AND CASE
                    WHEN o.opener LIKE 'app:%' THEN NOT EXISTS (
                        SELECT FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                        WHERE s.user_id = o.user_id AND s.client_id = o.app_id
                          -- Nobody is charged who was disabled meanwhile; what is under way can end.
                          AND (u.status = 'active' OR o.kind IN ('capture', 'void'))
                    )
                    -- Of anybody else, only the edge settles without a session.
                    ELSE o.session IS NULL AND (o.opener IS DISTINCT FROM 'edge' OR o.kind NOT IN ('capture', 'void'))
                END
            LOOP
                v_open[place] := false;
                RETURN NEXT;
            END LOOP;
        END IF;

        EXIT WHEN NOT v_settles AND coalesce(v_due > v_now, true) AND (p_daily = 0 OR coalesce(v_daily >= v_today, true));
        FOR i IN 1 .. v_count LOOP
            CONTINUE WHEN NOT v_open[i];
            IF v_user IS DISTINCT FROM p_users[i] THEN
                v_user := p_users[i];
                SELECT * INTO b FROM credits.balances WHERE user_id = v_user;
                IF FOUND AND (b.due_at <= v_now OR p_daily > 0 AND b.daily_on IS DISTINCT FROM v_today) THEN
                    b := credits.bring_up_to_date(b, p_daily, p_daily_expires, v_now);
                    PERFORM credits.save(b);
                END IF;
            END IF;
            IF p_kinds[i] IN ('capture', 'void') THEN
                SELECT i, s.outcome, s.transaction_id, s.amount, s.free, s.paid, s.created_at, s.app_id, s.description
                INTO place, outcome, transaction_id, amount, free, paid, created_at, app_id, description
                FROM credits.settle_one(
                    v_user, p_ids[i], p_holds[i], p_openers[i],
                    p_kinds[i], p_amounts[i], v_now
                ) s;
                v_open[i] := false;
                RETURN NEXT;
            END IF;
        END LOOP;
        app_id := NULL; description := NULL;
    END LOOP;
    v_user := NULL;

    IF NOT true = ANY (v_open) THEN
        RETURN;
    END IF;
    SELECT array_agg(l.user_id), array_agg(l.version), array_agg(l.remaining) INTO l_users, l_versions, l_left
    FROM (
        SELECT g.user_id, g.version, g.remaining
        FROM unnest(w_users) WITH ORDINALITY AS w (user_id, i) CROSS JOIN LATERAL (
            SELECT n.user_id, n.version, n.remaining, n.kind, n.expires_at FROM credits.grants n
            WHERE n.user_id = w.user_id AND n.spendable ORDER BY n.kind, n.expires_at, n.version LIMIT 8
        ) g
        ORDER BY w.i, g.kind, g.expires_at, g.version
    ) l;
    l_had := l_left;

    -- Once more than there are, so that the last wallet is put back too.
    FOR i IN 1 .. v_count + 1 LOOP
        IF v_user IS DISTINCT FROM p_users[i] THEN
            IF v_known THEN
                w_free[w_at] := v_free;
                w_paid[w_at] := v_paid;
                w_held[w_at] := v_held;
                w_spent[w_at] := v_spent;
                w_versions[w_at] := v_version;
            END IF;
            EXIT WHEN i > v_count;
            v_user := p_users[i];
            v_known := coalesce(w_users[w_at + 1] = v_user, false);
            IF v_known THEN
                w_at := w_at + 1;
                v_free := w_free[w_at];
                v_paid := w_paid[w_at];
                v_held := 0;
                v_spent := 0;
                v_version := w_versions[w_at];
                l_at := l_next;
                WHILE l_users[l_next] = v_user LOOP
                    l_next := l_next + 1;
                END LOOP;
                l_end := l_next;
                l_read := 8;
            END IF;
        END IF;
        CONTINUE WHEN NOT v_open[i];
        v_need := p_amounts[i];
        IF NOT v_known OR v_free + v_paid < v_need THEN
            place := i; transaction_id := NULL; amount := NULL; created_at := NULL;
            outcome := CASE WHEN v_known THEN 'insufficient' ELSE 'unknown_user' END;
            free := CASE WHEN v_known THEN v_free END; paid := CASE WHEN v_known THEN v_paid END;
            RETURN NEXT;
            CONTINUE;
        END IF;

        v_part := least(v_free, v_need);
        v_free := v_free - v_part;
        v_paid := v_paid - (v_need - v_part);
        v_version := v_version + 1;
        c_versions[i] := v_version;
        c_from_free[i] := v_part;
        c_free[i] := v_free;
        c_paid[i] := v_paid;
        IF p_kinds[i] = 'hold' THEN
            v_held := v_held + v_need;
            w_due[w_at] := least(w_due[w_at], v_now + make_interval(secs => p_lifetimes[i]));
        ELSE
            v_spent := v_spent + v_need;
        END IF;
        IF l_at < l_end AND l_left[l_at] > v_need THEN
            c_lots[i] := l_versions[l_at];
            c_lot_amounts[i] := v_need;
            l_left[l_at] := l_left[l_at] - v_need;
            CONTINUE;
        END IF;
        -- It takes the rest of a lot, and maybe more.
        WHILE v_need > 0 LOOP
            IF l_at = l_end THEN
                SELECT array_agg(g.version), array_agg(g.remaining) INTO v_more, v_more_left FROM (
                    SELECT n.version, n.remaining FROM credits.grants n
                    WHERE n.user_id = v_user AND n.spendable ORDER BY n.kind, n.expires_at, n.version
                    LIMIT 64 OFFSET l_read
                ) g;
                IF v_more IS NULL THEN
                    RAISE EXCEPTION 'the lots of % do not hold its balance', v_user;
                END IF;
                l_read := l_read + 64;
                l_at := coalesce(cardinality(l_users), 0) + 1;
                l_users := l_users || array_fill(v_user, ARRAY[cardinality(v_more)]);
                l_versions := l_versions || v_more;
                l_had := l_had || v_more_left;
                l_left := l_left || v_more_left;
                l_end := cardinality(l_users) + 1;
            END IF;
            v_part := least(l_left[l_at], v_need);
            v_need := v_need - v_part;
            IF c_lots[i] IS NULL THEN
                c_lots[i] := l_versions[l_at];
                c_lot_amounts[i] := v_part;
            ELSE
                a_users := a_users || v_user;
                a_versions := a_versions || v_version;
                a_lots := a_lots || l_versions[l_at];
                a_amounts := a_amounts || v_part;
            END IF;
            l_left[l_at] := l_left[l_at] - v_part;
            IF l_left[l_at] = 0 THEN
                l_at := l_at + 1;
            END IF;
        END LOOP;
    END LOOP;

    IF a_users <> '{}' THEN
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        SELECT o.user_id, o.version, o.lot, o.amount
        FROM unnest(a_users, a_versions, a_lots, a_amounts) AS o (user_id, version, lot, amount);
    END IF;
    -- By subscripts, since `unnest` would copy each array to a store of its own.
    WITH written AS (
        INSERT INTO credits.transactions (
            user_id, version, id, type,
            amount, free_after, paid_after, free, paid,
            held, revenue,
            lot, lot_amount, app_id, idempotency_key, fingerprint, description, metadata, created_at
        )
        SELECT p_users[i], c_versions[i], p_ids[i], CASE p_kinds[i] WHEN 'hold' THEN 'hold' ELSE 'spend' END::credits.transaction_type,
            p_amounts[i], c_free[i], c_paid[i], -c_from_free[i], c_from_free[i] - p_amounts[i],
            CASE p_kinds[i] WHEN 'hold' THEN p_amounts[i] ELSE 0 END, CASE p_kinds[i] WHEN 'hold' THEN 0 ELSE p_amounts[i] END,
            c_lots[i], c_lot_amounts[i], p_apps[i], p_keys[i], p_fingerprints[i], p_descriptions[i], p_metadata[i], v_now
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL
    ), burned AS (
        UPDATE credits.grants g SET remaining = l_left[i]
        FROM generate_subscripts(l_users, 1) i
        WHERE l_left[i] <> l_had[i] AND g.user_id = l_users[i] AND g.version = l_versions[i]
    ), counted AS (
        INSERT INTO credits.usage AS u (user_id, day, app_id, spent, uses)
        SELECT p_users[i], v_today, p_apps[i], sum(p_amounts[i]), count(*) FROM generate_series(1, v_count) i
        WHERE c_versions[i] IS NOT NULL AND p_kinds[i] = 'spend' GROUP BY p_users[i], p_apps[i]
        ON CONFLICT (user_id, day, app_id) DO UPDATE
        SET spent = u.spent + excluded.spent, uses = u.uses + excluded.uses
    )
    UPDATE credits.balances w SET
        free = w_free[i], paid = w_paid[i], held = w.held + w_held[i], total_spent = w.total_spent + w_spent[i],
        version = w_versions[i], due_at = w_due[i]
    FROM generate_subscripts(w_users, 1) i
    WHERE w_held[i] + w_spent[i] > 0 AND w.user_id = w_users[i];

    IF 'hold' = ANY (p_kinds) THEN
        INSERT INTO credits.holds (user_id, version, id, opened_by, amount, expires_at)
        SELECT p_users[i], c_versions[i], p_ids[i],
            p_openers[i],
            p_amounts[i], v_now + make_interval(secs => p_lifetimes[i])
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL AND p_kinds[i] = 'hold';
    END IF;

    RETURN QUERY SELECT i, 'posted', p_ids[i], p_amounts[i], c_free[i], c_paid[i], v_now, NULL::text, NULL::text
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL;
END $$;

REVOKE ALL ON FUNCTION credits.post FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.post TO tollgate_app;

RESET ROLE;

COMMENT ON COLUMN credits.holds.opened_by IS 'Who may settle it: `user`, `edge`, or `app:` and the app whose key opened it.';

-- The batch anew, with fewer rows to write and fewer statements to start: it looks for what
-- refuses an operation in one statement, reads the lots of all its users in one, decides in
-- memory, and writes all that it charges in one.

SET ROLE tollgate_definer;

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
-- A user's own token names its session; an app's key names the app. The id of a charge with a
-- key is made from that key, so what was done under it is found by the id. `p_again` says that
-- an attempt was made before whose end is unknown: then the others are looked for as well.
CREATE FUNCTION credits.post(
    p_kinds text[], p_ids uuid[], p_users uuid[], p_sessions uuid[], p_apps text[], p_amounts bigint[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_holds uuid[], p_lifetimes integer[], p_again boolean, p_daily bigint, p_daily_expires boolean
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
    v_stale boolean;
    v_refused uuid;
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
    v_known boolean;
    v_free bigint;
    v_paid bigint;
    v_version bigint;
    v_need bigint;
    v_part bigint;
    -- Each charge: its version, how much of it was free, and what is left after it.
    c_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    c_from_free bigint[] := c_versions;
    c_free bigint[] := c_versions;
    c_paid bigint[] := c_versions;
    -- What each burned of which lot.
    a_users uuid[] := '{}';
    a_versions bigint[] := '{}';
    a_lots bigint[] := '{}';
    a_amounts bigint[] := '{}';
BEGIN
    -- Locks the wallets; once more after they were brought up to date.
    LOOP
        SELECT array_agg(l.user_id), array_agg(l.free), array_agg(l.paid), array_agg(l.version), array_agg(l.due_at),
            array_fill(0::bigint, ARRAY[count(*)::integer]), array_fill(0::bigint, ARRAY[count(*)::integer]),
            v_now IS NULL AND bool_or(
                l.due_at <= clock_timestamp()
                OR p_daily > 0 AND l.daily_on IS DISTINCT FROM (clock_timestamp() AT TIME ZONE 'UTC')::date
            )
        INTO w_users, w_free, w_paid, w_versions, w_due, w_held, w_spent, v_stale
        FROM (
            SELECT * FROM credits.balances w WHERE w.user_id = ANY (p_users) ORDER BY w.user_id FOR UPDATE
        ) l;
        EXIT WHEN v_now IS NOT NULL;
        v_now := clock_timestamp();
        v_today := (v_now AT TIME ZONE 'UTC')::date;

        -- Who may not.
        FOR v_refused IN
            SELECT o.session FROM (SELECT DISTINCT n.session, n.user_id FROM unnest(p_sessions, p_users) AS n (session, user_id)) o
            -- A scalar, so that it is looked up by the session's own key whatever the statistics say.
            WHERE o.session IS NOT NULL AND o.user_id IS DISTINCT FROM (
                SELECT s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                WHERE s.id = o.session AND s.revoked_at IS NULL AND s.expires_at > v_now AND u.status = 'active'
            )
        LOOP
            FOR i IN 1 .. v_count LOOP
                CONTINUE WHEN p_sessions[i] IS DISTINCT FROM v_refused;
                v_open[i] := false;
                place := i; outcome := 'signed_out';
                RETURN NEXT;
            END LOOP;
        END LOOP;
        IF array_position(p_sessions, NULL) IS NOT NULL THEN
            FOR place, outcome IN
                SELECT o.i, 'unknown_user'
                FROM unnest(p_sessions, p_users, p_apps, p_kinds) WITH ORDINALITY AS o (session, user_id, app_id, kind, i)
                WHERE o.session IS NULL AND NOT EXISTS (
                    SELECT FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                    WHERE s.user_id = o.user_id AND s.client_id = o.app_id
                      -- Nobody is charged who was disabled meanwhile; what is under way can end.
                      AND (u.status = 'active' OR o.kind IN ('capture', 'void'))
                )
            LOOP
                v_open[place] := false;
                RETURN NEXT;
            END LOOP;
        END IF;

        -- What was done before.
        FOR place, outcome, transaction_id, amount, free, paid, created_at IN
            SELECT o.i, CASE
                    WHEN t.fingerprint <> o.fingerprint THEN 'mismatch'
                    WHEN o.key IS NULL THEN 'posted'
                    ELSE 'replayed'
                END, t.id, t.amount, t.free_after, t.paid_after, t.created_at
            FROM unnest(p_users, p_ids, p_kinds, p_keys, p_fingerprints, v_open) WITH ORDINALITY
                AS o (user_id, id, kind, key, fingerprint, is_open, i)
            JOIN credits.transactions t ON t.user_id = o.user_id AND t.id = o.id
            WHERE o.is_open AND (o.key IS NOT NULL OR p_again AND o.kind IN ('spend', 'hold'))
        LOOP
            v_open[place] := false;
            RETURN NEXT;
        END LOOP;

        EXIT WHEN NOT (v_settles OR v_stale);
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
                    v_user, p_ids[i], p_holds[i], CASE WHEN p_sessions[i] IS NULL THEN 'app:' || p_apps[i] ELSE 'user' END,
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

    FOR i IN 1 .. v_count LOOP
        IF v_user IS DISTINCT FROM p_users[i] THEN
            v_user := p_users[i];
            v_known := coalesce(w_users[w_at + 1] = v_user, false);
            IF v_known THEN
                w_at := w_at + 1;
                v_free := w_free[w_at];
                v_paid := w_paid[w_at];
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
            free := v_free; paid := v_paid;
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
        w_free[w_at] := v_free;
        w_paid[w_at] := v_paid;
        w_versions[w_at] := v_version;
        IF p_kinds[i] = 'hold' THEN
            w_held[w_at] := w_held[w_at] + v_need;
            w_due[w_at] := least(w_due[w_at], v_now + make_interval(secs => p_lifetimes[i]));
        ELSE
            w_spent[w_at] := w_spent[w_at] + v_need;
        END IF;
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
            a_users := a_users || v_user;
            a_versions := a_versions || v_version;
            a_lots := a_lots || l_versions[l_at];
            a_amounts := a_amounts || v_part;
            l_left[l_at] := l_left[l_at] - v_part;
            IF l_left[l_at] = 0 THEN
                l_at := l_at + 1;
            END IF;
        END LOOP;
    END LOOP;

    WITH charges AS MATERIALIZED (
        SELECT o.* FROM unnest(
            p_users, c_versions, p_ids, p_kinds, p_amounts, c_from_free, c_free, c_paid, p_apps, p_keys,
            p_fingerprints, p_descriptions, p_metadata
        ) AS o (
            user_id, version, id, kind, amount, from_free, free, paid, app_id, key, fingerprint, description, metadata
        ) WHERE o.version IS NOT NULL
    ), written AS (
        INSERT INTO credits.transactions (
            user_id, version, id, type, amount, free_after, paid_after, free, paid, held, revenue, app_id,
            idempotency_key, fingerprint, created_at
        )
        SELECT o.user_id, o.version, o.id, o.kind, o.amount, o.free, o.paid, -o.from_free, o.from_free - o.amount,
            CASE o.kind WHEN 'hold' THEN o.amount ELSE 0 END, CASE o.kind WHEN 'hold' THEN 0 ELSE o.amount END,
            o.app_id, o.key, o.fingerprint, v_now
        FROM charges o
    ), described AS (
        INSERT INTO credits.details (user_id, version, description, metadata)
        SELECT o.user_id, o.version, o.description, o.metadata FROM charges o
    ), allocated AS (
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        SELECT o.user_id, o.version, o.lot, o.amount
        FROM unnest(a_users, a_versions, a_lots, a_amounts) AS o (user_id, version, lot, amount)
    ), burned AS (
        UPDATE credits.grants g SET remaining = o.remaining
        FROM unnest(l_users, l_versions, l_left, l_had) AS o (user_id, version, remaining, had)
        WHERE o.remaining <> o.had AND g.user_id = o.user_id AND g.version = o.version
    ), counted AS (
        INSERT INTO credits.usage AS u (user_id, day, app_id, spent, uses)
        SELECT o.user_id, v_today, o.app_id, sum(o.amount), count(*) FROM charges o
        WHERE o.kind = 'spend' GROUP BY o.user_id, o.app_id
        ON CONFLICT (user_id, day, app_id) DO UPDATE
        SET spent = u.spent + excluded.spent, uses = u.uses + excluded.uses
    )
    UPDATE credits.balances w SET
        free = n.free, paid = n.paid, held = w.held + n.held, total_spent = w.total_spent + n.spent,
        version = n.version, due_at = n.due_at
    FROM unnest(w_users, w_free, w_paid, w_held, w_spent, w_versions, w_due)
        AS n (user_id, free, paid, held, spent, version, due_at)
    WHERE n.held + n.spent > 0 AND w.user_id = n.user_id;

    IF 'hold' = ANY (p_kinds) THEN
        INSERT INTO credits.holds (user_id, version, id, opened_by, amount, expires_at)
        SELECT o.user_id, o.version, o.id, CASE WHEN o.session IS NULL THEN 'app:' || o.app_id ELSE 'user' END,
               o.amount, v_now + make_interval(secs => o.lifetime)
        FROM unnest(p_users, c_versions, p_ids, p_kinds, p_sessions, p_apps, p_amounts, p_lifetimes)
            AS o (user_id, version, id, kind, session, app_id, amount, lifetime)
        WHERE o.version IS NOT NULL AND o.kind = 'hold';
    END IF;

    RETURN QUERY SELECT o.i::integer, 'posted', o.id, o.amount, o.free, o.paid, v_now, NULL::text, NULL::text
        FROM unnest(c_versions, p_ids, p_amounts, c_free, c_paid) WITH ORDINALITY AS o (version, id, amount, free, paid, i)
        WHERE o.version IS NOT NULL;
END $$;

-- Captures or voids a hold in a wallet that the caller has locked. The outcomes are those of
-- `credits.post`.
CREATE FUNCTION credits.settle_one(
    p_user uuid, p_id uuid, p_hold uuid, p_opened_by text, p_kind text, p_amount bigint, p_now timestamptz,
    OUT outcome text, OUT transaction_id uuid, OUT amount bigint, OUT free bigint, OUT paid bigint,
    OUT created_at timestamptz, OUT app_id text, OUT description text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    b credits.balances;
    v_hold credits.holds;
    v_amount bigint;
BEGIN
    SELECT * INTO v_hold FROM credits.holds WHERE user_id = p_user AND id = p_hold;
    v_amount := coalesce(p_amount, v_hold.amount);
    outcome := CASE
        WHEN v_hold.id IS NULL OR v_hold.opened_by <> p_opened_by THEN 'unknown_hold'
        WHEN v_hold.state = 'expired' OR v_hold.state = 'open' AND v_hold.expires_at <= p_now THEN 'expired'
        WHEN v_hold.state <> 'open' THEN CASE
            WHEN p_kind = 'capture' AND v_hold.state = 'captured' AND v_hold.captured = v_amount
              OR p_kind = 'void' AND v_hold.state = 'voided'
            THEN 'replayed' ELSE 'settled' END
        WHEN p_kind = 'capture' AND v_amount > v_hold.amount THEN 'exceeded'
        ELSE 'posted'
    END;
    IF outcome = 'posted' THEN
        SELECT * INTO STRICT b FROM credits.balances WHERE user_id = p_user;
        b := CASE p_kind
            WHEN 'capture' THEN credits.settle(b, v_hold, p_id, 'captured', v_amount, p_now)
            ELSE credits.settle(b, v_hold, p_id, 'voided', 0, p_now) END;
        PERFORM credits.save(b);
        v_hold.settled_version := b.version;
    END IF;
    IF outcome IN ('posted', 'replayed') THEN
        SELECT t.id, t.amount, t.free_after, t.paid_after, t.created_at, t.app_id, d.description
        INTO STRICT transaction_id, amount, free, paid, created_at, app_id, description
        FROM credits.transactions t LEFT JOIN credits.details d
          ON d.user_id = t.user_id AND d.version = v_hold.version
        WHERE t.user_id = p_user AND t.version = v_hold.settled_version;
    END IF;
END $$;

REVOKE ALL ON FUNCTION credits.post, credits.settle_one FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.post TO tollgate_app;

RESET ROLE;

-- The one statement of the hot path: a batch of charges and holds, whoever's they are, in
-- one call and one commit. It locks the balances in user order, reads what it needs, works
-- in memory, and writes each table once.

SET ROLE tollgate_definer;

-- Answers a batch, one row each and in order; the caller sorts it by user, and a user's
-- captures and voids before their charges. No two of a batch have the same key or hold.
-- What refuses one is its row's outcome and not an error, so that it never spoils its
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
-- A user's own token names its session; an app's key names the app. `p_again` says that an
-- attempt was made before whose end is unknown: what it did is then found by its id.
CREATE FUNCTION credits.post(
    p_kinds text[], p_ids uuid[], p_users uuid[], p_sessions uuid[], p_apps text[], p_amounts bigint[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_holds uuid[], p_lifetimes integer[], p_again boolean, p_daily bigint, p_daily_expires boolean
) RETURNS TABLE (
    outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint, created_at timestamptz,
    app_id text, description text
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
    -- The answers.
    v_outcomes text[] := array_fill(NULL::text, ARRAY[v_count]);
    v_transactions uuid[] := p_ids;
    v_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    v_amounts bigint[] := p_amounts;
    v_frees bigint[] := v_versions;
    v_paids bigint[] := v_versions;
    v_times timestamptz[] := array_fill(NULL::timestamptz, ARRAY[v_count]);
    v_app_ids text[] := p_apps;
    v_texts text[] := p_descriptions;
    -- How much of each charge was free, and how much paid for.
    v_from_free bigint[] := v_versions;
    v_from_paid bigint[] := v_versions;
    -- What each charge burned of which lot, and what each lot has left.
    a_users uuid[] := '{}';
    a_versions bigint[] := '{}';
    a_lots bigint[] := '{}';
    a_amounts bigint[] := '{}';
    l_users uuid[] := '{}';
    l_lots bigint[] := '{}';
    l_left bigint[] := '{}';
    -- The wallets as locked, in user order, and as they become.
    v_locked credits.balances[];
    v_wallets credits.balances[] := '{}';
    v_at integer := 1;
    b credits.balances;
    v_user uuid;
    v_known boolean;
    v_current boolean;
    v_moved boolean := false;
    -- The lots of the user at hand, in burning order, some at a time.
    v_lots bigint[];
    v_kinds text[];
    v_left bigint[];
    v_lot integer;
    v_read integer;
    v_need bigint;
    v_part bigint;
    v_free bigint;
    v_past record;
    v_i integer;
    v_hold credits.holds;
BEGIN
    SELECT array_agg(l.w) INTO v_locked FROM (
        SELECT w FROM credits.balances w WHERE w.user_id = ANY (p_users) ORDER BY w.user_id FOR UPDATE
    ) l;
    v_now := clock_timestamp();
    v_today := (v_now AT TIME ZONE 'UTC')::date;

    -- Who may not.
    FOR v_i IN
        SELECT o.i FROM unnest(p_sessions, p_users) WITH ORDINALITY AS o (session, user_id, i)
        -- A scalar, so that it is looked up by the session's own key whatever the statistics say.
        WHERE o.session IS NOT NULL AND o.user_id IS DISTINCT FROM (
            SELECT s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
            WHERE s.id = o.session AND s.revoked_at IS NULL AND s.expires_at > v_now AND u.status = 'active'
        )
    LOOP
        v_outcomes[v_i] := 'signed_out';
    END LOOP;
    IF array_position(p_sessions, NULL) IS NOT NULL THEN
        FOR v_i IN
            SELECT o.i
            FROM unnest(p_sessions, p_users, p_apps, p_kinds) WITH ORDINALITY AS o (session, user_id, app_id, kind, i)
            WHERE o.session IS NULL AND NOT EXISTS (
                SELECT FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                WHERE s.user_id = o.user_id AND s.client_id = o.app_id
                  -- Nobody is charged who was disabled meanwhile; what is under way can end.
                  AND (u.status = 'active' OR o.kind IN ('capture', 'void'))
            )
        LOOP
            v_outcomes[v_i] := 'unknown_user';
        END LOOP;
    END IF;

    -- What was done before.
    IF array_to_string(p_keys, '') <> '' THEN
        FOR v_past IN
            SELECT o.i, t.* FROM unnest(p_users, p_apps, p_keys) WITH ORDINALITY AS o (user_id, app_id, key, i)
            JOIN credits.transactions t
              ON t.user_id = o.user_id AND t.app_id = o.app_id AND t.idempotency_key = o.key
        LOOP
            CONTINUE WHEN v_outcomes[v_past.i] IS NOT NULL;
            v_outcomes[v_past.i] := CASE
                WHEN v_past.fingerprint <> p_fingerprints[v_past.i] THEN 'mismatch'
                WHEN v_past.id = p_ids[v_past.i] THEN 'posted'
                ELSE 'replayed' END;
            v_transactions[v_past.i] := v_past.id;
            v_frees[v_past.i] := v_past.free_after;
            v_paids[v_past.i] := v_past.paid_after;
            v_times[v_past.i] := v_past.created_at;
        END LOOP;
    END IF;
    IF p_again THEN
        FOR v_past IN
            SELECT o.i, t.* FROM unnest(p_users, p_ids) WITH ORDINALITY AS o (user_id, id, i)
            JOIN credits.transactions t ON t.user_id = o.user_id AND t.id = o.id
        LOOP
            v_outcomes[v_past.i] := 'posted';
            v_amounts[v_past.i] := v_past.amount;
            v_frees[v_past.i] := v_past.free_after;
            v_paids[v_past.i] := v_past.paid_after;
            v_times[v_past.i] := v_past.created_at;
            v_app_ids[v_past.i] := v_past.app_id;
        END LOOP;
    END IF;

    FOR i IN 1 .. v_count LOOP
        IF v_user IS DISTINCT FROM p_users[i] THEN
            IF v_moved THEN
                v_wallets := v_wallets || b;
                v_moved := false;
            END IF;
            v_user := p_users[i];
            WHILE (v_locked[v_at]).user_id < v_user LOOP
                v_at := v_at + 1;
            END LOOP;
            b := v_locked[v_at];
            v_known := coalesce(b.user_id = v_user, false);
            v_current := false;
            v_read := 0;
            v_lot := 0;
            v_lots := '{}';
        END IF;

        CONTINUE WHEN v_outcomes[i] IS NOT NULL;
        IF NOT v_known THEN
            v_outcomes[i] := 'unknown_user';
            CONTINUE;
        END IF;
        IF NOT v_current THEN
            v_current := true;
            IF b.due_at <= v_now OR (p_daily > 0 AND b.daily_on IS DISTINCT FROM v_today) THEN
                b := credits.bring_up_to_date(b, p_daily, p_daily_expires, v_now);
                v_moved := true;
            END IF;
        END IF;

        IF p_kinds[i] IN ('capture', 'void') THEN
            SELECT * INTO v_hold FROM credits.holds WHERE user_id = v_user AND id = p_holds[i];
            v_need := coalesce(p_amounts[i], v_hold.amount);
            v_outcomes[i] := CASE
                WHEN v_hold.id IS NULL
                  OR v_hold.opened_by <> CASE WHEN p_sessions[i] IS NULL THEN 'app:' || p_apps[i] ELSE 'user' END
                    THEN 'unknown_hold'
                WHEN v_hold.state = 'expired' OR v_hold.state = 'open' AND v_hold.expires_at <= v_now THEN 'expired'
                WHEN v_hold.state <> 'open' THEN CASE
                    WHEN p_kinds[i] = 'capture' AND v_hold.state = 'captured' AND v_hold.captured = v_need
                      OR p_kinds[i] = 'void' AND v_hold.state = 'voided'
                    THEN 'replayed' ELSE 'settled' END
                WHEN p_kinds[i] = 'capture' AND v_need > v_hold.amount THEN 'exceeded'
                ELSE 'posted'
            END;
            IF v_outcomes[i] = 'posted' THEN
                b := CASE p_kinds[i]
                    WHEN 'capture' THEN credits.settle(b, v_hold, p_ids[i], 'captured', v_need, v_now)
                    ELSE credits.settle(b, v_hold, p_ids[i], 'voided', 0, v_now) END;
                v_moved := true;
                v_hold.settled_version := b.version;
            END IF;
            IF v_outcomes[i] IN ('posted', 'replayed') THEN
                SELECT t.*, d.description INTO STRICT v_past
                FROM credits.transactions t LEFT JOIN credits.details d
                  ON d.user_id = t.user_id AND d.version = v_hold.version
                WHERE t.user_id = v_user AND t.version = v_hold.settled_version;
                v_transactions[i] := v_past.id;
                v_amounts[i] := v_past.amount;
                v_frees[i] := v_past.free_after;
                v_paids[i] := v_past.paid_after;
                v_times[i] := v_past.created_at;
                v_app_ids[i] := v_past.app_id;
                v_texts[i] := v_past.description;
            END IF;
            CONTINUE;
        END IF;

        v_frees[i] := b.free;
        v_paids[i] := b.paid;
        IF b.free + b.paid < p_amounts[i] THEN
            v_outcomes[i] := 'insufficient';
            CONTINUE;
        END IF;
        b.version := b.version + 1;
        v_need := p_amounts[i];
        v_free := 0;
        WHILE v_need > 0 LOOP
            IF v_lot = 0 OR v_left[v_lot] = 0 THEN
                IF v_lot = cardinality(v_lots) THEN
                    SELECT array_agg(g.version), array_agg(g.kind), array_agg(g.remaining) INTO v_lots, v_kinds, v_left
                    FROM (
                        SELECT version, kind, remaining FROM credits.grants
                        WHERE user_id = v_user AND spendable ORDER BY kind, expires_at, version LIMIT 8 OFFSET v_read
                    ) g;
                    IF v_lots IS NULL THEN
                        RAISE EXCEPTION 'the lots of % do not hold its balance', v_user;
                    END IF;
                    v_read := v_read + 8;
                    v_lot := 0;
                END IF;
                v_lot := v_lot + 1;
                l_users := l_users || v_user;
                l_lots := l_lots || v_lots[v_lot];
                l_left := l_left || v_left[v_lot];
            END IF;
            v_part := least(v_left[v_lot], v_need);
            v_left[v_lot] := v_left[v_lot] - v_part;
            l_left[cardinality(l_left)] := v_left[v_lot];
            v_need := v_need - v_part;
            IF v_kinds[v_lot] = 'free' THEN v_free := v_free + v_part; END IF;
            a_users := a_users || v_user;
            a_versions := a_versions || b.version;
            a_lots := a_lots || v_lots[v_lot];
            a_amounts := a_amounts || v_part;
        END LOOP;
        b.free := b.free - v_free;
        b.paid := b.paid - (p_amounts[i] - v_free);
        IF p_kinds[i] = 'hold' THEN
            b.held := b.held + p_amounts[i];
            b.due_at := least(b.due_at, v_now + make_interval(secs => p_lifetimes[i]));
        ELSE
            b.total_spent := b.total_spent + p_amounts[i];
        END IF;
        v_outcomes[i] := 'posted';
        v_versions[i] := b.version;
        v_frees[i] := b.free;
        v_paids[i] := b.paid;
        v_times[i] := v_now;
        v_from_free[i] := v_free;
        v_from_paid[i] := p_amounts[i] - v_free;
        v_moved := true;
    END LOOP;
    IF v_moved THEN
        v_wallets := v_wallets || b;
    END IF;

    INSERT INTO credits.transactions
        (user_id, version, id, type, amount, free_after, paid_after, app_id, idempotency_key, fingerprint, created_at)
    SELECT o.user_id, o.version, o.id, o.kind, o.amount, o.free, o.paid, o.app_id, o.key, o.fingerprint, v_now
    FROM unnest(p_users, v_versions, p_ids, p_kinds, p_amounts, v_frees, v_paids, p_apps, p_keys, p_fingerprints)
        AS o (user_id, version, id, kind, amount, free, paid, app_id, key, fingerprint)
    WHERE o.version IS NOT NULL;
    INSERT INTO credits.details (user_id, version, description, metadata)
    SELECT o.user_id, o.version, o.description, o.metadata
    FROM unnest(p_users, v_versions, p_descriptions, p_metadata) AS o (user_id, version, description, metadata)
    WHERE o.version IS NOT NULL;
    INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
    SELECT o.user_id, o.version, e.account, e.amount, e.balance_after
    FROM unnest(p_users, v_versions, p_kinds, p_amounts, v_from_free, v_from_paid, v_frees, v_paids)
        AS o (user_id, version, kind, amount, from_free, from_paid, free, paid)
    CROSS JOIN LATERAL (VALUES
        ('free', -o.from_free, o.free), ('paid', -o.from_paid, o.paid),
        (CASE o.kind WHEN 'hold' THEN 'held' ELSE 'revenue' END, o.amount, NULL)
    ) AS e (account, amount, balance_after)
    WHERE o.version IS NOT NULL AND e.amount <> 0;
    INSERT INTO credits.allocations (user_id, version, grant_version, amount)
    SELECT o.user_id, o.version, o.lot, o.amount
    FROM unnest(a_users, a_versions, a_lots, a_amounts) AS o (user_id, version, lot, amount);
    UPDATE credits.grants g SET remaining = o.remaining
    FROM unnest(l_users, l_lots, l_left) AS o (user_id, lot, remaining)
    WHERE g.user_id = o.user_id AND g.version = o.lot;
    IF 'hold' = ANY (p_kinds) THEN
        INSERT INTO credits.holds (user_id, version, id, opened_by, amount, expires_at)
        SELECT o.user_id, o.version, o.id, CASE WHEN o.session IS NULL THEN 'app:' || o.app_id ELSE 'user' END,
               o.amount, v_now + make_interval(secs => o.lifetime)
        FROM unnest(p_users, v_versions, p_ids, p_kinds, p_sessions, p_apps, p_amounts, p_lifetimes)
            AS o (user_id, version, id, kind, session, app_id, amount, lifetime)
        WHERE o.version IS NOT NULL AND o.kind = 'hold';
    END IF;
    IF 'spend' = ANY (p_kinds) THEN
        INSERT INTO credits.usage AS u (user_id, day, app_id, spent, uses)
        SELECT o.user_id, v_today, o.app_id, sum(o.amount), count(*)
        FROM unnest(p_users, v_versions, p_kinds, p_apps, p_amounts) AS o (user_id, version, kind, app_id, amount)
        WHERE o.version IS NOT NULL AND o.kind = 'spend'
        GROUP BY o.user_id, o.app_id
        ON CONFLICT (user_id, day, app_id) DO UPDATE
        SET spent = u.spent + excluded.spent, uses = u.uses + excluded.uses;
    END IF;
    UPDATE credits.balances w SET
        free = n.free, paid = n.paid, held = n.held, debt = n.debt, total_earned = n.total_earned,
        total_spent = n.total_spent, version = n.version, daily_on = n.daily_on, due_at = n.due_at
    FROM unnest(v_wallets) n WHERE w.user_id = n.user_id;

    RETURN QUERY SELECT * FROM unnest(
        v_outcomes, v_transactions, v_amounts, v_frees, v_paids, v_times, v_app_ids, v_texts
    );
END $$;

-- The wallet as of now. The first look of a day brings that day's credits. An app sees
-- those of people who have had a session with it.
CREATE FUNCTION credits.balance(p_user uuid, p_app_id text, p_daily bigint, p_daily_expires boolean)
RETURNS SETOF credits.balances
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b credits.balances;
    v_version bigint;
BEGIN
    IF p_app_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM auth.sessions WHERE user_id = p_user AND client_id = p_app_id
    ) THEN
        RETURN;
    END IF;
    SELECT * INTO b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_version := b.version;
    b := credits.bring_up_to_date(b, p_daily, p_daily_expires, clock_timestamp());
    IF b.version > v_version THEN
        PERFORM credits.save(b);
    END IF;
    RETURN NEXT b;
END $$;

-- Returns what has expired, of wallets that nobody looks at. Whoever holds a wallet does
-- the same for it, so this waits for none, and several replicas may do it at once.
CREATE FUNCTION credits.sweep(p_wallets integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b credits.balances;
    v_now timestamptz := clock_timestamp();
    v_swept integer := 0;
BEGIN
    FOR b IN
        SELECT * FROM credits.balances WHERE due_at <= v_now ORDER BY due_at LIMIT p_wallets FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM credits.save(credits.expire(b, v_now));
        v_swept := v_swept + 1;
    END LOOP;
    RETURN v_swept;
END $$;

REVOKE ALL ON FUNCTION credits.post, credits.balance, credits.sweep FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.post, credits.balance, credits.sweep TO tollgate_app;

RESET ROLE;

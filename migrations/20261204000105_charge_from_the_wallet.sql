-- Charges burn what the wallet says is left of its lot.

SET LOCAL lock_timeout = '5s';

-- A call of `credits.post` that began before goes on as it was, and would not look into the
-- wallet for what is left. Without this name it fails, and is made again.
ALTER TABLE credits.grants RENAME COLUMN spendable TO burnable;

SET ROLE tollgate_definer;

-- Returns holds past their time, then takes out lots past theirs. Of very many holds it
-- returns some: `due_at` then stays in the past, and whoever comes next goes on.
CREATE OR REPLACE FUNCTION credits.expire(INOUT b credits.balances, p_now timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_hold credits.holds;
    v_free bigint;
    v_paid bigint;
BEGIN
    b := credits.write_lot(b);
    FOR v_hold IN
        SELECT * FROM credits.holds
        WHERE user_id = b.user_id AND state = 'open' AND expires_at <= p_now
        ORDER BY expires_at, version LIMIT 100
    LOOP
        b := credits.settle(b, v_hold, gen_random_uuid(), 'expired', 0, p_now);
    END LOOP;

    WITH lots AS (
        SELECT version, kind, remaining FROM credits.grants
        WHERE user_id = b.user_id AND burnable AND expires_at <= p_now
    ), emptied AS (
        UPDATE credits.grants g SET remaining = 0 FROM lots
        WHERE g.user_id = b.user_id AND g.version = lots.version
    ), allocated AS (
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        SELECT b.user_id, b.version + 1, version, remaining FROM lots
    )
    SELECT coalesce(sum(remaining) FILTER (WHERE kind = 'free'), 0),
           coalesce(sum(remaining) FILTER (WHERE kind = 'paid'), 0)
    INTO v_free, v_paid FROM lots;
    IF v_free + v_paid > 0 THEN
        b.version := b.version + 1;
        b.free := b.free - v_free;
        b.paid := b.paid - v_paid;
        PERFORM credits.write(
            b, gen_random_uuid(), 'expiry', v_free + v_paid, p_now,
            p_free => -v_free, p_paid => -v_paid, p_expired => v_free + v_paid
        );
    END IF;

    b.due_at := least(
        (SELECT min(expires_at) FROM credits.grants WHERE user_id = b.user_id AND burnable),
        (SELECT min(expires_at) FROM credits.holds WHERE user_id = b.user_id AND state = 'open')
    );
END $$;

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
CREATE OR REPLACE FUNCTION credits.post(
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
    v_refused integer;
    b credits.balances;
    -- The wallets as locked, in user order; those that change, and how.
    w_wallets credits.balances[];
    w_users uuid[];
    w_free bigint[];
    w_paid bigint[];
    w_held bigint[];
    w_versions bigint[];
    w_due timestamptz[];
    w_lots bigint[];
    w_lots_left bigint[];
    w_next integer := 1;
    w_at integer := 0;
    -- The wallet at hand.
    v_user uuid;
    v_known boolean;
    v_free bigint;
    v_paid bigint;
    v_held bigint;
    v_version bigint;
    v_due_at timestamptz;
    v_lot bigint;
    v_left bigint;
    v_need bigint;
    v_part bigint;
    -- Each charge: its version, how much of it was free, and what is left after it.
    c_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    c_from_free bigint[] := c_versions;
    c_free bigint[] := c_versions;
    c_paid bigint[] := c_versions;
    -- The first lot that each burned and, where that is not the whole, how much of it.
    c_lots bigint[] := c_versions;
    c_lot_amounts bigint[] := c_versions;
    -- What some burned of further lots.
    a_users uuid[];
    a_versions bigint[];
    a_lots bigint[];
    a_amounts bigint[];
BEGIN
    -- Locks the wallets; once more after they were brought up to date.
    LOOP
        SELECT array_agg(l.wallet), min((l.wallet).due_at), min(coalesce((l.wallet).daily_on, '-infinity'))
        INTO w_wallets, v_due, v_daily
        FROM (
            SELECT w AS wallet FROM credits.balances w WHERE w.user_id = ANY (p_users) ORDER BY w.user_id FOR UPDATE
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

        -- Who may not; a session is asked after where it comes first.
        FOR v_refused IN
            SELECT i FROM generate_series(1, v_count) i
            WHERE p_sessions[i] IS NOT NULL
              AND (i = 1 OR p_sessions[i] IS DISTINCT FROM p_sessions[i - 1] OR p_users[i] <> p_users[i - 1])
              -- A scalar, so that it is looked up by the session's own key whatever the statistics say.
              AND p_users[i] IS DISTINCT FROM (
                  SELECT s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                  WHERE s.id = p_sessions[i] AND s.revoked_at IS NULL AND s.expires_at > v_now AND u.status = 'active'
              )
        LOOP
            FOR i IN v_refused .. v_count LOOP
                CONTINUE WHEN NOT v_open[i] OR p_sessions[i] IS DISTINCT FROM p_sessions[v_refused]
                    OR p_users[i] <> p_users[v_refused];
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
    -- Once more than there are, so that the last wallet is put back too.
    FOR i IN 1 .. v_count + 1 LOOP
        IF v_user IS DISTINCT FROM p_users[i] THEN
            IF v_known AND v_version > b.version THEN
                w_at := w_at + 1;
                w_users[w_at] := v_user;
                w_free[w_at] := v_free;
                w_paid[w_at] := v_paid;
                w_held[w_at] := v_held;
                w_versions[w_at] := v_version;
                w_due[w_at] := v_due_at;
                w_lots[w_at] := v_lot;
                w_lots_left[w_at] := v_left;
            END IF;
            EXIT WHEN i > v_count;
            v_user := p_users[i];
            b := w_wallets[w_next];
            v_known := coalesce(b.user_id = v_user, false);
            IF v_known THEN
                w_next := w_next + 1;
                v_free := b.free;
                v_paid := b.paid;
                v_held := b.held;
                v_version := b.version;
                v_due_at := b.due_at;
                v_lot := b.lot;
                v_left := b.lot_left;
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
            v_due_at := least(v_due_at, v_now + make_interval(secs => p_lifetimes[i]));
        END IF;
        -- It leaves something of its lot, as a rule.
        IF v_left > v_need THEN
            c_lots[i] := v_lot;
            v_left := v_left - v_need;
            CONTINUE;
        END IF;
        WHILE v_need > 0 LOOP
            IF v_lot IS NULL THEN
                SELECT n.version, n.remaining INTO v_lot, v_left FROM credits.grants n
                WHERE n.user_id = v_user AND n.burnable ORDER BY n.kind, n.expires_at, n.version LIMIT 1;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'the lots of % do not hold its balance', v_user;
                END IF;
            END IF;
            v_part := least(v_left, v_need);
            v_need := v_need - v_part;
            v_left := v_left - v_part;
            IF c_lots[i] IS NULL THEN
                c_lots[i] := v_lot;
                c_lot_amounts[i] := v_part;
            ELSE
                a_users := a_users || v_user;
                a_versions := a_versions || v_version;
                a_lots := a_lots || v_lot;
                a_amounts := a_amounts || v_part;
            END IF;
            IF v_left = 0 THEN
                UPDATE credits.grants g SET remaining = 0 WHERE g.user_id = v_user AND g.version = v_lot;
                v_lot := NULL;
            END IF;
        END LOOP;
    END LOOP;

    IF a_users IS NOT NULL THEN
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
            c_lots[i], coalesce(c_lot_amounts[i], p_amounts[i]), p_apps[i], p_keys[i], p_fingerprints[i], p_descriptions[i], p_metadata[i], v_now
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL
    ), counted AS (
        INSERT INTO credits.usage AS u (user_id, day, app_id, spent, uses)
        SELECT p_users[i], v_today, p_apps[i], sum(p_amounts[i]), count(*) FROM generate_series(1, v_count) i
        WHERE c_versions[i] IS NOT NULL AND p_kinds[i] = 'spend' GROUP BY p_users[i], p_apps[i]
        ON CONFLICT (user_id, day, app_id) DO UPDATE
        SET spent = u.spent + excluded.spent, uses = u.uses + excluded.uses
    )
    UPDATE credits.balances w SET
        free = w_free[i], paid = w_paid[i], held = w_held[i],
        -- What has left the wallet, and is not put aside in it.
        total_spent = w.total_spent + (w.free + w.paid + w.held) - (w_free[i] + w_paid[i] + w_held[i]),
        version = w_versions[i], due_at = w_due[i], lot = w_lots[i], lot_left = w_lots_left[i]
    FROM generate_subscripts(w_users, 1) i WHERE w.user_id = w_users[i];

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

RESET ROLE;

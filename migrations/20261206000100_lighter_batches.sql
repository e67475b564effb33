-- What a batch costs besides its charges, which a small one feels most. A statement that inserts reads the text of
-- every CHECK of its table anew (`ExecRelCheck`), which took a fifth of what Postgres did for a charge alone. Two
-- go that say which columns come together: nobody moves money by them, and verification looks at each row.

SET LOCAL lock_timeout = '5s';

ALTER TABLE credits.transactions
    DROP CONSTRAINT transactions_key_has_values,
    DROP CONSTRAINT transactions_lot_whole;

-- What each transaction adds to its app's day. Only for a refund the charge is looked up, whose day it lowers.
CREATE OR REPLACE VIEW credits.used WITH (security_invoker = true) AS
SELECT t.user_id, t.version, (CASE t.type
        WHEN 'refund' THEN (
            SELECT c.created_at FROM credits.transactions c WHERE c.user_id = t.user_id AND c.version = t.of_version
        )
        ELSE t.created_at
    END AT TIME ZONE 'UTC')::date AS day, t.app_id, t.revenue AS spent, (t.type <> 'refund')::integer AS uses
FROM credits.transactions t WHERE t.revenue <> 0;

SET ROLE tollgate_definer;

-- Answers a batch, each by its place in it; the caller sorts it by user, and a user's captures
-- and voids before their charges. No two of a batch have the same key or hold. What refuses one
-- is its outcome and not an error, so that it never spoils its neighbours:
--   none          a charge or a hold that was made
--   posted        done otherwise
--   replayed      done before, under the same key or by the same settlement; the rest says how
--   mismatch      the key was used with other values
--   insufficient  there is less than that; `free` and `paid` say how much
--   signed_out    the session is over, or the account cannot be used
--   unknown_user  no such user, or none who ever had a session with the app that asks
--   unknown_hold  no such hold, or somebody else's
--   settled       captured or voided before, otherwise
--   expired       the hold's time is over
--   exceeded      more than the hold
-- `app_ids` and `descriptions` are given for settlements alone: of a charge the caller has them.
-- Who asks is `user`, by a token that names its session; `edge`, by one as well where it charges, and
-- by none where it settles what it has opened; or `app:` and the app whose key asks. The id of a
-- charge with a key is made from that key, so what was done under it is found by the id, whoever may
-- or may not by now. `p_again` says that an attempt was made before whose end is unknown: then the
-- others are looked for as well.
CREATE OR REPLACE FUNCTION credits.post_batch(
    p_again boolean, p_kinds text[], p_ids uuid[], p_users uuid[], p_openers text[], p_sessions uuid[], p_apps text[],
    p_amounts bigint[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_holds uuid[], p_lifetimes integer[], p_daily bigint, p_daily_expires boolean,
    OUT outcomes text[], OUT transaction_ids uuid[], OUT amounts bigint[], OUT free bigint[], OUT paid bigint[],
    OUT created_at timestamptz[], OUT app_ids text[], OUT descriptions text[]
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
    v_settles boolean := p_kinds && ARRAY['capture', 'void'];
    v_holds boolean := 'hold' = ANY (p_kinds);
    -- The first expiry, and the first day that has not brought its credits, of any of them.
    v_due timestamptz;
    v_daily date;
    r record;
    -- The wallets in user order, as locked and as they become.
    w_wallets credits.balances[];
    w_at integer := 0;
    -- The wallet at hand.
    b credits.balances;
    v_user uuid;
    v_known boolean;
    v_need bigint;
    v_rest bigint;
    v_part bigint;
    -- Each charge: its version, how much of it was paid for, and how much is put aside.
    c_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    c_paid bigint[] := array_fill(0::bigint, ARRAY[v_count]);
    c_held bigint[] := c_paid;
    -- The first lot that each burned and, where that is not the whole, how much of it.
    c_lots bigint[] := c_versions;
    c_lot_amounts bigint[] := c_versions;
    -- What some burned of further lots.
    a_users uuid[];
    a_versions bigint[];
    a_lots bigint[];
    a_amounts bigint[];
    -- Whose usage is far behind.
    u_users uuid[];
BEGIN
    -- None is answered yet.
    outcomes := array_fill(NULL::text, ARRAY[v_count]);
    app_ids := outcomes;
    descriptions := outcomes;
    transaction_ids := p_ids;
    amounts := p_amounts;
    free := c_versions;
    paid := c_versions;

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
        created_at := array_fill(v_now, ARRAY[v_count]);

        -- What was done before; and whose session is over, asked where it comes first. One query, which is not
        -- flattened, so that each is evaluated once.
        FOR r IN
            SELECT * FROM (
                SELECT n.i AS place, t.id, t.fingerprint, t.amount, t.free_after, t.paid_after, t.created_at, t.app_id,
                    t.of_version,
                    (n.i = 1 OR p_sessions[n.i] IS DISTINCT FROM p_sessions[n.i - 1] OR p_users[n.i] <> p_users[n.i - 1])
                    AND p_sessions[n.i] IS NOT NULL
                    -- A scalar, so that it is looked up by the session's own key whatever the statistics say.
                    AND p_users[n.i] IS DISTINCT FROM (
                        SELECT s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
                        WHERE s.id = p_sessions[n.i] AND s.revoked_at IS NULL AND s.expires_at > v_now AND u.status = 'active'
                    ) AS is_over
                FROM generate_series(1, v_count) AS n (i) LEFT JOIN credits.transactions t
                  ON t.user_id = p_users[n.i] AND t.id = CASE WHEN p_again OR p_keys[n.i] IS NOT NULL THEN p_ids[n.i] END
                OFFSET 0
            ) o WHERE o.id IS NOT NULL OR o.is_over
        LOOP
            IF r.is_over THEN
                FOR i IN r.place .. v_count LOOP
                    IF outcomes[i] IS NULL AND p_sessions[i] = p_sessions[r.place] AND p_users[i] = p_users[r.place] THEN
                        outcomes[i] := 'signed_out';
                    END IF;
                END LOOP;
            END IF;
            CONTINUE WHEN r.id IS NULL;
            outcomes[r.place] := CASE
                WHEN p_keys[r.place] IS NULL THEN 'posted'
                WHEN r.fingerprint <> p_fingerprints[r.place] THEN 'mismatch'
                ELSE 'replayed'
            END;
            amounts[r.place] := r.amount; free[r.place] := r.free_after; paid[r.place] := r.paid_after;
            created_at[r.place] := r.created_at; app_ids[r.place] := r.app_id;
            IF p_kinds[r.place] IN ('capture', 'void') THEN
                descriptions[r.place] := (
                    SELECT h.description FROM credits.transactions h
                    WHERE h.user_id = p_users[r.place] AND h.version = r.of_version
                );
            END IF;
        END LOOP;

        IF array_position(p_sessions, NULL) IS NOT NULL THEN
            FOR r IN
                SELECT o.i AS place
                FROM unnest(p_openers, p_sessions, p_users, p_apps, p_kinds) WITH ORDINALITY
                    AS o (opener, session, user_id, app_id, kind, i)
                WHERE outcomes[o.i] IS NULL AND CASE
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
                outcomes[r.place] := 'unknown_user';
            END LOOP;
        END IF;

        EXIT WHEN NOT v_settles AND coalesce(v_due > v_now, true) AND (p_daily = 0 OR coalesce(v_daily >= v_today, true));
        FOR i IN 1 .. v_count LOOP
            CONTINUE WHEN outcomes[i] IS NOT NULL;
            IF v_user IS DISTINCT FROM p_users[i] THEN
                v_user := p_users[i];
                SELECT * INTO b FROM credits.balances WHERE user_id = v_user;
                IF FOUND AND (b.due_at <= v_now OR p_daily > 0 AND b.daily_on IS DISTINCT FROM v_today) THEN
                    b := credits.bring_up_to_date(b, p_daily, p_daily_expires, v_now);
                    PERFORM credits.save(b);
                END IF;
            END IF;
            IF p_kinds[i] IN ('capture', 'void') THEN
                SELECT * INTO r FROM credits.settle_one(
                    v_user, p_ids[i], p_holds[i], p_openers[i], p_kinds[i], p_amounts[i], v_now
                );
                outcomes[i] := r.outcome; transaction_ids[i] := r.transaction_id; amounts[i] := r.amount;
                free[i] := r.free; paid[i] := r.paid; created_at[i] := r.created_at;
                app_ids[i] := r.app_id; descriptions[i] := r.description;
            END IF;
        END LOOP;
    END LOOP;
    v_user := NULL;

    IF array_position(outcomes, NULL) IS NULL THEN
        RETURN;
    END IF;
    -- Once more than there are, so that the last wallet is put back too.
    FOR i IN 1 .. v_count + 1 LOOP
        IF v_user IS DISTINCT FROM p_users[i] THEN
            IF v_known THEN
                w_wallets[w_at] := b;
                IF b.version - b.counted >= 1000 THEN
                    u_users := u_users || v_user;
                END IF;
            END IF;
            EXIT WHEN i > v_count;
            v_user := p_users[i];
            b := w_wallets[w_at + 1];
            v_known := coalesce(b.user_id = v_user, false);
            IF v_known THEN
                w_at := w_at + 1;
            ELSE
                b := NULL;
            END IF;
        END IF;
        CONTINUE WHEN outcomes[i] IS NOT NULL;
        v_need := p_amounts[i];
        -- It leaves something of the lot that burns, as a rule.
        IF b.lot_left > v_need THEN
            c_lots[i] := b.lot;
            b.lot_left := b.lot_left - v_need;
        ELSIF v_known AND b.free + b.paid >= v_need THEN
            v_rest := v_need;
            WHILE v_rest > 0 LOOP
                IF b.lot IS NULL THEN
                    SELECT n.version, n.remaining INTO b.lot, b.lot_left FROM credits.grants n
                    WHERE n.user_id = v_user AND n.burnable ORDER BY n.kind, n.expires_at, n.version LIMIT 1;
                    IF NOT FOUND THEN
                        RAISE EXCEPTION 'the lots of % do not hold its balance', v_user;
                    END IF;
                END IF;
                v_part := least(b.lot_left, v_rest);
                v_rest := v_rest - v_part;
                b.lot_left := b.lot_left - v_part;
                IF c_lots[i] IS NULL THEN
                    c_lots[i] := b.lot;
                    c_lot_amounts[i] := v_part;
                ELSE
                    a_users := a_users || v_user;
                    a_versions := a_versions || (b.version + 1);
                    a_lots := a_lots || b.lot;
                    a_amounts := a_amounts || v_part;
                END IF;
                IF b.lot_left = 0 THEN
                    UPDATE credits.grants g SET remaining = 0 WHERE g.user_id = v_user AND g.version = b.lot;
                    b.lot := NULL;
                END IF;
            END LOOP;
        ELSE
            outcomes[i] := CASE WHEN v_known THEN 'insufficient' ELSE 'unknown_user' END;
            free[i] := b.free;
            paid[i] := b.paid;
            CONTINUE;
        END IF;

        IF b.free >= v_need THEN
            b.free := b.free - v_need;
        ELSE
            c_paid[i] := v_need - b.free;
            b.free := 0;
            b.paid := b.paid - c_paid[i];
        END IF;
        b.version := b.version + 1;
        c_versions[i] := b.version;
        free[i] := b.free;
        paid[i] := b.paid;
        IF v_holds AND p_kinds[i] = 'hold' THEN
            c_held[i] := v_need;
            b.held := b.held + v_need;
            b.due_at := least(b.due_at, v_now + make_interval(secs => p_lifetimes[i]));
        END IF;
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
        SELECT p_users[i], c_versions[i], p_ids[i], CASE c_held[i] WHEN 0 THEN 'spend'::credits.transaction_type ELSE 'hold' END,
            p_amounts[i], free[i], paid[i], c_paid[i] - p_amounts[i], -c_paid[i],
            c_held[i], p_amounts[i] - c_held[i],
            c_lots[i], coalesce(c_lot_amounts[i], p_amounts[i]), p_apps[i], p_keys[i], p_fingerprints[i], p_descriptions[i], p_metadata[i], v_now
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL
    )
    UPDATE credits.balances w SET
        free = n.free, paid = n.paid, held = n.held,
        -- What has left the wallet, and is not put aside in it.
        total_spent = w.total_spent + (w.free + w.paid + w.held) - (n.free + n.paid + n.held),
        version = n.version, due_at = n.due_at, lot = n.lot, lot_left = n.lot_left, counted = coalesce(w.counted, w.version)
    FROM unnest(w_wallets) n WHERE w.user_id = n.user_id AND w.version < n.version;

    IF v_holds THEN
        INSERT INTO credits.holds (user_id, version, id, opened_by, amount, expires_at)
        SELECT p_users[i], c_versions[i], p_ids[i],
            p_openers[i],
            p_amounts[i], v_now + make_interval(secs => p_lifetimes[i])
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL AND p_kinds[i] = 'hold';
    END IF;
    IF u_users IS NOT NULL THEN
        PERFORM credits.count_usage(u.user_id) FROM unnest(u_users) AS u (user_id);
    END IF;
END $$;

RESET ROLE;

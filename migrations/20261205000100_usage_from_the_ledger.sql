-- Usage is read from the ledger. Each charge has added itself to its app's day besides, a row more to find, lock
-- and write for every wallet of a batch. Now a wallet says up to which version it is counted (`counted`); who asks
-- for usage adds the transactions since, and whoever charges counts them when they are a thousand.
--
-- A call that began before adds to `credits.usage`, which is a view now and takes nothing: it fails, and nothing
-- of it is done.

SET LOCAL lock_timeout = '5s';

ALTER TABLE credits.balances ADD COLUMN counted bigint;
COMMENT ON COLUMN credits.balances.counted IS 'The version up to which `credits.usage_days` has it; none: all of it.';
ALTER TABLE credits.usage RENAME TO usage_days;
ALTER TABLE credits.usage_days RENAME CONSTRAINT usage_pkey TO usage_days_pkey;
ALTER TABLE credits.usage_days RENAME CONSTRAINT usage_not_negative TO usage_days_not_negative;

-- What each transaction adds to its app's day: a refund lowers the day of its charge.
CREATE VIEW credits.used WITH (security_invoker = true) AS
SELECT t.user_id, t.version, (coalesce(c.created_at, t.created_at) AT TIME ZONE 'UTC')::date AS day, t.app_id,
    t.revenue AS spent, (t.type <> 'refund')::integer AS uses
FROM credits.transactions t
LEFT JOIN credits.transactions c ON t.type = 'refund' AND c.user_id = t.user_id AND c.version = t.of_version
WHERE t.revenue <> 0;

-- What a user's charges by an app come to, by the UTC day of the charge.
CREATE VIEW credits.usage WITH (security_invoker = true) AS
SELECT n.user_id, n.day, n.app_id, sum(n.spent)::bigint AS spent, sum(n.uses)::bigint AS uses
FROM (
    SELECT user_id, day, app_id, spent, uses FROM credits.usage_days
    UNION ALL
    SELECT u.user_id, u.day, u.app_id, u.spent, u.uses
    FROM credits.balances b JOIN credits.used u ON u.user_id = b.user_id AND u.version > b.counted
) n GROUP BY n.user_id, n.day, n.app_id;
GRANT SELECT ON credits.used, credits.usage TO tollgate_app, tollgate_definer;

SET ROLE tollgate_definer;

DROP FUNCTION credits.count_usage(uuid, timestamptz, text, bigint);

-- Counts what is not counted yet of a wallet that the caller has locked.
CREATE FUNCTION credits.count_usage(p_user uuid) RETURNS void LANGUAGE sql AS $$
    MERGE INTO credits.usage_days d USING (
        SELECT u.day, u.app_id, sum(u.spent) AS spent, sum(u.uses) AS uses
        FROM credits.balances b JOIN credits.used u ON u.user_id = b.user_id AND u.version > b.counted
        WHERE b.user_id = p_user GROUP BY u.day, u.app_id
    ) n ON d.user_id = p_user AND d.day = n.day AND d.app_id = n.app_id
    WHEN MATCHED THEN UPDATE SET spent = d.spent + n.spent, uses = d.uses + n.uses
    WHEN NOT MATCHED THEN INSERT (user_id, day, app_id, spent, uses) VALUES (p_user, n.day, n.app_id, n.spent, n.uses);
    UPDATE credits.balances SET counted = version WHERE user_id = p_user;
$$;
REVOKE ALL ON FUNCTION credits.count_usage FROM PUBLIC;

CREATE OR REPLACE FUNCTION credits.save(b credits.balances) RETURNS void
LANGUAGE sql AS $$
    UPDATE credits.balances SET
        free = b.free, paid = b.paid, held = b.held, debt = b.debt, total_earned = b.total_earned,
        total_spent = b.total_spent, version = b.version, daily_on = b.daily_on, due_at = b.due_at,
        lot = b.lot, lot_left = b.lot_left, counted = coalesce(counted, version)
    WHERE user_id = b.user_id;
$$;

-- Ends an open hold: charges `p_amount` of it, and returns what remains.
CREATE OR REPLACE FUNCTION credits.settle(
    INOUT b credits.balances, p_hold credits.holds, p_id uuid, p_state text, p_amount bigint, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_back record;
    v_app_id text;
BEGIN
    SELECT 0::bigint AS o_free, 0::bigint AS o_paid, 0::bigint AS o_debt, 0::bigint AS o_expired INTO v_back;
    SELECT app_id INTO STRICT v_app_id FROM credits.transactions WHERE user_id = b.user_id AND version = p_hold.version;
    b.version := b.version + 1;
    b.held := b.held - p_hold.amount;
    b.total_spent := b.total_spent + p_amount;
    IF p_amount < p_hold.amount THEN
        SELECT * INTO v_back FROM credits.give_back(b, p_hold.version, p_amount, p_hold.amount, p_now);
        b := v_back.b;
    END IF;

    PERFORM credits.write(
        b, p_id, CASE p_state WHEN 'captured' THEN 'capture' ELSE 'void' END,
        CASE p_state WHEN 'captured' THEN p_amount ELSE p_hold.amount END, p_now,
        p_free => v_back.o_free, p_paid => v_back.o_paid, p_held => -p_hold.amount, p_debt => v_back.o_debt,
        p_revenue => p_amount, p_expired => v_back.o_expired, p_app_id => v_app_id, p_of_version => p_hold.version
    );
    UPDATE credits.holds SET state = p_state, captured = p_amount, settled_version = b.version
    WHERE user_id = b.user_id AND version = p_hold.version;
END $$;

-- Returns a charge, or `p_amount` of it, to the lots it burned. Outcomes: `posted`,
-- `replayed`, `mismatch`, `unknown_user`, `unknown_transaction` (none that can be
-- refunded, or another app's), `exceeded` (`amount` says what is left to refund).
CREATE OR REPLACE FUNCTION credits.refund(
    p_id uuid, p_user uuid, p_app_id text, p_transaction uuid, p_amount bigint,
    p_reason text, p_reference text, p_fingerprint bytea
) RETURNS TABLE (
    outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint, created_at timestamptz, app_id text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    b credits.balances := credits.lock_for(p_user, p_app_id);
    v_charge credits.transactions;
    v_past credits.transactions;
    v_left bigint;
    v_amount bigint;
    v_back record;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO v_charge FROM credits.transactions t
    WHERE t.user_id = p_user AND t.id = p_transaction AND t.type IN ('spend', 'capture')
      AND (p_app_id IS NULL OR t.app_id = p_app_id);
    SELECT t.* INTO v_past FROM credits.references r JOIN credits.transactions t USING (user_id, version)
    WHERE r.user_id = p_user AND r.type = 'refund' AND r.app_id = v_charge.app_id AND r.reference = p_reference;
    SELECT v_charge.amount - coalesce(sum(t.amount), 0) INTO v_left
    FROM credits.references r JOIN credits.transactions t USING (user_id, version)
    WHERE r.user_id = p_user AND r.of_version = v_charge.version;
    v_amount := coalesce(p_amount, v_left);
    outcome := CASE
        WHEN b.user_id IS NULL THEN 'unknown_user'
        WHEN v_charge.id IS NULL THEN 'unknown_transaction'
        WHEN v_past.fingerprint <> p_fingerprint THEN 'mismatch'
        WHEN v_past.id IS NOT NULL THEN 'replayed'
        WHEN v_amount > v_left OR v_left = 0 THEN 'exceeded'
        ELSE 'posted'
    END;
    IF outcome = 'exceeded' THEN
        v_past.amount := v_left;
    END IF;
    IF outcome = 'posted' THEN
        IF b.due_at <= v_now THEN
            b := credits.expire(b, v_now);
        END IF;
        b.version := b.version + 1;
        b.total_spent := b.total_spent - v_amount;
        SELECT * INTO v_back FROM credits.give_back(
            b, CASE v_charge.type WHEN 'capture' THEN v_charge.of_version ELSE v_charge.version END,
            v_left - v_amount, v_left, v_now
        );
        b := v_back.b;
        PERFORM credits.write(
            b, p_id, 'refund', v_amount, v_now, p_free => v_back.o_free, p_paid => v_back.o_paid,
            p_debt => v_back.o_debt, p_expired => v_back.o_expired, p_revenue => -v_amount,
            p_app_id => v_charge.app_id, p_of_version => v_charge.version, p_reference => p_reference,
            p_fingerprint => p_fingerprint, p_description => p_reason
        );
        PERFORM credits.save(b);
        SELECT * INTO v_past FROM credits.transactions t WHERE t.user_id = p_user AND t.version = b.version;
    END IF;
    RETURN QUERY SELECT outcome, v_past.id, v_past.amount, v_past.free_after, v_past.paid_after, v_past.created_at,
        v_charge.app_id;
END $$;

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
CREATE FUNCTION credits.post_batch(
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
    -- Each charge: its version, and how much of it was free.
    c_versions bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    c_from_free bigint[] := c_versions;
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
                    p_sessions[n.i] IS NOT NULL
                    AND (n.i = 1 OR p_sessions[n.i] IS DISTINCT FROM p_sessions[n.i - 1] OR p_users[n.i] <> p_users[n.i - 1])
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

        v_part := least(b.free, v_need);
        b.free := b.free - v_part;
        b.paid := b.paid - (v_need - v_part);
        b.version := b.version + 1;
        c_versions[i] := b.version;
        c_from_free[i] := v_part;
        free[i] := b.free;
        paid[i] := b.paid;
        IF p_kinds[i] = 'hold' THEN
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
        SELECT p_users[i], c_versions[i], p_ids[i], CASE p_kinds[i] WHEN 'hold' THEN 'hold' ELSE 'spend' END::credits.transaction_type,
            p_amounts[i], free[i], paid[i], -c_from_free[i], c_from_free[i] - p_amounts[i],
            CASE p_kinds[i] WHEN 'hold' THEN p_amounts[i] ELSE 0 END, CASE p_kinds[i] WHEN 'hold' THEN 0 ELSE p_amounts[i] END,
            c_lots[i], coalesce(c_lot_amounts[i], p_amounts[i]), p_apps[i], p_keys[i], p_fingerprints[i], p_descriptions[i], p_metadata[i], v_now
        FROM generate_series(1, v_count) i WHERE c_versions[i] IS NOT NULL
    )
    UPDATE credits.balances w SET
        free = n.free, paid = n.paid, held = n.held,
        -- What has left the wallet, and is not put aside in it.
        total_spent = w.total_spent + (w.free + w.paid + w.held) - (n.free + n.paid + n.held),
        version = n.version, due_at = n.due_at, lot = n.lot, lot_left = n.lot_left, counted = coalesce(w.counted, w.version)
    FROM unnest(w_wallets) n WHERE w.user_id = n.user_id AND w.version < n.version;

    IF 'hold' = ANY (p_kinds) THEN
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

-- The same in a row each, for processes of before.
CREATE OR REPLACE FUNCTION credits.post(
    p_again boolean, p_kinds text[], p_ids uuid[], p_users uuid[], p_openers text[], p_sessions uuid[], p_apps text[],
    p_amounts bigint[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_holds uuid[], p_lifetimes integer[], p_daily bigint, p_daily_expires boolean
) RETURNS TABLE (
    place integer, outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint,
    created_at timestamptz, app_id text, description text
)
LANGUAGE sql AS $$
    SELECT i, coalesce(b.outcomes[i], 'posted'), b.transaction_ids[i], b.amounts[i], b.free[i], b.paid[i], b.created_at[i], b.app_ids[i],
        b.descriptions[i]
    FROM credits.post_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) b,
        generate_series(1, cardinality(p_ids)) i;
$$;

REVOKE ALL ON FUNCTION credits.post_batch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.post_batch TO tollgate_app;

RESET ROLE;

-- A charge reads and writes one row less: what is left of the lot that it burns stands in the wallet, which it
-- locks and writes in any case, and the lot's own row is told when it comes to its end or somebody changes
-- which lots there are. The wallet's rules are one CHECK, since Postgres reads the text of each anew in every
-- statement. They hold for every row, so that the new one is validated later, without a lock.

SET LOCAL lock_timeout = '5s';

ALTER TABLE credits.balances
    ADD COLUMN lot bigint,
    ADD COLUMN lot_left bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT balances_free_not_negative,
    DROP CONSTRAINT balances_paid_not_negative,
    DROP CONSTRAINT balances_held_not_negative,
    DROP CONSTRAINT balances_debt_not_negative,
    DROP CONSTRAINT balances_totals_not_negative,
    ADD CONSTRAINT balances_not_negative CHECK (least(free, paid, held, debt, total_earned, total_spent, lot_left) >= 0) NOT VALID;

-- A call of `credits.post` that waits for the lock on `balances` goes on as it was, and would not look into the
-- wallet for what is left. Without this name it fails, and is made again.
ALTER TABLE credits.grants RENAME COLUMN spendable TO burnable;

COMMENT ON COLUMN credits.balances.lot IS 'The lot that burns, which is the first in burning order; none until something burns.';
COMMENT ON COLUMN credits.balances.lot_left IS 'What is left of that lot. Its row says what was left when it began to burn.';
COMMENT ON COLUMN credits.grants.remaining IS 'What is left, unless it is the lot that burns: `credits.lots` has what is left of each.';

-- The lots, with what is left of each.
CREATE VIEW credits.lots WITH (security_invoker = true) AS
SELECT g.user_id, g.version, g.source, g.kind, g.amount,
    CASE WHEN b.lot = g.version THEN b.lot_left ELSE g.remaining END AS remaining, g.expires_at
FROM credits.grants g LEFT JOIN credits.balances b ON b.user_id = g.user_id;
GRANT SELECT ON credits.lots TO tollgate_app, tollgate_definer;

SET ROLE tollgate_definer;

-- Tells the lot that burns what is left of it: before anything else reads or changes a lot, or comes before it.
CREATE FUNCTION credits.write_lot(INOUT b credits.balances) LANGUAGE plpgsql AS $$
BEGIN
    IF b.lot IS NOT NULL THEN
        UPDATE credits.grants SET remaining = b.lot_left WHERE user_id = b.user_id AND version = b.lot;
        b.lot := NULL;
        b.lot_left := 0;
    END IF;
END $$;
REVOKE ALL ON FUNCTION credits.write_lot FROM PUBLIC;

CREATE OR REPLACE FUNCTION credits.save(b credits.balances) RETURNS void
LANGUAGE sql AS $$
    UPDATE credits.balances SET
        free = b.free, paid = b.paid, held = b.held, debt = b.debt, total_earned = b.total_earned,
        total_spent = b.total_spent, version = b.version, daily_on = b.daily_on, due_at = b.due_at,
        lot = b.lot, lot_left = b.lot_left
    WHERE user_id = b.user_id;
$$;

-- Adds a lot. A paid one pays what is owed first.
CREATE OR REPLACE FUNCTION credits.add_grant(
    INOUT b credits.balances, p_id uuid, p_source text, p_kind text, p_amount bigint,
    p_expires_at timestamptz, p_now timestamptz, p_app_id text DEFAULT NULL,
    p_reference text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL, p_description text DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
    v_owed bigint := CASE WHEN p_kind = 'paid' THEN least(b.debt, p_amount) ELSE 0 END;
    v_free bigint := CASE WHEN p_kind = 'free' THEN p_amount ELSE 0 END;
    v_paid bigint := CASE WHEN p_kind = 'paid' THEN p_amount - v_owed ELSE 0 END;
BEGIN
    b := credits.write_lot(b);
    b.version := b.version + 1;
    b.free := b.free + v_free;
    b.paid := b.paid + v_paid;
    b.debt := b.debt - v_owed;
    b.total_earned := b.total_earned + p_amount;
    b.due_at := least(b.due_at, p_expires_at);

    PERFORM credits.write(
        b, p_id, 'grant', p_amount, p_now, p_free => v_free, p_paid => v_paid, p_debt => v_owed,
        p_issuance => -p_amount, p_app_id => p_app_id, p_reference => p_reference,
        p_fingerprint => p_fingerprint, p_description => p_description
    );
    INSERT INTO credits.grants (user_id, version, source, kind, amount, remaining, expires_at)
    VALUES (b.user_id, b.version, p_source, p_kind, p_amount, p_amount - v_owed, p_expires_at);
    IF v_owed > 0 THEN
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, b.version, v_owed);
    END IF;
END $$;

-- Takes back what a purchase brought, from what is left of its lots; the rest is owed.
CREATE OR REPLACE FUNCTION credits.take_back(
    INOUT b credits.balances, p_id uuid, p_lots bigint[], p_amount bigint, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_taken bigint := 0;
BEGIN
    b := credits.write_lot(b);
    b.version := b.version + 1;
    FOR v_lot IN
        SELECT version, remaining FROM credits.grants
        WHERE user_id = b.user_id AND version = ANY (p_lots) AND kind = 'paid' ORDER BY version
    LOOP
        v_part := least(v_lot.remaining, p_amount - v_taken);
        UPDATE credits.grants SET remaining = remaining - v_part, reclaimed = true
        WHERE user_id = b.user_id AND version = v_lot.version;
        CONTINUE WHEN v_part = 0;
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, v_lot.version, v_part);
        v_taken := v_taken + v_part;
    END LOOP;

    b.paid := b.paid - v_taken;
    b.debt := b.debt + p_amount - v_taken;
    b.total_earned := b.total_earned - p_amount;
    PERFORM credits.write(
        b, p_id, 'reversal', p_amount, p_now, p_paid => -v_taken, p_debt => v_taken - p_amount,
        p_issuance => p_amount, p_of_version => p_lots[1]
    );
END $$;

-- Returns a part of what transaction `p_burned` took to the lots it took it from. The part
-- is from `p_from` to `p_to` thousandths, counted in burning order, so that no part returns
-- twice. What would return to a lot that has expired expires; what would return to one whose
-- purchase was paid back pays the debt. `b.version` is the transaction that returns.
CREATE OR REPLACE FUNCTION credits.give_back(
    INOUT b credits.balances, p_burned bigint, p_from bigint, p_to bigint, p_now timestamptz,
    OUT o_free bigint, OUT o_paid bigint, OUT o_debt bigint, OUT o_expired bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_owed bigint;
BEGIN
    b := credits.write_lot(b);
    o_free := 0; o_paid := 0; o_debt := 0; o_expired := 0;
    FOR v_lot IN
        SELECT g.version, g.kind, g.expires_at, g.reclaimed, a.amount,
               (sum(a.amount) OVER (ORDER BY g.kind, g.expires_at, g.version))::bigint - a.amount AS starts_at
        FROM credits.burned a JOIN credits.grants g ON g.user_id = a.user_id AND g.version = a.lot
        WHERE a.user_id = b.user_id AND a.version = p_burned
        ORDER BY g.kind, g.expires_at, g.version
    LOOP
        v_part := least(v_lot.starts_at + v_lot.amount, p_to) - greatest(v_lot.starts_at, p_from);
        CONTINUE WHEN v_part <= 0;
        IF v_lot.expires_at <= p_now THEN
            o_expired := o_expired + v_part;
            CONTINUE;
        END IF;
        v_owed := CASE WHEN v_lot.reclaimed THEN least(b.debt, v_part) ELSE 0 END;
        b.debt := b.debt - v_owed;
        o_debt := o_debt + v_owed;
        v_part := v_part - v_owed;
        CONTINUE WHEN v_part = 0;

        UPDATE credits.grants SET remaining = remaining + v_part
        WHERE user_id = b.user_id AND version = v_lot.version;
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version, v_lot.version, -v_part);
        IF v_lot.kind = 'free' THEN o_free := o_free + v_part; ELSE o_paid := o_paid + v_part; END IF;
        b.due_at := least(b.due_at, v_lot.expires_at);
    END LOOP;
    b.free := b.free + o_free;
    b.paid := b.paid + o_paid;
END $$;

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

-- What differs, by rule: whose, at which version (if it is about one), what it should be
-- and what it is.
CREATE OR REPLACE FUNCTION credits.verify()
RETURNS TABLE (rule text, user_id uuid, version bigint, expected bigint, actual bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
AS $$
#variable_conflict use_column
BEGIN
    -- Each wallet is what its entries sum to.
    RETURN QUERY
    WITH sums AS (
        SELECT t.user_id, sum(t.free) AS free, sum(t.paid) AS paid, sum(t.held) AS held, -sum(t.debt) AS debt,
            -sum(t.issuance) AS earned, sum(t.revenue) AS spent
        FROM credits.transactions t GROUP BY t.user_id
    )
    SELECT c.rule, coalesce(b.user_id, s.user_id), NULL::bigint, c.expected::bigint, c.actual
    FROM credits.balances b FULL JOIN sums s ON s.user_id = b.user_id
    CROSS JOIN LATERAL (VALUES
        ('balance.free is the sum of its entries', coalesce(s.free, 0), b.free),
        ('balance.paid is the sum of its entries', coalesce(s.paid, 0), b.paid),
        ('balance.held is the sum of its entries', coalesce(s.held, 0), b.held),
        ('balance.debt is the sum of its entries', coalesce(s.debt, 0), b.debt),
        ('balance.total_earned is the sum of its entries', coalesce(s.earned, 0), b.total_earned),
        ('balance.total_spent is the sum of its entries', coalesce(s.spent, 0), b.total_spent)
    ) AS c (rule, expected, actual)
    WHERE c.expected IS DISTINCT FROM c.actual;

    -- A transaction moves something, and says what that leaves. That it sums to zero is a CHECK.
    RETURN QUERY
    SELECT 'a transaction moves something', t.user_id, t.version, 1::bigint, 0::bigint
    FROM credits.transactions t
    WHERE t.free = 0 AND t.paid = 0 AND t.held = 0 AND t.debt = 0 AND t.issuance = 0 AND t.revenue = 0 AND t.expired = 0;
    RETURN QUERY
    SELECT 'what a transaction leaves is the sum up to it', e.user_id, e.version,
        (e.free + e.paid)::bigint, e.free_after + e.paid_after
    FROM (
        SELECT t.user_id, t.version, t.free_after, t.paid_after, sum(t.free) OVER w AS free, sum(t.paid) OVER w AS paid
        FROM credits.transactions t WINDOW w AS (PARTITION BY t.user_id ORDER BY t.version)
    ) e WHERE e.free <> e.free_after OR e.paid <> e.paid_after;

    -- Versions have no gap.
    RETURN QUERY
    SELECT 'versions run from 1 to balance.version', b.user_id, t.last, b.version, t.count
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, count(*) AS count, max(n.version) AS last FROM credits.transactions n GROUP BY n.user_id
    ) t ON t.user_id = b.user_id
    WHERE coalesce(t.count, 0) <> b.version OR coalesce(t.last, 0) <> b.version;

    -- Lots hold the wallet, and what left each is written down.
    RETURN QUERY
    SELECT c.rule, b.user_id, NULL::bigint, c.expected::bigint, c.actual
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, sum(n.remaining) FILTER (WHERE n.kind = 'free') AS free,
            sum(n.remaining) FILTER (WHERE n.kind = 'paid') AS paid
        FROM credits.lots n GROUP BY n.user_id
    ) g ON g.user_id = b.user_id
    CROSS JOIN LATERAL (VALUES
        ('balance.free is what free lots have left', coalesce(g.free, 0), b.free),
        ('balance.paid is what paid lots have left', coalesce(g.paid, 0), b.paid)
    ) AS c (rule, expected, actual)
    WHERE c.expected <> c.actual;
    RETURN QUERY
    SELECT 'what left a lot was burned of it', g.user_id, g.version, (g.amount - g.remaining),
        coalesce(a.amount, 0)::bigint
    FROM credits.lots g LEFT JOIN (
        SELECT n.user_id, n.lot, sum(n.amount) AS amount FROM credits.burned n GROUP BY n.user_id, n.lot
    ) a ON a.user_id = g.user_id AND a.lot = g.version
    WHERE g.amount - g.remaining <> coalesce(a.amount, 0);
    RETURN QUERY
    SELECT 'the lot that burns comes first, and has not more left than it had', b.user_id, NULL::bigint, f.version, b.lot
    FROM credits.balances b LEFT JOIN LATERAL (
        SELECT n.version, n.remaining FROM credits.grants n WHERE n.user_id = b.user_id AND n.burnable
        ORDER BY n.kind, n.expires_at, n.version LIMIT 1
    ) f ON true
    WHERE (b.lot IS NULL) <> (b.lot_left = 0)
       OR b.lot IS NOT NULL AND (f.version IS DISTINCT FROM b.lot OR b.lot_left > f.remaining);
    RETURN QUERY
    SELECT 'a charge or hold burned its amount', t.user_id, t.version, t.amount, coalesce(a.amount, 0)::bigint
    FROM credits.transactions t LEFT JOIN (
        SELECT n.user_id, n.version, sum(n.amount) AS amount FROM credits.burned n GROUP BY n.user_id, n.version
    ) a ON a.user_id = t.user_id AND a.version = t.version
    WHERE t.type IN ('spend', 'hold') AND t.amount <> coalesce(a.amount, 0);

    RETURN QUERY
    SELECT c.rule, t.user_id, t.version, c.expected::bigint, c.actual
    FROM credits.transactions t LEFT JOIN (
        SELECT m.user_id, m.version, sum(m.amount) FILTER (WHERE m.kind = 'free') AS free,
            sum(m.amount) FILTER (WHERE m.kind = 'paid') AS paid
        FROM (
            SELECT n.user_id, n.version, n.kind, n.amount FROM credits.grants n
            UNION ALL
            SELECT n.user_id, n.version, g.kind, -n.amount
            FROM credits.burned n JOIN credits.grants g ON g.user_id = n.user_id AND g.version = n.lot
        ) m GROUP BY m.user_id, m.version
    ) l ON l.user_id = t.user_id AND l.version = t.version
    CROSS JOIN LATERAL (VALUES
        ('what a transaction moves in free is what its free lots do', coalesce(l.free, 0), t.free),
        ('what a transaction moves in paid is what its paid lots do', coalesce(l.paid, 0), t.paid)
    ) AS c (rule, expected, actual)
    WHERE c.expected <> c.actual;
    RETURN QUERY
    SELECT 'a transaction names a lot once', n.user_id, n.version, 1::bigint, count(*)
    FROM credits.burned n GROUP BY n.user_id, n.version, n.lot HAVING count(*) > 1;

    -- What happens once is known by its name.
    RETURN QUERY
    SELECT 'a refund has its reference', coalesce(t.user_id, r.user_id), coalesce(t.version, r.version), t.of_version, r.of_version
    FROM (SELECT * FROM credits.transactions n WHERE n.type = 'refund') t
    FULL JOIN (SELECT * FROM credits.references n WHERE n.type = 'refund') r
      ON r.user_id = t.user_id AND r.version = t.version
    WHERE t.of_version IS DISTINCT FROM r.of_version;
    RETURN QUERY
    SELECT 'a key has one transaction', n.user_id, max(n.version), 1::bigint, count(*)
    FROM credits.transactions n WHERE n.idempotency_key IS NOT NULL
    GROUP BY n.user_id, n.app_id, n.idempotency_key HAVING count(*) > 1;

    -- Open holds are what is held, and a hold is settled by the transaction that says so.
    RETURN QUERY
    SELECT 'balance.held is what open holds have', b.user_id, NULL::bigint, coalesce(h.amount, 0)::bigint, b.held
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, sum(n.amount) AS amount FROM credits.holds n WHERE n.state = 'open' GROUP BY n.user_id
    ) h ON h.user_id = b.user_id
    WHERE coalesce(h.amount, 0) <> b.held;
    RETURN QUERY
    SELECT 'a hold is settled once', h.user_id, h.version, 1::bigint, count(t.version)
    FROM credits.holds h LEFT JOIN credits.transactions t
      ON t.user_id = h.user_id AND t.of_version = h.version AND t.type IN ('capture', 'void')
    WHERE h.state <> 'open' GROUP BY h.user_id, h.version HAVING count(t.version) <> 1;

    -- Refunds stay within their charge, and usage is what was charged.
    RETURN QUERY
    SELECT 'refunds stay within their charge', t.user_id, t.version, t.amount, sum(r.amount)::bigint
    FROM credits.transactions r JOIN credits.transactions t ON t.user_id = r.user_id AND t.version = r.of_version
    WHERE r.type = 'refund' GROUP BY t.user_id, t.version, t.amount HAVING sum(r.amount) > t.amount;
    RETURN QUERY
    SELECT 'usage is what was spent', b.user_id, NULL::bigint, b.total_spent, coalesce(u.spent, 0)::bigint
    FROM credits.balances b LEFT JOIN (
        SELECT n.user_id, sum(n.spent) AS spent FROM credits.usage n GROUP BY n.user_id
    ) u ON u.user_id = b.user_id
    WHERE coalesce(u.spent, 0) <> b.total_spent;

    -- A payment brought its credits once, less what was paid back of it.
    RETURN QUERY
    SELECT c.rule, p.user_id, p.lots[1], c.expected::bigint, c.actual::bigint
    FROM credits.purchases p LEFT JOIN (
        SELECT t.user_id, t.of_version, sum(t.amount) AS amount FROM credits.transactions t
        WHERE t.type = 'reversal' GROUP BY t.user_id, t.of_version
    ) r ON r.user_id = p.user_id AND r.of_version = p.lots[1]
    CROSS JOIN LATERAL (VALUES
        (
            'a paid purchase brought its credits, less what was paid back',
            p.credits - p.taken_back,
            (SELECT coalesce(sum(g.amount), 0) FROM credits.grants g
             WHERE g.user_id = p.user_id AND g.version = ANY (p.lots)) - coalesce(r.amount, 0)
        ),
        ('what is taken back is what was paid back', credits.to_take_back(p), p.taken_back)
    ) AS c (rule, expected, actual)
    WHERE p.state = 'paid' AND c.expected IS DISTINCT FROM c.actual;
    RETURN QUERY
    SELECT 'a lot that was bought belongs to a purchase', g.user_id, NULL::bigint, coalesce(l.count, 0)::bigint, g.count
    FROM (
        SELECT n.user_id, count(*) AS count FROM credits.grants n WHERE n.source = 'purchase' GROUP BY n.user_id
    ) g LEFT JOIN (
        SELECT n.user_id, sum(cardinality(n.lots)) AS count FROM credits.purchases n GROUP BY n.user_id
    ) l ON l.user_id = g.user_id
    WHERE coalesce(l.count, 0) <> g.count;

    -- Nothing expires unseen.
    RETURN QUERY
    SELECT 'balance.due_at is not after the first expiry', b.user_id, NULL::bigint,
        extract(epoch FROM d.due_at)::bigint, extract(epoch FROM b.due_at)::bigint
    FROM credits.balances b CROSS JOIN LATERAL (SELECT least(
        (SELECT min(n.expires_at) FROM credits.grants n WHERE n.user_id = b.user_id AND n.burnable),
        (SELECT min(n.expires_at) FROM credits.holds n WHERE n.user_id = b.user_id AND n.state = 'open')
    ) AS due_at) d
    WHERE d.due_at < coalesce(b.due_at, 'infinity');
END $$;

RESET ROLE;

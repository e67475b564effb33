-- How money moves. Whoever moves a user's money locks the balance row first and
-- reads everything else after that: a statement that began before the lock was
-- granted would see lots that somebody else has burned meanwhile, which is why
-- these are VOLATILE functions of several statements, and not one large query.

SET ROLE tollgate_definer;

-- Adds a lot to a wallet whose row the caller has locked; `b` is that row, before and after.
CREATE FUNCTION credits.add_grant(
    INOUT b credits.balances, p_id uuid, p_source text, p_kind text, p_amount bigint,
    p_expires_at timestamptz, p_now timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    b.version := b.version + 1;
    b.total_earned := b.total_earned + p_amount;
    IF p_kind = 'free' THEN b.free := b.free + p_amount; ELSE b.paid := b.paid + p_amount; END IF;

    INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
    VALUES (b.user_id, b.version, p_id, 'grant', p_amount, b.free, b.paid, p_now);
    INSERT INTO credits.entries (user_id, version, account, amount, balance_after) VALUES
        (b.user_id, b.version, p_kind, p_amount, CASE p_kind WHEN 'free' THEN b.free ELSE b.paid END),
        (b.user_id, b.version, 'issuance', -p_amount, NULL);
    INSERT INTO credits.grants (user_id, version, source, kind, amount, remaining, expires_at)
    VALUES (b.user_id, b.version, p_source, p_kind, p_amount, p_amount, p_expires_at);
    UPDATE credits.balances
    SET free = b.free, paid = b.paid, total_earned = b.total_earned, version = b.version
    WHERE user_id = b.user_id;
END $$;

-- Takes lots past their time out of a locked wallet, as one transaction.
CREATE FUNCTION credits.expire_grants(INOUT b credits.balances, p_now timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_free bigint;
    v_paid bigint;
BEGIN
    IF NOT EXISTS (
        SELECT FROM credits.grants WHERE user_id = b.user_id AND spendable AND expires_at <= p_now
    ) THEN
        RETURN;
    END IF;

    WITH lots AS (
        SELECT version, kind, remaining FROM credits.grants
        WHERE user_id = b.user_id AND spendable AND expires_at <= p_now
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

    b.version := b.version + 1;
    b.free := b.free - v_free;
    b.paid := b.paid - v_paid;
    INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
    VALUES (b.user_id, b.version, gen_random_uuid(), 'expiry', v_free + v_paid, b.free, b.paid, p_now);
    INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
    SELECT b.user_id, b.version, account, amount, balance_after
    FROM (VALUES ('free', -v_free, b.free), ('paid', -v_paid, b.paid), ('expired', v_free + v_paid, NULL))
        AS entry (account, amount, balance_after)
    WHERE amount <> 0;
    UPDATE credits.balances SET free = b.free, paid = b.paid, version = b.version WHERE user_id = b.user_id;
END $$;

-- Brings a locked wallet up to `p_now`: what has expired goes, the day's credits come.
CREATE FUNCTION credits.bring_up_to_date(
    INOUT b credits.balances, p_daily bigint, p_daily_expires boolean, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_today date := (p_now AT TIME ZONE 'UTC')::date;
BEGIN
    b := credits.expire_grants(b, p_now);
    IF p_daily = 0 OR b.daily_on >= v_today THEN
        RETURN;
    END IF;

    INSERT INTO credits.daily (user_id, day) VALUES (b.user_id, v_today);
    b.daily_on := v_today;
    UPDATE credits.balances SET daily_on = v_today WHERE user_id = b.user_id;
    b := credits.add_grant(
        b, gen_random_uuid(), 'daily', 'free', p_daily,
        CASE WHEN p_daily_expires THEN (v_today + 1)::timestamp AT TIME ZONE 'UTC' END, p_now
    );
END $$;

-- Takes `p_amount` out of a locked wallet that holds it: free lots before paid ones,
-- then what expires soonest, then the oldest.
CREATE FUNCTION credits.burn(INOUT b credits.balances, p_id uuid, p_amount bigint, p_app_id text,
    p_key text, p_fingerprint bytea, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_free bigint := 0;
    v_paid bigint := 0;
    v_part bigint;
    v_lot record;
BEGIN
    -- The index is in this order, so that as a rule one lot is read, and not all.
    FOR v_lot IN
        SELECT version, kind, remaining FROM credits.grants
        WHERE user_id = b.user_id AND spendable ORDER BY kind, expires_at, version
    LOOP
        v_part := least(v_lot.remaining, p_amount - v_free - v_paid);
        UPDATE credits.grants SET remaining = remaining - v_part
        WHERE user_id = b.user_id AND version = v_lot.version;
        INSERT INTO credits.allocations (user_id, version, grant_version, amount)
        VALUES (b.user_id, b.version + 1, v_lot.version, v_part);
        IF v_lot.kind = 'free' THEN v_free := v_free + v_part; ELSE v_paid := v_paid + v_part; END IF;
        EXIT WHEN v_free + v_paid = p_amount;
    END LOOP;
    IF v_free + v_paid <> p_amount THEN
        RAISE EXCEPTION 'the lots of % do not hold its balance', b.user_id;
    END IF;

    b.version := b.version + 1;
    b.free := b.free - v_free;
    b.paid := b.paid - v_paid;
    b.total_spent := b.total_spent + p_amount;
    INSERT INTO credits.transactions
        (user_id, version, id, type, amount, free_after, paid_after, app_id, idempotency_key, fingerprint, created_at)
    VALUES (b.user_id, b.version, p_id, 'spend', p_amount, b.free, b.paid, p_app_id, p_key, p_fingerprint, p_now);
    INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
    SELECT b.user_id, b.version, account, amount, balance_after
    FROM (VALUES ('free', -v_free, b.free), ('paid', -v_paid, b.paid), ('revenue', p_amount, NULL))
        AS entry (account, amount, balance_after)
    WHERE amount <> 0;
    UPDATE credits.balances
    SET free = b.free, paid = b.paid, total_spent = b.total_spent, version = b.version
    WHERE user_id = b.user_id;
END $$;

-- Answers a batch of spends, one row each and in order. What refuses one spend is
-- its row's outcome and not an error, so that it never spoils its neighbours:
-- `spent`, `replayed`, `mismatch`, `insufficient`, `signed_out` or `unknown_user`.
-- A spend under a token names its session, which must still live.
CREATE FUNCTION credits.spend(
    p_ids uuid[], p_users uuid[], p_sessions uuid[], p_amounts bigint[], p_apps text[],
    p_descriptions text[], p_metadata jsonb[], p_keys text[], p_fingerprints bytea[],
    p_daily bigint, p_daily_expires boolean
) RETURNS TABLE (outcome text, transaction_id uuid, free bigint, paid bigint, created_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b credits.balances;
    v_past credits.transactions;
    v_now timestamptz;
BEGIN
    PERFORM FROM credits.balances WHERE user_id = ANY (p_users) ORDER BY user_id FOR UPDATE;
    v_now := clock_timestamp();

    FOR i IN 1 .. cardinality(p_ids) LOOP
        outcome := NULL; transaction_id := NULL; free := NULL; paid := NULL; created_at := NULL;

        SELECT * INTO b FROM credits.balances WHERE user_id = p_users[i];
        IF NOT FOUND THEN
            outcome := 'unknown_user';
        ELSIF p_sessions[i] IS NOT NULL AND NOT EXISTS (
            SELECT FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
            WHERE s.id = p_sessions[i] AND s.user_id = p_users[i] AND s.revoked_at IS NULL
              AND s.expires_at > v_now AND u.status = 'active'
        ) THEN
            outcome := 'signed_out';
        END IF;
        IF outcome IS NOT NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT * INTO v_past FROM credits.transactions WHERE user_id = p_users[i] AND id = p_ids[i];
        IF NOT FOUND AND p_keys[i] IS NOT NULL THEN
            SELECT * INTO v_past FROM credits.transactions
            WHERE user_id = p_users[i] AND app_id = p_apps[i] AND idempotency_key = p_keys[i];
        END IF;
        IF FOUND THEN
            outcome := CASE WHEN v_past.fingerprint = p_fingerprints[i] THEN 'replayed' ELSE 'mismatch' END;
            transaction_id := v_past.id;
            free := v_past.free_after;
            paid := v_past.paid_after;
            created_at := v_past.created_at;
            RETURN NEXT;
            CONTINUE;
        END IF;

        b := credits.bring_up_to_date(b, p_daily, p_daily_expires, v_now);
        IF b.free + b.paid < p_amounts[i] THEN
            outcome := 'insufficient';
        ELSE
            b := credits.burn(b, p_ids[i], p_amounts[i], p_apps[i], p_keys[i], p_fingerprints[i], v_now);
            INSERT INTO credits.details (user_id, version, description, metadata)
            VALUES (b.user_id, b.version, p_descriptions[i], p_metadata[i]);
            outcome := 'spent';
            transaction_id := p_ids[i];
            created_at := v_now;
        END IF;
        free := b.free;
        paid := b.paid;
        RETURN NEXT;
    END LOOP;
END $$;

-- The wallet as of now. The first look of a day brings that day's credits.
CREATE FUNCTION credits.balance(p_user uuid, p_daily bigint, p_daily_expires boolean)
RETURNS SETOF credits.balances
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b credits.balances;
BEGIN
    SELECT * INTO b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
    IF FOUND THEN
        RETURN NEXT credits.bring_up_to_date(b, p_daily, p_daily_expires, clock_timestamp());
    END IF;
END $$;

-- Opens a new user's wallet, and fills it once for an address, however often that
-- address signs up. `p_bonus` is NULL until the account is usable.
CREATE FUNCTION credits.open_wallet(p_user uuid, p_email_hash bytea, p_bonus bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    INSERT INTO credits.balances (user_id) VALUES (p_user) RETURNING * INTO b;
    IF p_bonus > 0 THEN
        INSERT INTO auth.signup_bonuses (email_hash) VALUES (p_email_hash) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM credits.add_grant(b, gen_random_uuid(), 'signup', 'free', p_bonus, NULL, now());
        END IF;
    END IF;
END $$;

REVOKE ALL ON FUNCTION
    credits.add_grant(credits.balances, uuid, text, text, bigint, timestamptz, timestamptz),
    credits.expire_grants(credits.balances, timestamptz),
    credits.bring_up_to_date(credits.balances, bigint, boolean, timestamptz),
    credits.burn(credits.balances, uuid, bigint, text, text, bytea, timestamptz),
    credits.spend(uuid[], uuid[], uuid[], bigint[], text[], text[], jsonb[], text[], bytea[], bigint, boolean),
    credits.balance(uuid, bigint, boolean),
    credits.open_wallet(uuid, bytea, bigint)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    credits.spend(uuid[], uuid[], uuid[], bigint[], text[], text[], jsonb[], text[], bytea[], bigint, boolean),
    credits.balance(uuid, bigint, boolean)
TO tollgate_app;

RESET ROLE;

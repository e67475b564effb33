-- What can happen to one wallet, anew: lots now pay debts first and can be returned to,
-- and holds expire as lots do. Each of these works on a balance row that its caller has
-- locked (`b`, before and after) and leaves writing that row to its caller (`save`), so
-- that several things that happen at once cost one write.

SET ROLE tollgate_definer;

DROP FUNCTION credits.spend(uuid[], uuid[], uuid[], bigint[], text[], text[], jsonb[], text[], bytea[], bigint, boolean);
DROP FUNCTION credits.burn(credits.balances, uuid, bigint, text, text, bytea, timestamptz);
DROP FUNCTION credits.balance(uuid, bigint, boolean);
DROP FUNCTION credits.bring_up_to_date(credits.balances, bigint, boolean, timestamptz);
DROP FUNCTION credits.expire_grants(credits.balances, timestamptz);
DROP FUNCTION credits.add_grant(credits.balances, uuid, text, text, bigint, timestamptz, timestamptz);

CREATE FUNCTION credits.save(b credits.balances) RETURNS void
LANGUAGE sql AS $$
    UPDATE credits.balances SET
        free = b.free, paid = b.paid, held = b.held, debt = b.debt, total_earned = b.total_earned,
        total_spent = b.total_spent, version = b.version, daily_on = b.daily_on, due_at = b.due_at
    WHERE user_id = b.user_id;
$$;

-- Writes a transaction of one wallet with all its entries; those of zero are left out.
CREATE FUNCTION credits.write(
    b credits.balances, p_id uuid, p_type text, p_amount bigint, p_now timestamptz,
    p_free bigint DEFAULT 0, p_paid bigint DEFAULT 0, p_held bigint DEFAULT 0, p_debt bigint DEFAULT 0,
    p_issuance bigint DEFAULT 0, p_revenue bigint DEFAULT 0, p_expired bigint DEFAULT 0,
    p_app_id text DEFAULT NULL, p_of_version bigint DEFAULT NULL,
    p_reference text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL, p_description text DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO credits.transactions
        (user_id, version, id, type, amount, free_after, paid_after, app_id, fingerprint, of_version, reference, created_at)
    VALUES (b.user_id, b.version, p_id, p_type, p_amount, b.free, b.paid, p_app_id, p_fingerprint, p_of_version,
            p_reference, p_now);
    INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
    SELECT b.user_id, b.version, account, amount, balance_after
    FROM (VALUES
        ('free', p_free, b.free), ('paid', p_paid, b.paid), ('held', p_held, NULL), ('debt', p_debt, NULL),
        ('issuance', p_issuance, NULL), ('revenue', p_revenue, NULL), ('expired', p_expired, NULL)
    ) AS entry (account, amount, balance_after)
    WHERE amount <> 0;
    IF p_description IS NOT NULL THEN
        INSERT INTO credits.details (user_id, version, description) VALUES (b.user_id, b.version, p_description);
    END IF;
END $$;

-- Adds a lot. A paid one pays what is owed first.
CREATE FUNCTION credits.add_grant(
    INOUT b credits.balances, p_id uuid, p_source text, p_kind text, p_amount bigint,
    p_expires_at timestamptz, p_now timestamptz, p_app_id text DEFAULT NULL,
    p_reference text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL, p_description text DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
    v_owed bigint := CASE WHEN p_kind = 'paid' THEN least(b.debt, p_amount) ELSE 0 END;
    v_free bigint := CASE WHEN p_kind = 'free' THEN p_amount ELSE 0 END;
    v_paid bigint := CASE WHEN p_kind = 'paid' THEN p_amount - v_owed ELSE 0 END;
BEGIN
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

-- Returns a part of what transaction `p_burned` took to the lots it took it from. The part
-- is from `p_from` to `p_to` thousandths, counted in burning order, so that no part returns
-- twice. What would return to a lot that has expired expires; what would return to one whose
-- purchase was paid back pays the debt. `b.version` is the transaction that returns.
CREATE FUNCTION credits.give_back(
    INOUT b credits.balances, p_burned bigint, p_from bigint, p_to bigint, p_now timestamptz,
    OUT o_free bigint, OUT o_paid bigint, OUT o_debt bigint, OUT o_expired bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_owed bigint;
BEGIN
    o_free := 0; o_paid := 0; o_debt := 0; o_expired := 0;
    FOR v_lot IN
        SELECT g.version, g.kind, g.expires_at, g.reclaimed, a.amount,
               (sum(a.amount) OVER (ORDER BY g.kind, g.expires_at, g.version))::bigint - a.amount AS starts_at
        FROM credits.allocations a
        JOIN credits.grants g ON g.user_id = a.user_id AND g.version = a.grant_version
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

-- Adds a charge to what its app and day come to; below zero takes from it.
CREATE FUNCTION credits.count_usage(p_user uuid, p_at timestamptz, p_app_id text, p_amount bigint) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO credits.usage AS u (user_id, day, app_id, spent, uses)
    VALUES (p_user, (p_at AT TIME ZONE 'UTC')::date, p_app_id, p_amount, 1)
    ON CONFLICT (user_id, day, app_id) DO UPDATE
    SET spent = u.spent + excluded.spent, uses = u.uses + CASE WHEN excluded.spent > 0 THEN 1 ELSE 0 END;
$$;

-- Ends an open hold: charges `p_amount` of it, and returns what remains.
CREATE FUNCTION credits.settle(
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
    IF p_amount > 0 THEN
        PERFORM credits.count_usage(b.user_id, p_now, v_app_id, p_amount);
    END IF;
END $$;

-- Returns holds past their time, then takes out lots past theirs. Of very many holds it
-- returns some: `due_at` then stays in the past, and whoever comes next goes on.
CREATE FUNCTION credits.expire(INOUT b credits.balances, p_now timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_hold credits.holds;
    v_free bigint;
    v_paid bigint;
BEGIN
    FOR v_hold IN
        SELECT * FROM credits.holds
        WHERE user_id = b.user_id AND state = 'open' AND expires_at <= p_now
        ORDER BY expires_at, version LIMIT 100
    LOOP
        b := credits.settle(b, v_hold, gen_random_uuid(), 'expired', 0, p_now);
    END LOOP;

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
        (SELECT min(expires_at) FROM credits.grants WHERE user_id = b.user_id AND spendable),
        (SELECT min(expires_at) FROM credits.holds WHERE user_id = b.user_id AND state = 'open')
    );
END $$;

-- Brings a wallet up to `p_now`: what has expired goes, the day's credits come.
CREATE FUNCTION credits.bring_up_to_date(
    INOUT b credits.balances, p_daily bigint, p_daily_expires boolean, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_today date := (p_now AT TIME ZONE 'UTC')::date;
BEGIN
    IF b.due_at <= p_now THEN
        b := credits.expire(b, p_now);
    END IF;
    IF p_daily = 0 OR b.daily_on >= v_today THEN
        RETURN;
    END IF;

    INSERT INTO credits.daily (user_id, day) VALUES (b.user_id, v_today);
    b.daily_on := v_today;
    b := credits.add_grant(
        b, gen_random_uuid(), 'daily', 'free', p_daily,
        CASE WHEN p_daily_expires THEN (v_today + 1)::timestamp AT TIME ZONE 'UTC' END, p_now
    );
END $$;

-- Takes back what a purchase brought, from what is left of its lots; the rest is owed.
CREATE FUNCTION credits.take_back(
    INOUT b credits.balances, p_id uuid, p_lots bigint[], p_amount bigint, p_now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_lot record;
    v_part bigint;
    v_taken bigint := 0;
BEGIN
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

-- Opens a new user's wallet, and fills it once for an address, however often that
-- address signs up. `p_bonus` is NULL until the account is usable.
CREATE OR REPLACE FUNCTION credits.open_wallet(p_user uuid, p_email_hash bytea, p_bonus bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    INSERT INTO credits.balances (user_id) VALUES (p_user) RETURNING * INTO b;
    IF p_bonus > 0 THEN
        INSERT INTO auth.signup_bonuses (email_hash) VALUES (p_email_hash) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM credits.save(credits.add_grant(b, gen_random_uuid(), 'signup', 'free', p_bonus, NULL, now()));
        END IF;
    END IF;
END $$;

REVOKE ALL ON FUNCTION
    credits.save, credits.write, credits.add_grant, credits.give_back, credits.count_usage, credits.settle,
    credits.expire, credits.bring_up_to_date, credits.take_back
FROM PUBLIC;

RESET ROLE;

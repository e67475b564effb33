-- Grants and refunds by admins and by apps' keys: each happens once for its reference,
-- whoever asks again. A key reaches only people who have had a session with its app.

SET ROLE tollgate_definer;

-- The role as of now: a token's may be fifteen minutes old.
DROP FUNCTION auth.session_state(uuid, uuid);
CREATE FUNCTION auth.session_state(p_session uuid, p_user uuid)
RETURNS TABLE (live boolean, status text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.revoked_at IS NULL AND s.expires_at > now(), u.status, u.role
    FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.id = p_session AND s.user_id = p_user;
$$;
REVOKE ALL ON FUNCTION auth.session_state FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.session_state TO tollgate_app;

-- The wallet, locked, if the caller may touch it; NULL is an admin, and may.
CREATE FUNCTION credits.lock_for(p_user uuid, p_app_id text) RETURNS credits.balances
LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    IF p_app_id IS NULL OR EXISTS (SELECT FROM auth.sessions WHERE user_id = p_user AND client_id = p_app_id) THEN
        SELECT * INTO b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
    END IF;
    RETURN b;
END $$;

-- Outcomes: `posted`, `replayed`, `mismatch`, `unknown_user`, `too_much` (a wallet's
-- earnings have a limit), `past` (it would have expired already), `capped` (the app has
-- granted its day's worth).
CREATE FUNCTION credits.grant(
    p_id uuid, p_user uuid, p_app_id text, p_amount bigint, p_kind text, p_expires_at timestamptz,
    p_reason text, p_reference text, p_fingerprint bytea, p_most bigint
) RETURNS TABLE (outcome text, transaction_id uuid, amount bigint, free bigint, paid bigint, created_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    b credits.balances := credits.lock_for(p_user, p_app_id);
    v_past credits.transactions;
    v_cap bigint;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO v_past FROM credits.transactions t
    WHERE t.user_id = p_user AND t.type = 'grant' AND t.app_id IS NOT DISTINCT FROM p_app_id AND t.reference = p_reference;
    outcome := CASE
        WHEN b.user_id IS NULL THEN 'unknown_user'
        WHEN v_past.fingerprint <> p_fingerprint THEN 'mismatch'
        WHEN v_past.id IS NOT NULL THEN 'replayed'
        WHEN b.total_earned + p_amount > p_most THEN 'too_much'
        WHEN p_expires_at <= v_now THEN 'past'
    END;
    IF outcome IS NULL AND p_app_id IS NOT NULL THEN
        SELECT a.daily_grant_cap INTO v_cap FROM auth.apps a
        WHERE a.id = p_app_id AND a.disabled_at IS NULL AND 'grant' = ANY (a.permissions);
        INSERT INTO credits.app_grants AS g (app_id, day, amount)
        SELECT p_app_id, (v_now AT TIME ZONE 'UTC')::date, p_amount WHERE p_amount <= v_cap
        ON CONFLICT (app_id, day) DO UPDATE SET amount = g.amount + excluded.amount
        WHERE g.amount + excluded.amount <= v_cap;
        IF NOT FOUND THEN
            outcome := 'capped';
        END IF;
    END IF;
    IF outcome IS NULL THEN
        IF b.due_at <= v_now THEN
            b := credits.expire(b, v_now);
        END IF;
        b := credits.add_grant(
            b, p_id, CASE WHEN p_app_id IS NULL THEN 'adjustment' ELSE 'gift' END, p_kind, p_amount, p_expires_at,
            v_now, p_app_id, p_reference, p_fingerprint, p_reason
        );
        PERFORM credits.save(b);
        SELECT * INTO v_past FROM credits.transactions t WHERE t.user_id = p_user AND t.version = b.version;
        outcome := 'posted';
    END IF;
    RETURN QUERY SELECT outcome, v_past.id, v_past.amount, v_past.free_after, v_past.paid_after, v_past.created_at;
END $$;

-- Returns a charge, or `p_amount` of it, to the lots it burned. Outcomes: `posted`,
-- `replayed`, `mismatch`, `unknown_user`, `unknown_transaction` (none that can be
-- refunded, or another app's), `exceeded` (`amount` says what is left to refund).
CREATE FUNCTION credits.refund(
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
    SELECT * INTO v_past FROM credits.transactions t
    WHERE t.user_id = p_user AND t.type = 'refund' AND t.app_id = v_charge.app_id AND t.reference = p_reference;
    SELECT v_charge.amount - coalesce(sum(t.amount), 0) INTO v_left FROM credits.transactions t
    WHERE t.user_id = p_user AND t.of_version = v_charge.version AND t.type = 'refund';
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
        UPDATE credits.usage u SET spent = u.spent - v_amount
        WHERE u.user_id = p_user AND u.day = (v_charge.created_at AT TIME ZONE 'UTC')::date AND u.app_id = v_charge.app_id;
        SELECT * INTO v_past FROM credits.transactions t WHERE t.user_id = p_user AND t.version = b.version;
    END IF;
    RETURN QUERY SELECT outcome, v_past.id, v_past.amount, v_past.free_after, v_past.paid_after, v_past.created_at,
        v_charge.app_id;
END $$;

REVOKE ALL ON FUNCTION credits.lock_for, credits.grant, credits.refund FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.grant, credits.refund TO tollgate_app;

RESET ROLE;

-- The words of a wallet's transactions (description, metadata) went within its owner's deletion, in
-- one statement. For 300,000 transactions that took 7.6 s, a statement has 8: who had used the
-- service most could not leave. They go behind the deletion now, some thousand at a time.

-- Up to which version of the wallet its words are cleared; NULL where there are none to clear.
ALTER TABLE auth.users ADD COLUMN words_cleared_to bigint;
CREATE INDEX users_with_words_to_clear ON auth.users (id) WHERE words_cleared_to IS NOT NULL;
GRANT UPDATE (words_cleared_to) ON auth.users TO tollgate_definer;

SET ROLE tollgate_definer;

-- Those who left before: charges that were under way then may have left words.
UPDATE auth.users SET words_cleared_to = 0 WHERE status = 'deleted';

-- Clears so many transactions' words of somebody who has left; says whether there was somebody.
-- Replicas take different people.
CREATE FUNCTION auth.clear_words(p_rows integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid;
    v_from bigint;
    v_to bigint;
BEGIN
    SELECT u.id, u.words_cleared_to INTO v_user, v_from FROM auth.users u
    WHERE u.words_cleared_to IS NOT NULL LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A charge that was let in before they left has its words in the wallet when this is ours. A
    -- later one looks at its session with the wallet locked, and is refused.
    PERFORM FROM credits.balances b WHERE b.user_id = v_user FOR UPDATE;
    SELECT max(t.version) INTO v_to FROM (
        SELECT n.version FROM credits.transactions n
        WHERE n.user_id = v_user AND n.version > v_from ORDER BY n.version LIMIT p_rows
    ) t;
    UPDATE credits.transactions t SET description = NULL, metadata = NULL
    WHERE t.user_id = v_user AND t.version > v_from AND t.version <= v_to
      AND (t.description IS NOT NULL OR t.metadata IS NOT NULL);
    UPDATE auth.users SET words_cleared_to = v_to WHERE id = v_user;
    RETURN true;
END $$;

-- The wallet, locked, if the caller may touch it; NULL is an admin, and may. Nobody grants or
-- refunds, with words about it, to somebody who has left.
CREATE OR REPLACE FUNCTION credits.lock_for(p_user uuid, p_app_id text) RETURNS credits.balances
LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    IF p_app_id IS NULL OR EXISTS (SELECT FROM auth.sessions WHERE user_id = p_user AND client_id = p_app_id) THEN
        SELECT * INTO b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
        -- With the wallet locked: see above.
        IF EXISTS (SELECT FROM auth.users WHERE id = p_user AND status = 'deleted') THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN b;
END $$;

-- As before, but for the words; the account is locked first, so that whoever writes something of it
-- has ended or has not begun, and accounts at other providers go too.
CREATE OR REPLACE FUNCTION auth.delete_account() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid := auth.acting_user();
BEGIN
    PERFORM FROM auth.users WHERE id = v_user FOR UPDATE;
    DELETE FROM auth.outbox o USING auth.users u
    WHERE u.id = v_user AND (o.user_id = u.id OR o.email_normalised = u.email_normalised);
    UPDATE auth.users SET
        email = '', email_normalised = 'deleted ' || id, email_verified = false, name = NULL, image = NULL,
        status = 'deleted', words_cleared_to = 0
    WHERE id = v_user;
    DELETE FROM auth.outside_sign_ins WHERE user_id = v_user;
    DELETE FROM auth.outside_accounts WHERE user_id = v_user;
    DELETE FROM auth.half_sign_ins WHERE user_id = v_user;
    DELETE FROM auth.recovery_codes WHERE user_id = v_user;
    DELETE FROM auth.totp WHERE user_id = v_user;
    DELETE FROM auth.links WHERE user_id = v_user;
    DELETE FROM auth.devices WHERE user_id = v_user;
    DELETE FROM auth.passwords WHERE user_id = v_user;
    -- That there was a session with an app is what lets the app settle what is under way.
    UPDATE auth.sessions SET
        revoked_at = coalesce(revoked_at, now()), cookie_hash = NULL, device_id = NULL, device_name = NULL,
        user_agent = NULL, address = NULL
    WHERE user_id = v_user;
    DELETE FROM auth.security_events WHERE user_id = v_user;
    INSERT INTO auth.security_events (user_id, type, outcome) VALUES (v_user, 'account_deleted', 'success');
    -- Last, since it lets one at a time through until the end of the transaction.
    PERFORM auth.withdraw_tokens(v_user);
END $$;

REVOKE ALL ON FUNCTION auth.clear_words(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.clear_words(integer) TO tollgate_app;

RESET ROLE;

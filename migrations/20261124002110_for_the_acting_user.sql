-- Functions that act for a user were told whom by their caller. They say no now when that is
-- somebody else than whom the transaction acts for, as row security does.

SET ROLE tollgate_definer;

-- Withdraws a user's tokens of before now: a session that lives on gets new ones by a refresh.
-- Refreshes under way are waited for, and later ones wait for this transaction: what it changes
-- of the account comes before, and nothing after. `not_before` is the next whole second, or the
-- one after that of the row before, with which tokens may have been minted meanwhile.
CREATE OR REPLACE FUNCTION auth.withdraw_tokens(p_user uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_not_before timestamptz;
BEGIN
    PERFORM auth.insist_on(p_user);
    PERFORM FROM auth.sessions s WHERE s.user_id = p_user AND s.revoked_at IS NULL ORDER BY s.id FOR UPDATE;
    PERFORM pg_advisory_xact_lock(hashtext('tollgate revocations'));
    SELECT greatest(date_trunc('second', clock_timestamp()), max(r.not_before)) + interval '1 second' INTO v_not_before
    FROM auth.revocations r WHERE r.user_id = p_user AND r.not_before IS NOT NULL;
    INSERT INTO auth.revocations (user_id, not_before, until)
    VALUES (p_user, v_not_before, v_not_before + interval '990 seconds');
END $$;

-- The address of this account is its owner's. The first time, the account becomes usable; says
-- whether this is it.
CREATE OR REPLACE FUNCTION auth.confirm_email(p_user uuid, p_email_hash bytea, p_bonus bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.insist_on(p_user);
    UPDATE auth.users SET email_verified = true WHERE id = p_user AND NOT email_verified;
    IF FOUND THEN
        PERFORM credits.give_signup_bonus(p_user, p_email_hash, p_bonus);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- A new account with its password and its wallet. A taken address violates `users_email_taken`.
CREATE OR REPLACE FUNCTION auth.register(
    p_user uuid, p_email text, p_email_normalised text, p_name text, p_phc text,
    p_email_hash bytea, p_bonus bigint, p_address inet, p_agent text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.insist_on(p_user);
    INSERT INTO auth.users (id, email, email_normalised, name) VALUES (p_user, p_email, p_email_normalised, p_name);
    INSERT INTO auth.passwords (user_id, phc) VALUES (p_user, p_phc);
    PERFORM credits.open_wallet(p_user, p_email_hash, p_bonus);
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (p_user, 'registered', 'success', p_address, p_agent);
END $$;

-- A new account without a password, whose address a provider has verified. A taken one violates
-- `users_email_taken`.
CREATE OR REPLACE FUNCTION auth.register_outside(
    p_user uuid, p_email text, p_email_normalised text, p_name text,
    p_email_hash bytea, p_bonus bigint, p_address inet, p_agent text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.insist_on(p_user);
    INSERT INTO auth.users (id, email, email_normalised, email_verified, name)
    VALUES (p_user, p_email, p_email_normalised, true, p_name);
    PERFORM credits.open_wallet(p_user, p_email_hash, p_bonus);
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (p_user, 'registered', 'success', p_address, p_agent);
END $$;

-- The transaction acts for this user, or does not go on.
CREATE FUNCTION auth.insist_on(p_user uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_user IS DISTINCT FROM auth.acting_user() THEN
        RAISE EXCEPTION 'the transaction does not act for this user' USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

REVOKE ALL ON FUNCTION auth.insist_on(uuid) FROM PUBLIC;

RESET ROLE;

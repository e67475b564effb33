-- What a sign-in asks before it compares a password is one call: it was three, and each is work for
-- Postgres and for the process that waits.

SET ROLE tollgate_definer;

-- Begins an attempt at the password of an address, as `auth.begin_attempt` does, and gives the account
-- to compare it with. By a browser that the account knows, the failures of its device alone count; by
-- any other, those of `p_keys`. `counted` is what `auth.forgive` takes back. As much work for an address
-- without an account.
CREATE FUNCTION auth.begin_sign_in(
    p_email_normalised text, p_device_hash bytea, p_session_hash bytea,
    p_device_key bytea, p_session_key bytea, p_device_free integer, p_device_forget_secs integer,
    p_keys bytea[], p_free integer[], p_forget_secs integer[]
) RETURNS TABLE (
    wait_secs double precision, counted bytea[],
    id uuid, email text, name text, role text, status text, email_verified boolean, phc text,
    changed_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_known bytea;
BEGIN
    IF p_device_hash IS NOT NULL OR p_session_hash IS NOT NULL THEN
        v_known := auth.known_device(p_email_normalised, p_device_hash, p_session_hash);
    END IF;
    IF v_known IS NULL THEN
        counted := p_keys;
        wait_secs := auth.begin_attempt(counted, p_free, p_forget_secs);
    ELSE
        counted := ARRAY[CASE WHEN v_known = p_device_hash THEN p_device_key ELSE p_session_key END];
        wait_secs := auth.begin_attempt(counted, ARRAY[p_device_free], ARRAY[p_device_forget_secs]);
    END IF;
    SELECT a.* INTO id, email, name, role, status, email_verified, phc, changed_at
    FROM auth.account_by_email(p_email_normalised) a;
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION auth.begin_sign_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.begin_sign_in TO tollgate_app;

RESET ROLE;

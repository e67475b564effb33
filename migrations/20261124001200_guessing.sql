-- How often passwords were guessed wrong lately, so that it can be made slow. Under keyed hashes
-- of accounts, addresses and networks: the table names nobody. Unlogged, so that no attempt
-- waits for the disk; what a crash of Postgres forgets are a few free guesses.

CREATE UNLOGGED TABLE auth.failures (
    key bytea PRIMARY KEY,
    -- Failures as of `at`; they are forgotten at a steady pace.
    level double precision NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX failures_by_age ON auth.failures (at);

ALTER TABLE auth.failures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON auth.failures TO tollgate_definer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.failures TO tollgate_definer;
GRANT SELECT ON auth.devices TO tollgate_definer;

SET ROLE tollgate_definer;

-- How long to wait after so many failures more than are free: a second, two, four, up to half an hour.
CREATE FUNCTION auth.slow_down(p_above double precision) RETURNS interval LANGUAGE sql IMMUTABLE
RETURN CASE WHEN p_above <= 0 THEN interval '0' ELSE make_interval(secs => least(2 ^ least(p_above - 1, 20), 1800)) END;

-- Begins an attempt at a password: how many seconds to wait before it may be made, or 0. Then it
-- counts as a failure of each key until `auth.forgive` takes it back, so that attempts at once
-- are no way around. One that must wait counts for nothing, or whoever guesses could hold the
-- wait up for ever. A failure of the key is forgotten each `p_forget_secs`.
CREATE FUNCTION auth.begin_attempt(p_keys bytea[], p_free integer[], p_forget_secs integer[]) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_now timestamptz;
    v_wait interval;
BEGIN
    -- In the order of the keys, so that no two attempts wait for each other.
    INSERT INTO auth.failures (key, level, at)
    SELECT k, 0, clock_timestamp() FROM unnest(p_keys) k ORDER BY k
    ON CONFLICT DO NOTHING;
    PERFORM FROM auth.failures f WHERE f.key = ANY (p_keys) ORDER BY f.key FOR UPDATE;
    v_now := clock_timestamp();
    SELECT max(f.at + auth.slow_down(f.level - c.free) - v_now) INTO v_wait
    FROM unnest(p_keys, p_free) c (key, free) JOIN auth.failures f USING (key);
    IF v_wait > interval '0' THEN
        RETURN extract(epoch FROM v_wait);
    END IF;
    UPDATE auth.failures f SET
        level = greatest(f.level - extract(epoch FROM v_now - f.at) / c.forget_secs, 0) + 1, at = v_now
    FROM unnest(p_keys, p_forget_secs) c (key, forget_secs) WHERE f.key = c.key;
    RETURN 0;
END $$;

-- Takes back what an attempt counted: the password was right, or it was never compared.
CREATE FUNCTION auth.forgive(p_keys bytea[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM auth.failures f WHERE f.key = ANY (p_keys) ORDER BY f.key FOR UPDATE;
    UPDATE auth.failures f SET level = greatest(f.level - 1, 0) WHERE f.key = ANY (p_keys);
END $$;

-- Drops what is as good as forgotten.
CREATE FUNCTION auth.sweep_failures() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.failures WHERE at < now() - interval '1 day';
$$;

-- The cookie, of those that a browser shows (as hashes), by which an address's account knows it:
-- it has signed in there before, or is signed in. As much work for an address without an account.
CREATE FUNCTION auth.known_device(p_email_normalised text, p_device_hash bytea, p_session_hash bytea) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        (SELECT d.device_hash FROM auth.devices d WHERE d.user_id = u.id AND d.device_hash = p_device_hash),
        (SELECT s.cookie_hash FROM auth.sessions s
         WHERE s.cookie_hash = p_session_hash AND s.user_id = u.id AND s.revoked_at IS NULL AND s.expires_at > now()))
    FROM (VALUES (p_email_normalised)) AS asked (email)
    LEFT JOIN auth.users u ON u.email_normalised = asked.email;
$$;

REVOKE ALL ON FUNCTION
    auth.slow_down, auth.begin_attempt, auth.forgive, auth.sweep_failures, auth.known_device
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.begin_attempt, auth.forgive, auth.sweep_failures, auth.known_device
TO tollgate_app;

RESET ROLE;

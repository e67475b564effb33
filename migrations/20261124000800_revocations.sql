-- Tokens that end before their time, as a feed that the edge follows by its cursor. A row
-- concerns every token of a session, which has ended for good; a user's tokens of before
-- `not_before`; or every token of a key, whatever it says of itself. It is appended in the
-- transaction that ends them, as its last statement, and dropped when no such token can be
-- alive any more.

CREATE TABLE auth.revocations (
    cursor bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key: nothing is waited for between the cursor and the commit.
    user_id uuid,
    session_id uuid,
    kid text,
    -- By this clock alone, as is `iat`: no token is older than it seems.
    appended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Of a user's: no token is minted with an earlier `iat` from now on.
    not_before timestamptz,
    -- What such a token has at the most: 15 minutes, a leeway of 30 s, and a minute to spare.
    until timestamptz NOT NULL
        DEFAULT date_trunc('second', clock_timestamp()) + interval '1 second' + interval '990 seconds',
    CONSTRAINT revocations_subject CHECK ((kid IS NULL) = (user_id IS NOT NULL)),
    CONSTRAINT revocations_session_owned CHECK (session_id IS NULL OR user_id IS NOT NULL),
    CONSTRAINT revocations_of_users_timed CHECK ((not_before IS NOT NULL) = (user_id IS NOT NULL AND session_id IS NULL))
);
CREATE INDEX revocations_of_user ON auth.revocations (user_id) WHERE not_before IS NOT NULL;
CREATE INDEX revocations_over ON auth.revocations (until);

ALTER TABLE auth.revocations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- Nobody ends a session of somebody else's: the sessions that this looks for are the user's own.
CREATE POLICY own ON auth.revocations TO tollgate_app USING (user_id = auth.acting_user())
    WITH CHECK (user_id = auth.acting_user() AND EXISTS (SELECT FROM auth.sessions s WHERE s.id = session_id));
CREATE POLICY every ON auth.revocations TO tollgate_definer USING (true);

-- Times are the table's own.
GRANT SELECT, INSERT (user_id, session_id) ON auth.revocations TO tollgate_app;
GRANT SELECT, INSERT, DELETE ON auth.revocations TO tollgate_definer;

SET ROLE tollgate_definer;

-- A reader asks for what is behind the last cursor it saw, so rows must become visible in the
-- order of their cursors. An INSERT waits here until the one before it is committed, before it
-- draws its cursor and reads the clock.
CREATE FUNCTION auth.append_in_order() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('tollgate revocations'));
    RETURN NULL;
END $$;

-- Withdraws a user's tokens of before now: a session that lives on gets new ones by a refresh.
-- Refreshes under way are waited for, and later ones wait for this transaction: what it changes
-- of the account comes before, and nothing after. `not_before` is the next whole second, or the
-- one after that of the row before, with which tokens may have been minted meanwhile.
CREATE FUNCTION auth.withdraw_tokens(p_user uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_not_before timestamptz;
BEGIN
    PERFORM FROM auth.sessions s WHERE s.user_id = p_user AND s.revoked_at IS NULL ORDER BY s.id FOR UPDATE;
    PERFORM pg_advisory_xact_lock(hashtext('tollgate revocations'));
    SELECT greatest(date_trunc('second', clock_timestamp()), max(r.not_before)) + interval '1 second' INTO v_not_before
    FROM auth.revocations r WHERE r.user_id = p_user AND r.not_before IS NOT NULL;
    INSERT INTO auth.revocations (user_id, not_before, until)
    VALUES (p_user, v_not_before, v_not_before + interval '990 seconds');
END $$;

-- Withdraws whatever a key has signed or will sign. A copy of the key set may serve for a day,
-- and may have come from a cache that had kept it for a day.
CREATE FUNCTION auth.withdraw_key(p_kid text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO auth.revocations (kid, until) VALUES (p_kid, clock_timestamp() + interval '49 hours');
$$;

-- What came behind a cursor, in order, and how long ago in seconds.
CREATE FUNCTION auth.revocations_after(p_cursor bigint, p_limit integer)
RETURNS TABLE (
    cursor bigint, user_id uuid, session_id uuid, kid text, not_before timestamptz, until timestamptz, age_secs double precision
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.cursor, r.user_id, r.session_id, r.kid, r.not_before, r.until,
           extract(epoch FROM clock_timestamp() - r.appended_at)::double precision
    FROM auth.revocations r WHERE r.cursor > p_cursor ORDER BY r.cursor LIMIT p_limit;
$$;

-- Drops what no token can be concerned by any more.
CREATE FUNCTION auth.sweep_revocations() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.revocations r WHERE r.until < now();
$$;

-- As before; besides, reuse goes out in the feed, and `issued_at` is the `iat` of the tokens.
DROP FUNCTION auth.refresh(uuid, integer, interval, inet, text);
CREATE FUNCTION auth.refresh(p_session uuid, p_counter integer, p_grace interval, p_address inet, p_agent text)
RETURNS TABLE (
    outcome text, counter integer, user_id uuid, email text, name text, email_verified boolean, role text,
    client_id text, authenticated_at timestamptz, amr text[], issued_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s auth.sessions;
    v_now timestamptz;
BEGIN
    SELECT * INTO s FROM auth.sessions WHERE id = p_session FOR UPDATE;
    v_now := clock_timestamp();
    SELECT u.id, u.email, u.name, u.email_verified, u.role INTO user_id, email, name, email_verified, role
    FROM auth.users u WHERE u.id = s.user_id AND u.status = 'active';
    IF NOT FOUND OR s.revoked_at IS NOT NULL OR s.expires_at <= v_now THEN
        outcome := 'refused';
        RETURN NEXT;
        RETURN;
    END IF;
    client_id := s.client_id;
    authenticated_at := s.authenticated_at;
    amr := s.amr;
    SELECT greatest(v_now, max(r.not_before)) INTO issued_at
    FROM auth.revocations r WHERE r.user_id = s.user_id AND r.not_before IS NOT NULL;

    outcome := auth.judge_refresh(p_counter, s.refresh_current, s.refresh_previous, v_now - s.rotated_at, p_grace);
    counter := s.refresh_current + CASE WHEN outcome IN ('rotated', 'recovered') THEN 1 ELSE 0 END;

    IF counter > s.refresh_current THEN
        UPDATE auth.sessions SET
            refresh_previous = p_counter, refresh_current = counter, rotated_at = v_now, last_used_at = v_now,
            expires_at = least(v_now + CASE WHEN s.remember THEN interval '30 days' ELSE interval '7 days' END, s.ends_at),
            address = p_address, user_agent = p_agent
        WHERE id = p_session;
    ELSIF outcome = 'reused' THEN
        UPDATE auth.sessions SET revoked_at = v_now WHERE id = p_session;
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, p_session, 'refresh_reuse', 'failure', p_address, p_agent);
        INSERT INTO auth.revocations (user_id, session_id) VALUES (s.user_id, p_session);
    ELSIF outcome = 'raced' AND (s.address, s.user_agent) IS DISTINCT FROM (p_address, p_agent) THEN
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, p_session, 'refresh_elsewhere', 'success', p_address, p_agent);
    END IF;
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION
    auth.append_in_order(),
    auth.withdraw_tokens(uuid),
    auth.withdraw_key(text),
    auth.revocations_after(bigint, integer),
    auth.sweep_revocations(),
    auth.refresh(uuid, integer, interval, inet, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.withdraw_tokens(uuid),
    auth.revocations_after(bigint, integer),
    auth.sweep_revocations(),
    auth.refresh(uuid, integer, interval, inet, text)
TO tollgate_app;

RESET ROLE;

CREATE TRIGGER append_in_order BEFORE INSERT ON auth.revocations
    FOR EACH STATEMENT EXECUTE FUNCTION auth.append_in_order();

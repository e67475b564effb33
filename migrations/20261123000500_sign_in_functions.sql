-- The sign-in calls that have no single user yet, as the definer's functions: who
-- registers, whose password it is, whose session a token names. Each answers what
-- its caller needs and no more. Everything else works under row-level security.

SET ROLE tollgate_definer;

-- A new account with its password and its wallet. A taken address violates `users_email_taken`.
CREATE FUNCTION auth.register(
    p_user uuid, p_email text, p_email_normalised text, p_name text, p_phc text,
    p_email_hash bytea, p_bonus bigint, p_address inet, p_agent text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO auth.users (id, email, email_normalised, name) VALUES (p_user, p_email, p_email_normalised, p_name);
    INSERT INTO auth.passwords (user_id, phc) VALUES (p_user, p_phc);
    PERFORM credits.open_wallet(p_user, p_email_hash, p_bonus);
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (p_user, 'registered', 'success', p_address, p_agent);
END $$;

-- What a sign-in by password compares with.
CREATE FUNCTION auth.account_by_email(p_email_normalised text)
RETURNS TABLE (id uuid, email text, name text, role text, status text, email_verified boolean, phc text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id, u.email, u.name, u.role, u.status, u.email_verified, p.phc
    FROM auth.users u JOIN auth.passwords p ON p.user_id = u.id
    WHERE u.email_normalised = p_email_normalised;
$$;

-- Known account or not, a failure is the same one write.
CREATE FUNCTION auth.record_failed_sign_in(p_user uuid, p_address inet, p_agent text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (p_user, 'sign_in', 'failure', p_address, p_agent);
$$;

-- The state of the session that an access token names; no row when there is none.
CREATE FUNCTION auth.session_state(p_session uuid, p_user uuid)
RETURNS TABLE (live boolean, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.revoked_at IS NULL AND s.expires_at > now(), u.status
    FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.id = p_session AND s.user_id = p_user;
$$;

-- What the MAC of a session's refresh tokens covers. It never changes.
CREATE FUNCTION auth.refresh_salt(p_session uuid) RETURNS TABLE (user_id uuid, salt bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.user_id, s.refresh_salt FROM auth.sessions s WHERE s.id = p_session;
$$;

-- What a refresh token of a live session is worth (RFC 9700 §4.14, with a grace in
-- which a lost answer can be asked for again), `p_age` after the last rotation:
--   rotated   the latest token, and its turn: a new one
--   repeated  the latest token, rotated a moment ago: itself again
--   raced     the one before, within the grace: the latest one
--   recovered the one before, later, so its answer was lost: a new one, past the lost one
--   reused    any other: two parties hold the family, which ends here
CREATE FUNCTION auth.judge_refresh(
    p_counter integer, p_current integer, p_previous integer, p_age interval, p_grace interval
) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN p_counter = p_current THEN CASE WHEN p_age <= p_grace THEN 'repeated' ELSE 'rotated' END
    WHEN p_counter = p_previous THEN CASE WHEN p_age <= p_grace THEN 'raced' ELSE 'recovered' END
    ELSE 'reused'
END;

-- Judges a refresh token with a good MAC by the database's clock and with the row
-- locked, and does what follows. `counter` is the one to answer with. Further outcome:
--   refused   the session or its account is no more; nothing is written
CREATE FUNCTION auth.refresh(p_session uuid, p_counter integer, p_grace interval, p_address inet, p_agent text)
RETURNS TABLE (
    outcome text, counter integer, user_id uuid, email text, name text, email_verified boolean, role text,
    client_id text, authenticated_at timestamptz, amr text[]
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
    ELSIF outcome = 'raced' AND (s.address, s.user_agent) IS DISTINCT FROM (p_address, p_agent) THEN
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, p_session, 'refresh_elsewhere', 'success', p_address, p_agent);
    END IF;
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION
    auth.register(uuid, text, text, text, text, bytea, bigint, inet, text),
    auth.account_by_email(text),
    auth.record_failed_sign_in(uuid, inet, text),
    auth.session_state(uuid, uuid),
    auth.refresh_salt(uuid),
    auth.judge_refresh(integer, integer, integer, interval, interval),
    auth.refresh(uuid, integer, interval, inet, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.register(uuid, text, text, text, text, bytea, bigint, inet, text),
    auth.account_by_email(text),
    auth.record_failed_sign_in(uuid, inet, text),
    auth.session_state(uuid, uuid),
    auth.refresh_salt(uuid),
    auth.refresh(uuid, integer, interval, inet, text)
TO tollgate_app;

RESET ROLE;

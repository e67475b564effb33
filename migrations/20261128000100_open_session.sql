-- What a sign-in writes is one call: it was seven, and each is work for Postgres and for the process
-- that waits. Both functions run as who calls them, on the acting user's rows alone.

-- Writes down that the acting user signs in with a device. Says whether that is news: a device that
-- is not known, of somebody who has had a session before.
CREATE FUNCTION auth.meet_device(p_user uuid, p_hash bytea, p_most integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE auth.devices SET last_seen_at = now() WHERE device_hash = p_hash;
    IF FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM auth.devices WHERE device_hash IN (
        SELECT device_hash FROM auth.devices ORDER BY last_seen_at DESC OFFSET p_most - 1
    );
    INSERT INTO auth.devices (user_id, device_hash) VALUES (p_user, p_hash);
    RETURN EXISTS (SELECT FROM auth.sessions);
END $$;

-- Opens a session for the acting user, and gives the `iat` of its tokens and whether its device is
-- news. No row, and nothing done, where there is a second factor that was not shown. The sessions used
-- longest ago end when there are more than `p_most`. It is its transaction's last statement, since it
-- may append to the feed.
CREATE FUNCTION auth.open_session(
    p_session uuid, p_user uuid, p_client text, p_salt bytea, p_cookie_hash bytea,
    p_device_hash bytea, p_device_id text, p_device_name text, p_agent text, p_address inet,
    p_remember boolean, p_amr text[], p_authenticated_at timestamptz,
    p_days integer, p_longest_days integer, p_most integer, p_most_devices integer
) RETURNS TABLE (issued_at timestamptz, is_new_device boolean)
LANGUAGE plpgsql AS $$
BEGIN
    IF 'mfa' <> ALL (p_amr) AND EXISTS (SELECT FROM auth.totp WHERE confirmed_at IS NOT NULL) THEN
        RETURN;
    END IF;
    is_new_device := auth.meet_device(p_user, p_device_hash, p_most_devices);
    INSERT INTO auth.sessions
        (id, user_id, client_id, refresh_salt, cookie_hash, device_id, device_name, user_agent, address,
         remember, amr, authenticated_at, expires_at, ends_at)
    VALUES (p_session, p_user, p_client, p_salt, p_cookie_hash, p_device_id, p_device_name, p_agent, p_address,
        p_remember, p_amr, p_authenticated_at,
        now() + make_interval(days => p_days), now() + make_interval(days => p_longest_days));
    INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
    VALUES (p_user, p_session, 'sign_in', 'success', p_address, p_agent);
    WITH ended AS (
        UPDATE auth.sessions SET revoked_at = now()
        WHERE revoked_at IS NULL AND id IN (
            SELECT id FROM auth.sessions WHERE revoked_at IS NULL AND expires_at > now()
            ORDER BY last_used_at DESC, created_at DESC OFFSET p_most
        )
        RETURNING id
    )
    INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
    SELECT p_user, id, 'session_crowded_out', 'success', p_address, p_agent FROM ended;
    issued_at := greatest(clock_timestamp(), (
        SELECT max(r.not_before) FROM auth.revocations r WHERE r.user_id = p_user AND r.not_before IS NOT NULL
    ));
    PERFORM auth.withdraw_ended();
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION auth.meet_device, auth.open_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.meet_device, auth.open_session TO tollgate_app;

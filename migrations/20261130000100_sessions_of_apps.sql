-- A browser that is signed in gets tokens for an app whose page it shows: those of a session of its
-- own, below the one that the browser's cookie names. It is the app's, so its role is always `user`,
-- and it ends with the one above it, whatever ends that.

ALTER TABLE auth.sessions
    ADD COLUMN parent_id uuid REFERENCES auth.sessions,
    ADD CONSTRAINT sessions_of_apps_without_cookie
        CHECK (parent_id IS NULL OR cookie_hash IS NULL AND client_id <> 'first-party');
-- Nor does a refresh change these.
CREATE UNIQUE INDEX sessions_one_an_app ON auth.sessions (parent_id, client_id)
    WHERE parent_id IS NOT NULL AND revoked_at IS NULL;

GRANT INSERT ON auth.sessions TO tollgate_definer;

SET ROLE tollgate_definer;

-- One place for all that ends a session: what it ends takes what is below along, at the same moment.
-- Whoever ends sessions one by one tells the feed of all that have ended.
CREATE FUNCTION auth.end_with_parent() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE auth.sessions SET revoked_at = NEW.revoked_at WHERE parent_id = NEW.id AND revoked_at IS NULL;
    RETURN NULL;
END $$;

-- As before, with the role in that session: an app's does for nobody what only an admin may.
CREATE OR REPLACE FUNCTION auth.session_state(p_session uuid, p_user uuid)
RETURNS TABLE (live boolean, status text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.revoked_at IS NULL AND s.expires_at > now(), u.status, CASE WHEN s.client_id = 'first-party' THEN u.role ELSE 'user' END
    FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.id = p_session AND s.user_id = p_user;
$$;

-- The live session that a browser's cookie names, by its hash, and whose it is.
CREATE FUNCTION auth.session_of_cookie(p_cookie_hash bytea) RETURNS TABLE (session uuid, user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.user_id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.cookie_hash = p_cookie_hash AND s.revoked_at IS NULL AND s.expires_at > now() AND u.status = 'active';
$$;

-- The session of an app below one of the acting user's: the one that is there, or a new one with this
-- id and salt. No row when the one above has ended. That is locked first, so what ends it comes before
-- or finds the new one.
CREATE FUNCTION auth.open_below(
    p_parent uuid, p_client text, p_session uuid, p_salt bytea, p_address inet, p_agent text
) RETURNS TABLE (
    session uuid, salt bytea, counter integer, authenticated_at timestamptz, amr text[], issued_at timestamptz,
    expires_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p auth.sessions;
    c auth.sessions;
    v_now timestamptz;
    v_expires_at timestamptz;
BEGIN
    SELECT * INTO p FROM auth.sessions s
    WHERE s.id = p_parent AND s.user_id = auth.acting_user() AND s.parent_id IS NULL
      AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();
    v_expires_at := least(v_now + CASE WHEN p.remember THEN interval '30 days' ELSE interval '7 days' END, p.expires_at);
    -- The browser is in use, however long ago it refreshed.
    UPDATE auth.sessions SET last_used_at = v_now WHERE id = p.id;
    -- Its time was over, and its refresh tokens are not to be good again.
    UPDATE auth.sessions SET revoked_at = now()
    WHERE parent_id = p.id AND client_id = p_client AND revoked_at IS NULL AND expires_at <= v_now;
    UPDATE auth.sessions SET
        last_used_at = v_now, expires_at = v_expires_at, address = p_address, user_agent = p_agent
    WHERE parent_id = p.id AND client_id = p_client AND revoked_at IS NULL
    RETURNING * INTO c;
    IF NOT FOUND THEN
        INSERT INTO auth.sessions
            (id, user_id, parent_id, client_id, refresh_salt, device_id, device_name, user_agent, address,
             remember, amr, authenticated_at, expires_at, ends_at)
        VALUES (p_session, p.user_id, p.id, p_client, p_salt, p.device_id, p.device_name, p_agent, p_address,
            p.remember, p.amr, p.authenticated_at, v_expires_at, p.ends_at)
        RETURNING * INTO c;
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (p.user_id, c.id, 'app_sign_in', 'success', p_address, p_agent);
    END IF;
    RETURN QUERY SELECT c.id, c.refresh_salt, c.refresh_current, c.authenticated_at, c.amr,
        greatest(clock_timestamp(), (
            SELECT max(r.not_before) FROM auth.revocations r WHERE r.user_id = p.user_id AND r.not_before IS NOT NULL
        )),
        c.expires_at;
END $$;

-- As before; besides, an app's session slides no further than the one above, what is below a session
-- that ends goes out in the feed with it, and the answer says when the session ends.
DROP FUNCTION auth.refresh(uuid, integer, interval, inet, text);
CREATE FUNCTION auth.refresh(p_session uuid, p_counter integer, p_grace interval, p_address inet, p_agent text)
RETURNS TABLE (
    outcome text, counter integer, user_id uuid, email text, name text, email_verified boolean, role text,
    client_id text, authenticated_at timestamptz, amr text[], issued_at timestamptz, expires_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s auth.sessions;
    v_now timestamptz;
BEGIN
    LOOP
        -- The end of the one above only ever moves on: what is read of it here is not too late.
        UPDATE auth.sessions AS o SET
            refresh_previous = p_counter, refresh_current = o.refresh_current + 1,
            rotated_at = clock_timestamp(), last_used_at = clock_timestamp(),
            expires_at = least(
                clock_timestamp() + CASE WHEN o.remember THEN interval '30 days' ELSE interval '7 days' END, o.ends_at,
                (SELECT p.expires_at FROM auth.sessions p WHERE p.id = o.parent_id)),
            address = p_address, user_agent = p_agent
        WHERE o.id = p_session AND o.revoked_at IS NULL AND o.expires_at > clock_timestamp()
            AND EXISTS (SELECT FROM auth.users u WHERE u.id = o.user_id AND u.status = 'active')
            AND auth.judge_refresh(p_counter, o.refresh_current, o.refresh_previous, clock_timestamp() - o.rotated_at, p_grace)
                IN ('rotated', 'recovered')
        RETURNING o.* INTO s;
        IF FOUND THEN
            v_now := s.rotated_at;
            outcome := CASE WHEN s.refresh_current = p_counter + 1 THEN 'rotated' ELSE 'recovered' END;
            EXIT;
        END IF;

        SELECT * INTO s FROM auth.sessions o WHERE o.id = p_session FOR UPDATE;
        v_now := clock_timestamp();
        IF NOT FOUND OR s.revoked_at IS NOT NULL OR s.expires_at <= v_now
            OR NOT EXISTS (SELECT FROM auth.users u WHERE u.id = s.user_id AND u.status = 'active') THEN
            outcome := 'refused';
            RETURN NEXT;
            RETURN;
        END IF;
        outcome := auth.judge_refresh(p_counter, s.refresh_current, s.refresh_previous, v_now - s.rotated_at, p_grace);
        -- Its turn may have come a moment ago.
        EXIT WHEN outcome NOT IN ('rotated', 'recovered');
    END LOOP;

    -- Looked at with the session locked: whatever withdrew tokens of the account's was waited for.
    SELECT u.id, u.email, u.name, u.email_verified, u.role,
        greatest(v_now, (SELECT max(r.not_before) FROM auth.revocations r WHERE r.user_id = u.id AND r.not_before IS NOT NULL))
    INTO user_id, email, name, email_verified, role, issued_at
    FROM auth.users u WHERE u.id = s.user_id AND u.status = 'active';
    IF NOT FOUND THEN
        outcome := 'refused';
        RETURN NEXT;
        RETURN;
    END IF;

    IF outcome = 'reused' OR outcome = 'raced' AND (s.address, s.user_agent) IS DISTINCT FROM (p_address, p_agent) THEN
        PERFORM FROM auth.users u WHERE u.id = s.user_id FOR KEY SHARE SKIP LOCKED;
        IF NOT FOUND THEN
            outcome := 'refused';
            RETURN NEXT;
            RETURN;
        END IF;
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, p_session,
            CASE outcome WHEN 'reused' THEN 'refresh_reuse' ELSE 'refresh_elsewhere' END,
            CASE outcome WHEN 'reused' THEN 'failure' ELSE 'success' END,
            p_address, p_agent);
    END IF;
    IF outcome = 'reused' THEN
        UPDATE auth.sessions o SET revoked_at = v_now WHERE o.id = p_session;
        INSERT INTO auth.revocations (user_id, session_id)
        SELECT s.user_id, o.id FROM auth.sessions o
        WHERE o.id = p_session OR o.parent_id = p_session AND o.revoked_at = v_now ORDER BY o.id;
    END IF;

    counter := s.refresh_current;
    client_id := s.client_id;
    authenticated_at := s.authenticated_at;
    amr := s.amr;
    expires_at := s.expires_at;
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION
    auth.end_with_parent, auth.session_of_cookie, auth.open_below,
    auth.refresh(uuid, integer, interval, inet, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.session_of_cookie, auth.open_below, auth.refresh(uuid, integer, interval, inet, text)
TO tollgate_app;

RESET ROLE;

CREATE TRIGGER end_with_parent AFTER UPDATE OF revoked_at ON auth.sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
    EXECUTE FUNCTION auth.end_with_parent();

-- As before, of the sessions that no other ends: how many apps a browser shows crowds nobody out.
CREATE OR REPLACE FUNCTION auth.open_session(
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
            SELECT id FROM auth.sessions WHERE parent_id IS NULL AND revoked_at IS NULL AND expires_at > now()
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

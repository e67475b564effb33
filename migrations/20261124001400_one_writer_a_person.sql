-- Whoever changes something of a person does it alone, and of nobody who is gone. A request that was
-- let in before the account was deleted could write a row of theirs (an event with their address, a
-- mail, a link, a second factor) when the tables had been emptied already, and that row stayed.

-- Lets the transaction act for somebody and write: their row is locked, and says whether they are
-- there. It is the first lock that such a transaction takes, so those of one person come one after
-- the other, and in whatever order they lock the rest they never wait for each other in a circle.
-- Neither the ledger's batch nor a foreign key waits for this lock; a deletion's keeps both out.
CREATE FUNCTION auth.act_for(p_user uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('tollgate.user', p_user::text, true);
    PERFORM FROM auth.users u WHERE u.id = p_user AND u.status = 'active' FOR NO KEY UPDATE;
    RETURN FOUND;
END $$;

REVOKE ALL ON FUNCTION auth.act_for(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.act_for(uuid) TO tollgate_app;

SET ROLE tollgate_definer;

-- Known account or not, a failure is the same one write. Of an account that was deleted while its
-- password was compared, it is nobody's.
CREATE OR REPLACE FUNCTION auth.record_failed_sign_in(p_user uuid, p_address inet, p_agent text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid;
BEGIN
    SELECT u.id INTO v_user FROM auth.users u WHERE u.id = p_user AND u.status <> 'deleted' FOR KEY SHARE;
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (v_user, 'sign_in', 'failure', p_address, p_agent);
END $$;

-- As before; besides, the account is locked before its session, as everywhere.
CREATE OR REPLACE FUNCTION auth.refresh(p_session uuid, p_counter integer, p_grace interval, p_address inet, p_agent text)
RETURNS TABLE (
    outcome text, counter integer, user_id uuid, email text, name text, email_verified boolean, role text,
    client_id text, authenticated_at timestamptz, amr text[], issued_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s auth.sessions;
    v_now timestamptz;
BEGIN
    PERFORM FROM auth.users u
    WHERE u.id = (SELECT o.user_id FROM auth.sessions o WHERE o.id = p_session) FOR KEY SHARE OF u;
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

RESET ROLE;

-- A refresh is a session's most frequent write. Where the token is the latest one and its turn has
-- come, which is nearly always, it is one update now: no look before it, and no lock of the account.

SET ROLE tollgate_definer;

-- As before. The account's key is locked only for what refers to it, after the session and without
-- waiting: what keeps it out is a deletion of the account, which waits for the session in turn.
CREATE OR REPLACE FUNCTION auth.refresh(p_session uuid, p_counter integer, p_grace interval, p_address inet, p_agent text)
RETURNS TABLE (
    outcome text, counter integer, user_id uuid, email text, name text, email_verified boolean, role text,
    client_id text, authenticated_at timestamptz, amr text[], issued_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s auth.sessions;
    v_now timestamptz;
BEGIN
    LOOP
        UPDATE auth.sessions AS o SET
            refresh_previous = p_counter, refresh_current = o.refresh_current + 1,
            rotated_at = clock_timestamp(), last_used_at = clock_timestamp(),
            expires_at = least(clock_timestamp() + CASE WHEN o.remember THEN interval '30 days' ELSE interval '7 days' END, o.ends_at),
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
        INSERT INTO auth.revocations (user_id, session_id) VALUES (s.user_id, p_session);
    END IF;

    counter := s.refresh_current;
    client_id := s.client_id;
    authenticated_at := s.authenticated_at;
    amr := s.amr;
    RETURN NEXT;
END $$;

RESET ROLE;

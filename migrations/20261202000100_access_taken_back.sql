-- Somebody takes back what they let a relying party do: the consent goes, its grants end, and it hears
-- that whoever was signed in to it by them is signed out.

SET ROLE tollgate_definer;

-- Of the acting user; says whether there was anything.
CREATE FUNCTION auth.end_access(p_client text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid := auth.acting_user();
    v_consents bigint;
    v_grants bigint;
    v_sessions uuid[];
BEGIN
    -- First: `open_grant` holds the consent, so that what it opens meanwhile is seen below.
    DELETE FROM auth.consents WHERE user_id = v_user AND client_id = p_client;
    GET DIAGNOSTICS v_consents = ROW_COUNT;
    WITH ended AS (
        UPDATE auth.client_grants SET revoked_at = now()
        WHERE user_id = v_user AND client_id = p_client AND revoked_at IS NULL
        RETURNING session_id, code_used_at
    )
    SELECT count(*), array_agg(DISTINCT session_id) FILTER (WHERE code_used_at IS NOT NULL)
    INTO v_grants, v_sessions FROM ended;
    INSERT INTO auth.logout_notices (client_id, user_id, session_id)
    SELECT c.id, v_user, s FROM auth.clients c, unnest(v_sessions) AS s
    WHERE c.id = p_client AND c.backchannel_logout_uri IS NOT NULL AND c.disabled_at IS NULL;
    RETURN v_consents + v_grants > 0;
END $$;

-- As before; besides, the consent that it goes by is held until it is done, and who ends everything that
-- somebody has, holding their row (`act_for`, `take_charge`), waits for this or is seen by it.
CREATE OR REPLACE FUNCTION auth.open_grant(
    p_cookie_hash bytea, p_grant uuid, p_client text, p_scopes text[], p_redirect_uri text, p_code_hash bytea,
    p_challenge text, p_nonce text, p_salt bytea, p_code_secs integer, p_consents boolean, p_address inet, p_agent text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c auth.clients;
    s auth.sessions;
    v_user uuid;
BEGIN
    SELECT * INTO c FROM auth.clients k WHERE k.id = p_client AND k.disabled_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    SELECT o.user_id INTO v_user FROM auth.sessions o WHERE o.cookie_hash = p_cookie_hash;
    PERFORM FROM auth.users u WHERE u.id = v_user AND u.status = 'active' FOR SHARE;
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    -- As it is now that nobody else ends it.
    SELECT * INTO s FROM auth.sessions o
    WHERE o.cookie_hash = p_cookie_hash AND o.revoked_at IS NULL AND o.expires_at > now();
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    IF p_consents THEN
        INSERT INTO auth.consents AS k (user_id, client_id, scopes) VALUES (s.user_id, p_client, p_scopes)
        ON CONFLICT (user_id, client_id) DO UPDATE SET
            scopes = k.scopes || ARRAY(SELECT unnest(excluded.scopes) EXCEPT SELECT unnest(k.scopes)), given_at = now();
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, s.id, 'client_allowed', 'success', p_address, p_agent);
    ELSIF NOT c.trusted THEN
        PERFORM FROM auth.consents k
        WHERE k.user_id = s.user_id AND k.client_id = p_client AND k.scopes @> p_scopes FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN 'consent';
        END IF;
    END IF;
    INSERT INTO auth.client_grants
        (id, client_id, user_id, session_id, offline, scopes, code_hash, code_expires_at, redirect_uri, challenge, nonce,
         authenticated_at, amr, refresh_salt, expires_at)
    VALUES (p_grant, p_client, s.user_id, s.id, 'offline_access' = ANY (p_scopes), p_scopes, p_code_hash,
        now() + make_interval(secs => p_code_secs), p_redirect_uri, p_challenge, p_nonce,
        s.authenticated_at, s.amr, p_salt, s.ends_at);
    RETURN 'opened';
END $$;

REVOKE ALL ON FUNCTION auth.end_access FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.end_access TO tollgate_app;

RESET ROLE;

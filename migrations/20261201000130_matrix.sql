-- Which Matrix id is whose: kept when a Matrix server has asked who somebody is. It is made from the
-- account's id, so it is nobody else's; one that is somebody else's all the same stays theirs.

CREATE TABLE auth.matrix_links (
    mxid text PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users,
    client_id text NOT NULL REFERENCES auth.clients,
    linked_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX matrix_links_of_user ON auth.matrix_links (user_id);

ALTER TABLE auth.matrix_links ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON auth.matrix_links TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON auth.matrix_links TO tollgate_definer USING (true);
GRANT SELECT, DELETE ON auth.matrix_links TO tollgate_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.matrix_links TO tollgate_definer;

ALTER TABLE auth.apps DROP CONSTRAINT apps_permissions_known;
ALTER TABLE auth.apps ADD CONSTRAINT apps_permissions_known
    CHECK (permissions <@ ARRAY['charge', 'read', 'refund', 'grant', 'matrix']);

SET ROLE tollgate_definer;

-- Links a Matrix id to whoever gave a grant. Says whether it is theirs now; that it is not is an event of
-- theirs, and changes nothing.
CREATE FUNCTION auth.link_matrix(p_grant uuid, p_mxid text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g auth.client_grants;
    v_holder uuid;
BEGIN
    SELECT m.user_id INTO v_holder FROM auth.matrix_links m
    JOIN auth.client_grants o ON o.user_id = m.user_id AND o.id = p_grant
    WHERE m.mxid = p_mxid AND m.last_used_at > now() - interval '1 minute';
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT * INTO g FROM auth.client_grants o WHERE o.id = p_grant;
    PERFORM FROM auth.users u WHERE u.id = g.user_id AND u.status = 'active' FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO auth.matrix_links AS m (mxid, user_id, client_id) VALUES (p_mxid, g.user_id, g.client_id)
    ON CONFLICT (mxid) DO UPDATE SET last_used_at = now() WHERE m.user_id = g.user_id;
    IF FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO auth.security_events (user_id, session_id, type, outcome)
    VALUES (g.user_id, g.session_id, 'matrix_link_taken', 'failure');
    RETURN false;
END $$;

-- Whose a Matrix id is, for bots.
CREATE FUNCTION auth.matrix_holder(p_mxid text)
RETURNS TABLE (user_id uuid, email text, name text, email_verified boolean, linked_at timestamptz, last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id, u.email, u.name, u.email_verified, m.linked_at, m.last_used_at
    FROM auth.matrix_links m JOIN auth.users u ON u.id = m.user_id
    WHERE m.mxid = p_mxid AND u.status = 'active';
$$;

-- As before, with Matrix ids.
CREATE OR REPLACE FUNCTION auth.delete_account() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid := auth.acting_user();
BEGIN
    PERFORM FROM auth.users WHERE id = v_user FOR UPDATE;
    DELETE FROM auth.outbox o USING auth.users u
    WHERE u.id = v_user AND (o.user_id = u.id OR o.email_normalised = u.email_normalised);
    UPDATE auth.users SET
        email = '', email_normalised = 'deleted ' || id, email_verified = false, name = NULL, image = NULL,
        status = 'deleted', words_cleared_to = 0
    WHERE id = v_user;
    DELETE FROM auth.outside_sign_ins WHERE user_id = v_user;
    DELETE FROM auth.outside_accounts WHERE user_id = v_user;
    DELETE FROM auth.half_sign_ins WHERE user_id = v_user;
    DELETE FROM auth.recovery_codes WHERE user_id = v_user;
    DELETE FROM auth.totp WHERE user_id = v_user;
    DELETE FROM auth.links WHERE user_id = v_user;
    DELETE FROM auth.devices WHERE user_id = v_user;
    DELETE FROM auth.passwords WHERE user_id = v_user;
    -- That there was a session with an app is what lets the app settle what is under way.
    UPDATE auth.sessions SET
        revoked_at = coalesce(revoked_at, now()), cookie_hash = NULL, device_id = NULL, device_name = NULL,
        user_agent = NULL, address = NULL
    WHERE user_id = v_user;
    DELETE FROM auth.client_grants WHERE user_id = v_user;
    DELETE FROM auth.consents WHERE user_id = v_user;
    DELETE FROM auth.matrix_links WHERE user_id = v_user;
    DELETE FROM auth.security_events WHERE user_id = v_user;
    INSERT INTO auth.security_events (user_id, type, outcome) VALUES (v_user, 'account_deleted', 'success');
    -- Last, since it lets one at a time through until the end of the transaction.
    PERFORM auth.withdraw_tokens(v_user);
END $$;

REVOKE ALL ON FUNCTION auth.link_matrix, auth.matrix_holder FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.link_matrix, auth.matrix_holder TO tollgate_app;

RESET ROLE;

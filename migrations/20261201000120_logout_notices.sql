-- Relying parties hear when a browser's session ends that people were signed in to them from (OpenID
-- Connect Back-Channel Logout 1.0): a queue, which whatever ends a session fills and a task empties.

CREATE TABLE auth.logout_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key: nothing is waited for when a session ends.
    client_id text NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- When it is to be sent next; putting that off is the lease of who sends it now.
    due_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '1 hour'
);
CREATE INDEX logout_notices_due ON auth.logout_notices (due_at);

ALTER TABLE auth.logout_notices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every ON auth.logout_notices TO tollgate_definer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.logout_notices TO tollgate_definer;

SET ROLE tollgate_definer;

-- A session has ended: each client that somebody was signed in to from there is to hear of it.
CREATE FUNCTION auth.tell_clients() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO auth.logout_notices (client_id, user_id, session_id)
    SELECT DISTINCT g.client_id, NEW.user_id, NEW.id
    FROM auth.client_grants g JOIN auth.clients c ON c.id = g.client_id
    WHERE g.session_id = NEW.id AND g.code_used_at IS NOT NULL
      AND c.backchannel_logout_uri IS NOT NULL AND c.disabled_at IS NULL;
    RETURN NULL;
END $$;

-- The notice that has been due longest, for half a minute; the next attempt comes twice as late each time.
CREATE FUNCTION auth.claim_logout_notice()
RETURNS TABLE (
    id bigint, client_id text, user_id uuid, session_id uuid, attempts integer, is_over boolean, uri text, alg text
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.logout_notices n SET
        attempts = n.attempts + 1, due_at = now() + make_interval(secs => 15 * 2 ^ least(n.attempts + 1, 8))
    FROM auth.logout_notices o LEFT JOIN auth.clients c ON c.id = o.client_id AND c.disabled_at IS NULL
    WHERE n.id = o.id AND o.id = (
        SELECT d.id FROM auth.logout_notices d WHERE d.due_at <= now() ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING n.id, n.client_id, n.user_id, n.session_id, n.attempts, n.expires_at <= now(), c.backchannel_logout_uri,
        c.id_token_alg;
$$;

CREATE FUNCTION auth.forget_logout_notice(p_id bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.logout_notices WHERE id = p_id;
$$;

-- As before; besides, the clients of sessions whose time is over hear of it before their grants go.
CREATE OR REPLACE FUNCTION auth.sweep_grants(p_most integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM auth.client_grants WHERE id IN (
            SELECT g.id FROM auth.client_grants g JOIN auth.sessions s ON s.id = g.session_id
            WHERE g.code_used_at IS NULL AND g.code_expires_at < now() - interval '1 minute'
                OR g.revoked_at < now() - interval '1 day'
                OR g.expires_at < now()
                OR NOT g.offline AND (s.revoked_at < now() - interval '1 day' OR s.expires_at < now())
            LIMIT p_most FOR UPDATE OF g SKIP LOCKED
        )
        RETURNING client_id, user_id, session_id, code_used_at
    )
    INSERT INTO auth.logout_notices (client_id, user_id, session_id)
    SELECT DISTINCT g.client_id, g.user_id, g.session_id
    FROM gone g JOIN auth.clients c ON c.id = g.client_id JOIN auth.sessions s ON s.id = g.session_id
    WHERE g.code_used_at IS NOT NULL AND s.revoked_at IS NULL AND s.expires_at < now()
      AND c.backchannel_logout_uri IS NOT NULL AND c.disabled_at IS NULL;
$$;

REVOKE ALL ON FUNCTION auth.tell_clients, auth.claim_logout_notice, auth.forget_logout_notice FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.claim_logout_notice, auth.forget_logout_notice TO tollgate_app;

RESET ROLE;

CREATE TRIGGER tell_clients AFTER UPDATE OF revoked_at ON auth.sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL AND NEW.parent_id IS NULL)
    EXECUTE FUNCTION auth.tell_clients();

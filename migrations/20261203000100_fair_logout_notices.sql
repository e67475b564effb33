-- A relying party that does not hear keeps nobody waiting who would.

SET ROLE tollgate_definer;

-- As before; besides, of a client with four on their way, or waiting since they did not arrive, none is taken.
CREATE OR REPLACE FUNCTION auth.claim_logout_notice()
RETURNS TABLE (
    id bigint, client_id text, user_id uuid, session_id uuid, attempts integer, is_over boolean, uri text, alg text
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.logout_notices n SET
        attempts = n.attempts + 1, due_at = now() + make_interval(secs => 15 * 2 ^ least(n.attempts + 1, 8))
    FROM auth.logout_notices o LEFT JOIN auth.clients c ON c.id = o.client_id AND c.disabled_at IS NULL
    WHERE n.id = o.id AND o.id = (
        SELECT d.id FROM auth.logout_notices d
        WHERE d.due_at <= now() AND (
            SELECT count(*) FROM (
                SELECT FROM auth.logout_notices b
                WHERE b.client_id = d.client_id AND b.attempts > 0 AND b.due_at > now() LIMIT 4
            ) busy
        ) < 4
        ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING n.id, n.client_id, n.user_id, n.session_id, n.attempts, n.expires_at <= now(), c.backchannel_logout_uri,
        c.id_token_alg;
$$;

RESET ROLE;

CREATE INDEX logout_notices_busy ON auth.logout_notices (client_id, due_at) WHERE attempts > 0;

-- A relying party that does not hear keeps nobody waiting who would: what was never tried comes first.

SET ROLE tollgate_definer;

-- As before, but for the order.
CREATE OR REPLACE FUNCTION auth.claim_logout_notice()
RETURNS TABLE (
    id bigint, client_id text, user_id uuid, session_id uuid, attempts integer, is_over boolean, uri text, alg text
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.logout_notices n SET
        attempts = n.attempts + 1, due_at = now() + make_interval(secs => 15 * 2 ^ least(n.attempts + 1, 8))
    FROM auth.logout_notices o LEFT JOIN auth.clients c ON c.id = o.client_id AND c.disabled_at IS NULL
    WHERE n.id = o.id AND o.id = (
        SELECT d.id FROM auth.logout_notices d WHERE d.due_at <= now()
        ORDER BY d.attempts, d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING n.id, n.client_id, n.user_id, n.session_id, n.attempts, n.expires_at <= now(), c.backchannel_logout_uri,
        c.id_token_alg;
$$;

RESET ROLE;

-- In that order, so that a long queue is not sorted for each that is taken from it.
CREATE INDEX logout_notices_next ON auth.logout_notices (attempts, due_at);
DROP INDEX auth.logout_notices_due;

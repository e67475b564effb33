-- What an admin does to somebody else's account, and an operator to anybody's. An admin is one here,
-- by the row of theirs, and not by what a token or a handler says. Whatever is done is written down
-- as a security event of whom it was done to, with who did it; none but these functions writes that.

ALTER TABLE auth.security_events
    -- Who did it, where it was an admin and not the account's owner.
    ADD COLUMN admin_id uuid REFERENCES auth.users;
CREATE POLICY done_by_oneself ON auth.security_events AS RESTRICTIVE FOR INSERT TO tollgate_app
    WITH CHECK (admin_id IS NULL);

-- What a search reads: a range of addresses, and no more rows than a page has.
CREATE INDEX users_by_address ON auth.users (email_normalised COLLATE "C") WHERE status <> 'deleted';

GRANT UPDATE (role) ON auth.users TO tollgate_definer;

SET ROLE tollgate_definer;

-- The acting user, who is an admin as of now. Anybody else is refused.
CREATE FUNCTION auth.acting_admin() RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM auth.users u WHERE u.id = auth.acting_user() AND u.role = 'admin' AND u.status = 'active';
    IF NOT FOUND THEN
        RAISE insufficient_privilege USING MESSAGE = 'the acting user is no admin';
    END IF;
    RETURN auth.acting_user();
END $$;

-- Lets an admin's transaction read what is somebody else's, as that person does; says whether there
-- is somebody.
CREATE FUNCTION auth.look_as_admin(p_user uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM auth.acting_admin();
    PERFORM set_config('tollgate.user', p_user::text, true);
    RETURN EXISTS (SELECT FROM auth.users u WHERE u.id = p_user AND u.status <> 'deleted');
END $$;

-- Lets a transaction change something of somebody, whose row this is; NULL where there is nobody.
-- Both accounts are locked, in the order of their ids: two admins never wait for each other in a
-- circle, and one who has lost the role meanwhile is refused. No admin: an operator.
CREATE FUNCTION auth.take_charge(p_admin uuid, p_user uuid) RETURNS auth.users
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    u auth.users;
BEGIN
    PERFORM FROM auth.users o WHERE o.id IN (p_admin, p_user) ORDER BY o.id FOR NO KEY UPDATE;
    IF p_admin IS NOT NULL THEN
        PERFORM auth.acting_admin();
    END IF;
    SELECT * INTO u FROM auth.users o WHERE o.id = p_user AND o.status <> 'deleted';
    PERFORM set_config('tollgate.user', p_user::text, true);
    RETURN u;
END $$;

CREATE FUNCTION auth.write_down_for(
    p_admin uuid, p_user uuid, p_session uuid, p_type text, p_address inet, p_agent text
) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO auth.security_events (user_id, admin_id, session_id, type, outcome, address, user_agent)
    VALUES (p_user, p_admin, p_session, p_type, 'success', p_address, p_agent);
$$;

-- Ends whatever somebody is signed in with, and half signed in, in the order in which they do it too.
CREATE FUNCTION auth.end_everything(p_user uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM auth.half_sign_ins WHERE user_id = p_user;
    WITH ending AS MATERIALIZED (
        SELECT s.id FROM auth.sessions s WHERE s.user_id = p_user AND s.revoked_at IS NULL
        ORDER BY s.parent_id NULLS FIRST, s.id FOR UPDATE
    )
    UPDATE auth.sessions SET revoked_at = now() WHERE id IN (SELECT id FROM ending);
    -- Of relying parties, those that were to go on when nobody is there.
    UPDATE auth.client_grants SET revoked_at = now() WHERE user_id = p_user AND revoked_at IS NULL;
END $$;

-- What follows is `done`, or why not: `unknown_user`, `unknown_session`, `oneself` (nobody locks
-- themselves out), `as_before`. The feed of revocations is told last.

CREATE FUNCTION auth.change_role(p_admin uuid, p_user uuid, p_role text, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    u auth.users := auth.take_charge(p_admin, p_user);
BEGIN
    IF u.id IS NULL THEN
        RETURN 'unknown_user';
    ELSIF p_admin = p_user THEN
        RETURN 'oneself';
    ELSIF u.role = p_role THEN
        RETURN 'as_before';
    END IF;
    UPDATE auth.users SET role = p_role WHERE id = p_user;
    PERFORM auth.write_down_for(p_admin, p_user, NULL, 'made_' || p_role, p_address, p_agent);
    PERFORM auth.withdraw_tokens(p_user);
    RETURN 'done';
END $$;

CREATE FUNCTION auth.change_ban(p_admin uuid, p_user uuid, p_banned boolean, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    u auth.users := auth.take_charge(p_admin, p_user);
BEGIN
    IF u.id IS NULL THEN
        RETURN 'unknown_user';
    ELSIF p_admin = p_user THEN
        RETURN 'oneself';
    ELSIF (u.status = 'banned') = p_banned THEN
        RETURN 'as_before';
    END IF;
    UPDATE auth.users SET status = CASE WHEN p_banned THEN 'banned' ELSE 'active' END WHERE id = p_user;
    PERFORM auth.write_down_for(
        p_admin, p_user, NULL, CASE WHEN p_banned THEN 'banned' ELSE 'unbanned' END, p_address, p_agent
    );
    IF p_banned THEN
        PERFORM auth.end_everything(p_user);
        PERFORM auth.withdraw_tokens(p_user);
    END IF;
    RETURN 'done';
END $$;

-- One session with what is below it; or, where none is named, all of them.
CREATE FUNCTION auth.end_sessions(p_admin uuid, p_user uuid, p_session uuid, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    u auth.users := auth.take_charge(p_admin, p_user);
BEGIN
    IF u.id IS NULL THEN
        RETURN 'unknown_user';
    ELSIF p_session IS NULL THEN
        PERFORM auth.write_down_for(p_admin, p_user, NULL, 'signed_out_by_admin', p_address, p_agent);
        PERFORM auth.end_everything(p_user);
        PERFORM auth.withdraw_tokens(p_user);
        RETURN 'done';
    END IF;
    UPDATE auth.sessions SET revoked_at = now() WHERE id = p_session AND user_id = p_user AND revoked_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'unknown_session';
    END IF;
    PERFORM auth.write_down_for(p_admin, p_user, p_session, 'session_ended_by_admin', p_address, p_agent);
    PERFORM auth.withdraw_ended();
    RETURN 'done';
END $$;

-- Whose address begins so, or whose id it is, in the order of the addresses and after one of them.
-- Addresses are printable ASCII, so none that begins so comes behind the prefix with 127.
CREATE FUNCTION auth.people(p_prefix text, p_id uuid, p_after text, p_limit integer)
RETURNS TABLE (id uuid, email text, name text, role text, status text, email_verified boolean, created_at timestamptz, key text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    (
        SELECT u.id, u.email, u.name, u.role, u.status, u.email_verified, u.created_at, u.email_normalised
        FROM auth.users u
        WHERE u.status <> 'deleted' AND p_id IS NULL
          AND u.email_normalised COLLATE "C" >= p_prefix AND u.email_normalised COLLATE "C" < p_prefix || chr(127)
          AND u.email_normalised COLLATE "C" > p_after
        ORDER BY u.email_normalised COLLATE "C" LIMIT p_limit
    )
    UNION ALL (
        SELECT u.id, u.email, u.name, u.role, u.status, u.email_verified, u.created_at, u.email_normalised
        FROM auth.users u WHERE u.id = p_id AND u.status <> 'deleted'
    );
$$;

-- The same, for the runtime role, on behalf of an admin.

CREATE FUNCTION auth.admin_changes_role(p_user uuid, p_role text, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN auth.change_role(auth.acting_admin(), p_user, p_role, p_address, p_agent);
END $$;

CREATE FUNCTION auth.admin_changes_ban(p_user uuid, p_banned boolean, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN auth.change_ban(auth.acting_admin(), p_user, p_banned, p_address, p_agent);
END $$;

CREATE FUNCTION auth.admin_ends_sessions(p_user uuid, p_session uuid, p_address inet, p_agent text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN auth.end_sessions(auth.acting_admin(), p_user, p_session, p_address, p_agent);
END $$;

CREATE FUNCTION auth.admin_finds_people(p_prefix text, p_id uuid, p_after text, p_limit integer)
RETURNS TABLE (id uuid, email text, name text, role text, status text, email_verified boolean, created_at timestamptz, key text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.acting_admin();
    RETURN QUERY SELECT * FROM auth.people(p_prefix, p_id, p_after, p_limit);
END $$;

-- That credits were granted or returned by an admin, in the transaction that does it.
CREATE FUNCTION auth.admin_moved_credits(p_user uuid, p_type text, p_address inet, p_agent text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_type NOT IN ('credits_granted', 'credits_refunded') THEN
        RAISE check_violation USING MESSAGE = 'no such event';
    END IF;
    PERFORM auth.write_down_for(auth.acting_admin(), p_user, NULL, p_type, p_address, p_agent);
END $$;

-- What waits to be sent. Of an address there is no more than tells its owner which one it is, and
-- nothing of what a mail will say.
CREATE FUNCTION auth.admin_sees_mail(p_limit integer)
RETURNS TABLE (id uuid, kind text, masked text, attempts integer, created_at timestamptz, due_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.acting_admin();
    RETURN QUERY
    SELECT o.id, o.kind, left(coalesce(o.email_normalised, u.email_normalised), 1) || '…@'
               || split_part(coalesce(o.email_normalised, u.email_normalised), '@', -1),
           o.attempts, o.created_at, o.due_at
    FROM auth.outbox o LEFT JOIN auth.users u ON u.id = o.user_id
    WHERE o.attempts > 1 ORDER BY o.attempts DESC, o.created_at, o.id LIMIT p_limit;
END $$;

CREATE FUNCTION auth.admin_counts_mail()
RETURNS TABLE (kind text, waiting bigint, oldest_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM auth.acting_admin();
    RETURN QUERY
    SELECT o.kind, count(*), min(o.created_at) FROM auth.outbox o GROUP BY o.kind ORDER BY o.kind;
END $$;

-- As before; besides, who grants or refunds as an admin is one.
CREATE OR REPLACE FUNCTION credits.lock_for(p_user uuid, p_app_id text) RETURNS credits.balances
LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    IF p_app_id IS NULL THEN
        PERFORM auth.acting_admin();
    END IF;
    IF p_app_id IS NULL OR EXISTS (SELECT FROM auth.sessions WHERE user_id = p_user AND client_id = p_app_id) THEN
        SELECT * INTO b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
        -- With the wallet locked: whoever leaves clears the words of what came before.
        IF EXISTS (SELECT FROM auth.users WHERE id = p_user AND status = 'deleted') THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN b;
END $$;

REVOKE ALL ON FUNCTION
    auth.acting_admin, auth.look_as_admin, auth.take_charge, auth.write_down_for, auth.end_everything,
    auth.change_role, auth.change_ban, auth.end_sessions, auth.people,
    auth.admin_changes_role, auth.admin_changes_ban, auth.admin_ends_sessions, auth.admin_finds_people,
    auth.admin_moved_credits, auth.admin_sees_mail, auth.admin_counts_mail
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.acting_admin, auth.look_as_admin,
    auth.admin_changes_role, auth.admin_changes_ban, auth.admin_ends_sessions, auth.admin_finds_people,
    auth.admin_moved_credits, auth.admin_sees_mail, auth.admin_counts_mail
TO tollgate_app;

RESET ROLE;

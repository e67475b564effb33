-- Relying parties: programs of others that sign people in by us (OpenID Connect). What somebody let one
-- of them do is a grant: it is born with its code, and its tokens are worth nothing once it has ended.

CREATE TABLE auth.clients (
    id text PRIMARY KEY,
    -- What people read when they are asked.
    name text NOT NULL,
    -- How it says who it is at the token endpoint.
    auth_method text NOT NULL,
    -- SHA-256 of 32 random bytes, as `auth.apps` has it.
    secret_hash bytea,
    -- RFC 7517 §5; public keys alone.
    jwks jsonb,
    grant_types text[] NOT NULL,
    -- Compared letter by letter.
    redirect_uris text[] NOT NULL DEFAULT '{}',
    post_logout_redirect_uris text[] NOT NULL DEFAULT '{}',
    backchannel_logout_uri text,
    id_token_alg text NOT NULL DEFAULT 'EdDSA',
    -- Whether nobody is asked for it.
    trusted boolean NOT NULL DEFAULT false,
    requires_pkce boolean NOT NULL DEFAULT true,
    -- The server name behind the colon of Matrix ids, where it is a Matrix server.
    matrix_server text,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    CONSTRAINT clients_method_known CHECK (auth_method IN ('none', 'client_secret', 'private_key_jwt')),
    CONSTRAINT clients_secret CHECK ((auth_method = 'client_secret') = (secret_hash IS NOT NULL)),
    CONSTRAINT clients_keys CHECK ((auth_method = 'private_key_jwt') = (jwks IS NOT NULL)),
    CONSTRAINT clients_grants_known CHECK (grant_types <@ ARRAY['authorization_code', 'refresh_token', 'client_credentials']),
    CONSTRAINT clients_public CHECK (auth_method <> 'none' OR requires_pkce AND 'client_credentials' <> ALL (grant_types)),
    CONSTRAINT clients_algorithm_known CHECK (id_token_alg IN ('EdDSA', 'RS256'))
);

CREATE TABLE auth.client_grants (
    id uuid PRIMARY KEY,
    client_id text NOT NULL REFERENCES auth.clients,
    user_id uuid NOT NULL REFERENCES auth.users,
    -- The browser's, with which it ends.
    session_id uuid NOT NULL REFERENCES auth.sessions,
    -- Unless it was given for when nobody is there.
    offline boolean NOT NULL,
    scopes text[] NOT NULL,
    -- SHA-256 of the code.
    code_hash bytea NOT NULL,
    code_expires_at timestamptz NOT NULL,
    code_used_at timestamptz,
    redirect_uri text NOT NULL,
    -- RFC 7636 §4.2, S256.
    challenge text,
    nonce text,
    authenticated_at timestamptz NOT NULL,
    amr text[] NOT NULL,
    -- As those of `auth.sessions`.
    refresh_salt bytea NOT NULL,
    refresh_current integer NOT NULL DEFAULT 0,
    refresh_previous integer,
    rotated_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT client_grants_hashed CHECK (octet_length(code_hash) = 32 AND octet_length(refresh_salt) = 16),
    CONSTRAINT client_grants_counters_ordered CHECK (refresh_previous < refresh_current),
    CONSTRAINT client_grants_rotation_whole CHECK ((refresh_previous IS NULL) = (rotated_at IS NULL))
);
CREATE INDEX client_grants_of_user ON auth.client_grants (user_id);
CREATE INDEX client_grants_of_session ON auth.client_grants (session_id);

-- What somebody said yes to, so that they are asked once.
CREATE TABLE auth.consents (
    user_id uuid NOT NULL REFERENCES auth.users,
    client_id text NOT NULL REFERENCES auth.clients,
    scopes text[] NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id)
);

ALTER TABLE auth.client_grants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.consents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON auth.client_grants TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.consents TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON auth.client_grants TO tollgate_definer USING (true);
CREATE POLICY every ON auth.consents TO tollgate_definer USING (true);

GRANT SELECT ON auth.clients TO tollgate_app, tollgate_definer;
GRANT SELECT (id, client_id, user_id, session_id, offline, scopes, created_at, expires_at, revoked_at), UPDATE (revoked_at)
    ON auth.client_grants TO tollgate_app;
GRANT SELECT ON auth.consents TO tollgate_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.client_grants, auth.consents TO tollgate_definer;

SET ROLE tollgate_definer;

-- Who is signed in in a browser, by the hash of its cookie, and how.
CREATE FUNCTION auth.signed_in_browser(p_cookie_hash bytea)
RETURNS TABLE (session_id uuid, user_id uuid, email text, authenticated_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.user_id, u.email, s.authenticated_at
    FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.cookie_hash = p_cookie_hash AND s.revoked_at IS NULL AND s.expires_at > now() AND u.status = 'active';
$$;

-- Opens a grant for whoever is signed in in the browser of that cookie, with its code. Outcomes:
--   opened   there it is
--   consent  they were not asked for all of these scopes yet
--   ended    nobody is signed in there any more, or the client is disabled
-- With `p_consents` they have just said yes.
CREATE FUNCTION auth.open_grant(
    p_cookie_hash bytea, p_grant uuid, p_client text, p_scopes text[], p_redirect_uri text, p_code_hash bytea,
    p_challenge text, p_nonce text, p_salt bytea, p_code_secs integer, p_consents boolean, p_address inet, p_agent text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c auth.clients;
    s auth.sessions;
BEGIN
    SELECT * INTO c FROM auth.clients k WHERE k.id = p_client AND k.disabled_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    SELECT * INTO s FROM auth.sessions o
    WHERE o.cookie_hash = p_cookie_hash AND o.revoked_at IS NULL AND o.expires_at > now();
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    -- A deletion of the account waits for this, or is seen.
    PERFORM FROM auth.users u WHERE u.id = s.user_id AND u.status = 'active' FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 'ended';
    END IF;
    IF p_consents THEN
        INSERT INTO auth.consents AS k (user_id, client_id, scopes) VALUES (s.user_id, p_client, p_scopes)
        ON CONFLICT (user_id, client_id) DO UPDATE SET
            scopes = k.scopes || ARRAY(SELECT unnest(excluded.scopes) EXCEPT SELECT unnest(k.scopes)), given_at = now();
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (s.user_id, s.id, 'client_allowed', 'success', p_address, p_agent);
    ELSIF NOT c.trusted AND NOT EXISTS (
        SELECT FROM auth.consents k WHERE k.user_id = s.user_id AND k.client_id = p_client AND k.scopes @> p_scopes
    ) THEN
        RETURN 'consent';
    END IF;
    INSERT INTO auth.client_grants
        (id, client_id, user_id, session_id, offline, scopes, code_hash, code_expires_at, redirect_uri, challenge, nonce,
         authenticated_at, amr, refresh_salt, expires_at)
    VALUES (p_grant, p_client, s.user_id, s.id, 'offline_access' = ANY (p_scopes), p_scopes, p_code_hash,
        now() + make_interval(secs => p_code_secs), p_redirect_uri, p_challenge, p_nonce,
        s.authenticated_at, s.amr, p_salt, s.ends_at);
    RETURN 'opened';
END $$;

-- Whether the tokens of a grant are worth something: one that is bound to a browser's session ends with
-- it, whatever ends that.
CREATE FUNCTION auth.grant_lives(g auth.client_grants) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.revoked_at IS NULL AND g.expires_at > now()
        AND EXISTS (SELECT FROM auth.users u WHERE u.id = g.user_id AND u.status = 'active')
        AND EXISTS (SELECT FROM auth.clients c WHERE c.id = g.client_id AND c.disabled_at IS NULL)
        AND (g.offline OR EXISTS (
            SELECT FROM auth.sessions s WHERE s.id = g.session_id AND s.revoked_at IS NULL AND s.expires_at > now()));
$$;

-- Ends a grant of which two parties hold something, and writes that down. The account's key is locked
-- without waiting: what keeps it out is a deletion of the account, which waits for the grant in turn.
CREATE FUNCTION auth.end_stolen_grant(g auth.client_grants, p_type text, p_address inet, p_agent text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE auth.client_grants SET revoked_at = clock_timestamp() WHERE id = g.id AND revoked_at IS NULL;
    PERFORM FROM auth.users u WHERE u.id = g.user_id FOR KEY SHARE SKIP LOCKED;
    IF FOUND THEN
        INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
        VALUES (g.user_id, g.session_id, p_type, 'failure', p_address, p_agent);
    END IF;
END $$;

-- Gives a client what its code stands for, once. `p_challenge` is made from the verifier that it shows.
-- A code that was used before ends the grant, with all that was issued from it (RFC 6749 §4.1.2).
CREATE FUNCTION auth.redeem_code(
    p_grant uuid, p_code_hash bytea, p_client text, p_redirect_uri text, p_challenge text, p_address inet, p_agent text
) RETURNS TABLE (
    outcome text, counter integer, salt bytea, user_id uuid, session_id uuid, scopes text[], nonce text,
    authenticated_at timestamptz, amr text[], issued_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    g auth.client_grants;
BEGIN
    SELECT * INTO g FROM auth.client_grants o WHERE o.id = p_grant FOR UPDATE;
    outcome := 'refused';
    IF NOT FOUND OR g.code_hash <> p_code_hash OR g.client_id <> p_client THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF g.code_used_at IS NOT NULL THEN
        PERFORM auth.end_stolen_grant(g, 'code_replayed', p_address, p_agent);
        outcome := 'replayed';
        RETURN NEXT;
        RETURN;
    END IF;
    IF g.code_expires_at <= clock_timestamp() OR g.redirect_uri <> p_redirect_uri
        OR g.challenge IS DISTINCT FROM p_challenge OR NOT auth.grant_lives(g) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE auth.client_grants SET
        code_used_at = clock_timestamp(),
        expires_at = CASE WHEN g.offline THEN clock_timestamp() + interval '30 days' ELSE g.expires_at END
    WHERE id = p_grant;
    RETURN QUERY SELECT 'redeemed', g.refresh_current, g.refresh_salt, g.user_id, g.session_id, g.scopes, g.nonce,
        g.authenticated_at, g.amr, clock_timestamp();
END $$;

-- Whose a refresh token is, and what its MAC covers. Neither ever changes.
CREATE FUNCTION auth.grant_salt(p_grant uuid) RETURNS TABLE (client_id text, salt bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.client_id, g.refresh_salt FROM auth.client_grants g WHERE g.id = p_grant AND g.code_used_at IS NOT NULL;
$$;

-- `auth.refresh` for grants: the same rule, of which the outcomes are told there.
CREATE FUNCTION auth.refresh_grant(
    p_grant uuid, p_client text, p_counter integer, p_grace interval, p_address inet, p_agent text
) RETURNS TABLE (
    outcome text, counter integer, salt bytea, user_id uuid, session_id uuid, scopes text[], nonce text,
    authenticated_at timestamptz, amr text[], issued_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    g auth.client_grants;
    v_now timestamptz;
BEGIN
    SELECT * INTO g FROM auth.client_grants o
    WHERE o.id = p_grant AND o.client_id = p_client AND o.code_used_at IS NOT NULL FOR UPDATE;
    v_now := clock_timestamp();
    IF NOT FOUND OR NOT auth.grant_lives(g) THEN
        outcome := 'refused';
        RETURN NEXT;
        RETURN;
    END IF;
    outcome := auth.judge_refresh(p_counter, g.refresh_current, g.refresh_previous, v_now - g.rotated_at, p_grace);
    counter := g.refresh_current + CASE WHEN outcome IN ('rotated', 'recovered') THEN 1 ELSE 0 END;
    IF counter > g.refresh_current THEN
        UPDATE auth.client_grants SET
            refresh_previous = p_counter, refresh_current = counter, rotated_at = v_now,
            expires_at = CASE WHEN g.offline
                THEN least(v_now + interval '30 days', g.created_at + interval '180 days') ELSE g.expires_at END
        WHERE id = p_grant;
    ELSIF outcome = 'reused' THEN
        PERFORM auth.end_stolen_grant(g, 'client_refresh_reuse', p_address, p_agent);
    END IF;
    salt := g.refresh_salt;
    user_id := g.user_id;
    session_id := g.session_id;
    scopes := g.scopes;
    nonce := g.nonce;
    authenticated_at := g.authenticated_at;
    amr := g.amr;
    issued_at := v_now;
    RETURN NEXT;
END $$;

-- A grant that lives, and who gave it.
CREATE FUNCTION auth.grant_of(p_grant uuid)
RETURNS TABLE (
    client_id text, user_id uuid, email text, email_verified boolean, name text, image text, matrix_server text
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.client_id, u.id, u.email, u.email_verified, u.name, u.image, c.matrix_server
    FROM auth.client_grants g JOIN auth.users u ON u.id = g.user_id JOIN auth.clients c ON c.id = g.client_id
    WHERE g.id = p_grant AND g.code_used_at IS NOT NULL AND auth.grant_lives(g);
$$;

-- The client gives a grant up.
CREATE FUNCTION auth.revoke_grant(p_grant uuid, p_client text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.client_grants SET revoked_at = clock_timestamp()
    WHERE id = p_grant AND client_id = p_client AND revoked_at IS NULL;
$$;

-- Drops grants that have ended, a day later, and codes that nobody has shown.
CREATE FUNCTION auth.sweep_grants(p_most integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.client_grants WHERE id IN (
        SELECT g.id FROM auth.client_grants g JOIN auth.sessions s ON s.id = g.session_id
        WHERE g.code_used_at IS NULL AND g.code_expires_at < now() - interval '1 minute'
            OR least(g.revoked_at, g.expires_at, CASE WHEN NOT g.offline THEN least(s.revoked_at, s.expires_at) END)
                < now() - interval '1 day'
        LIMIT p_most FOR UPDATE OF g SKIP LOCKED
    );
$$;

-- As before, with what relying parties were let do.
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
    DELETE FROM auth.security_events WHERE user_id = v_user;
    INSERT INTO auth.security_events (user_id, type, outcome) VALUES (v_user, 'account_deleted', 'success');
    -- Last, since it lets one at a time through until the end of the transaction.
    PERFORM auth.withdraw_tokens(v_user);
END $$;

REVOKE ALL ON FUNCTION
    auth.signed_in_browser, auth.open_grant, auth.grant_lives, auth.end_stolen_grant, auth.redeem_code, auth.grant_salt,
    auth.refresh_grant, auth.grant_of, auth.revoke_grant, auth.sweep_grants
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.signed_in_browser, auth.open_grant, auth.redeem_code, auth.grant_salt, auth.refresh_grant, auth.grant_of,
    auth.revoke_grant, auth.sweep_grants
TO tollgate_app;

RESET ROLE;

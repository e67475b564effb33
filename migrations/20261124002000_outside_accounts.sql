-- Outside accounts: who somebody is at another provider, by whose word they sign in. The provider's
-- own tokens are not kept. A link is by issuer and subject, which no provider gives to somebody else;
-- the e-mail address is there for people to read.

CREATE TABLE auth.outside_accounts (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users,
    provider text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    -- As the provider said it when it was linked, verified there or not.
    email text,
    linked_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outside_accounts_unique UNIQUE (issuer, subject)
);
CREATE INDEX outside_accounts_of_user ON auth.outside_accounts (user_id);

-- Browsers that are at a provider's page, for ten minutes. The verifier (RFC 7636) and the nonce are
-- made from the state, which only the browser and the provider know, and a key of ours.
CREATE TABLE auth.outside_sign_ins (
    -- SHA-256 of 32 random bytes, as the URL carries them.
    state_hash bytea PRIMARY KEY,
    -- SHA-256 of what the browser's cookie says.
    browser_hash bytea NOT NULL,
    provider text NOT NULL,
    -- A page of an app, where it leads in the end; asked again before that.
    redirect_to text,
    -- Who is signed in and wants to link, if it is for that.
    user_id uuid REFERENCES auth.users,
    session_id uuid REFERENCES auth.sessions,
    expires_at timestamptz NOT NULL,
    CONSTRAINT outside_sign_ins_hashed CHECK (octet_length(state_hash) = 32 AND octet_length(browser_hash) = 32),
    CONSTRAINT outside_sign_ins_links CHECK ((user_id IS NULL) = (session_id IS NULL))
);
CREATE INDEX outside_sign_ins_over ON auth.outside_sign_ins (expires_at);
CREATE INDEX outside_sign_ins_of_user ON auth.outside_sign_ins (user_id) WHERE user_id IS NOT NULL;

-- id_tokens that apps have shown, until they are over: each is good once.
CREATE TABLE auth.outside_tokens (
    -- SHA-256 of what is signed; a signature may have more than one form.
    token_hash bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX outside_tokens_over ON auth.outside_tokens (expires_at);

ALTER TABLE auth.outside_accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.outside_sign_ins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.outside_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON auth.outside_accounts TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY every ON auth.outside_accounts TO tollgate_definer USING (true);
CREATE POLICY every ON auth.outside_sign_ins TO tollgate_definer USING (true);
CREATE POLICY every ON auth.outside_tokens TO tollgate_definer USING (true);

GRANT SELECT, INSERT, UPDATE (last_used_at), DELETE ON auth.outside_accounts TO tollgate_app;
GRANT SELECT, DELETE ON auth.outside_accounts TO tollgate_definer;
-- UPDATE of a column is what locking a row takes.
GRANT SELECT, INSERT, UPDATE (expires_at), DELETE ON auth.outside_sign_ins, auth.outside_tokens TO tollgate_definer;

SET ROLE tollgate_definer;

-- Somebody goes to a provider. What is over goes too, a little each time.
CREATE FUNCTION auth.begin_outside_sign_in(
    p_state_hash bytea, p_browser_hash bytea, p_provider text, p_redirect_to text, p_user uuid, p_session uuid,
    p_lifetime interval
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.outside_sign_ins WHERE state_hash IN (
        SELECT state_hash FROM auth.outside_sign_ins WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED
    );
    INSERT INTO auth.outside_sign_ins (state_hash, browser_hash, provider, redirect_to, user_id, session_id, expires_at)
    VALUES (p_state_hash, p_browser_hash, p_provider, p_redirect_to, p_user, p_session, now() + p_lifetime);
$$;

-- Somebody comes back: once, in the browser that went, and from where it went.
CREATE FUNCTION auth.take_outside_sign_in(p_state_hash bytea, p_browser_hash bytea, p_provider text)
RETURNS TABLE (redirect_to text, user_id uuid, session_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.outside_sign_ins s
    WHERE s.state_hash = p_state_hash AND s.browser_hash = p_browser_hash AND s.provider = p_provider
      AND s.expires_at > now()
    RETURNING s.redirect_to, s.user_id, s.session_id;
$$;

-- Whose account it is that a provider speaks of: the one that is linked, or else the one that has the
-- address, where the provider has verified one.
CREATE FUNCTION auth.account_of_outside(p_issuer text, p_subject text, p_email_normalised text)
RETURNS TABLE (id uuid, is_linked boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.user_id, true FROM auth.outside_accounts o WHERE o.issuer = p_issuer AND o.subject = p_subject
    UNION ALL
    SELECT u.id, false FROM auth.users u WHERE u.email_normalised = p_email_normalised
    ORDER BY 2 DESC LIMIT 1;
$$;

-- A new account without a password, whose address a provider has verified. A taken one violates
-- `users_email_taken`.
CREATE FUNCTION auth.register_outside(
    p_user uuid, p_email text, p_email_normalised text, p_name text,
    p_email_hash bytea, p_bonus bigint, p_address inet, p_agent text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO auth.users (id, email, email_normalised, email_verified, name)
    VALUES (p_user, p_email, p_email_normalised, true, p_name);
    PERFORM credits.open_wallet(p_user, p_email_hash, p_bonus);
    INSERT INTO auth.security_events (user_id, type, outcome, address, user_agent)
    VALUES (p_user, 'registered', 'success', p_address, p_agent);
END $$;

-- Uses up an id_token that an app shows; says whether this is the first time.
CREATE FUNCTION auth.use_outside_token(p_token_hash bytea, p_expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM auth.outside_tokens WHERE token_hash IN (
        SELECT token_hash FROM auth.outside_tokens WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED
    );
    INSERT INTO auth.outside_tokens (token_hash, expires_at) VALUES (p_token_hash, p_expires_at)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

REVOKE ALL ON FUNCTION
    auth.begin_outside_sign_in, auth.take_outside_sign_in, auth.account_of_outside, auth.register_outside,
    auth.use_outside_token
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.begin_outside_sign_in, auth.take_outside_sign_in, auth.account_of_outside, auth.register_outside,
    auth.use_outside_token
TO tollgate_app;

RESET ROLE;

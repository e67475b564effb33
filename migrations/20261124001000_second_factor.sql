-- A second factor: what an authenticator app knows, and codes for the day it is lost. Who has one
-- is half signed in after the first step, by a token of which we keep a hash.

CREATE TABLE auth.totp (
    user_id uuid PRIMARY KEY REFERENCES auth.users,
    -- XChaCha20-Poly1305: 24 bytes of nonce, then the sealed secret. `user_id` is authenticated with it.
    sealed_secret bytea NOT NULL,
    -- The latest step of 30 seconds whose code was used; it only moves forward.
    last_step bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL until its owner has shown a code, and before that it asks nobody.
    confirmed_at timestamptz,
    -- Wrong codes since the last right one, and until when no more are looked at.
    failures integer NOT NULL DEFAULT 0,
    refused_until timestamptz
);

CREATE TABLE auth.recovery_codes (
    user_id uuid NOT NULL REFERENCES auth.users,
    -- SHA-256 of user and code: 80 random bits need no slow hash, and no two users share a search.
    code_hash bytea NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

-- Who has proved who they are, but for the second step.
CREATE TABLE auth.half_sign_ins (
    -- SHA-256 of a random token.
    token_hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users,
    -- How the first step was proved, and what it said of the session to come.
    amr text[] NOT NULL,
    device_id text,
    device_name text,
    remember boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX half_sign_ins_of_user ON auth.half_sign_ins (user_id);
CREATE INDEX half_sign_ins_over ON auth.half_sign_ins (expires_at);

ALTER TABLE auth.totp ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.recovery_codes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.half_sign_ins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON auth.totp TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.recovery_codes TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.half_sign_ins TO tollgate_app USING (user_id = auth.acting_user());

CREATE POLICY every ON auth.totp TO tollgate_definer USING (true);
CREATE POLICY every ON auth.recovery_codes TO tollgate_definer USING (true);
CREATE POLICY every ON auth.half_sign_ins TO tollgate_definer USING (true);

GRANT SELECT, INSERT, DELETE ON auth.totp, auth.recovery_codes, auth.half_sign_ins TO tollgate_app;
GRANT UPDATE (sealed_secret, last_step, created_at, confirmed_at, failures, refused_until) ON auth.totp TO tollgate_app;
-- A half sign-in is worth nothing once the password is another.
GRANT SELECT (changed_at) ON auth.passwords TO tollgate_app;
GRANT SELECT, DELETE ON auth.half_sign_ins TO tollgate_definer;
GRANT DELETE ON auth.security_events TO tollgate_definer;

-- What people call themselves, and their picture: an https URL.
ALTER TABLE auth.users ADD COLUMN image text;
GRANT UPDATE (name, image) ON auth.users TO tollgate_app;

SET ROLE tollgate_definer;

-- Whose half sign-in it is, while they may go on with it.
CREATE FUNCTION auth.half_signed_in(p_token_hash bytea) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id FROM auth.half_sign_ins h JOIN auth.users u ON u.id = h.user_id
    WHERE h.token_hash = p_token_hash AND h.expires_at > now() AND u.status = 'active';
$$;

-- Forgets half sign-ins that are over and events of more than 400 days, of each at most so many;
-- says whether there may be more. Replicas leave it to the one that came first.
CREATE FUNCTION auth.sweep_security(p_rows integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_halves integer;
    v_events integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('tollgate security sweep')) THEN
        RETURN false;
    END IF;
    DELETE FROM auth.half_sign_ins WHERE token_hash IN (
        SELECT token_hash FROM auth.half_sign_ins WHERE expires_at <= now() ORDER BY expires_at LIMIT p_rows
    );
    GET DIAGNOSTICS v_halves = ROW_COUNT;
    -- Ids grow with time, so the oldest are found without an index of their own.
    DELETE FROM auth.security_events WHERE id IN (
        SELECT id FROM (SELECT id, at FROM auth.security_events ORDER BY id LIMIT p_rows) AS oldest
        WHERE at < now() - interval '400 days'
    );
    GET DIAGNOSTICS v_events = ROW_COUNT;
    RETURN greatest(v_halves, v_events) = p_rows;
END $$;

REVOKE ALL ON FUNCTION auth.half_signed_in(bytea), auth.sweep_security(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.half_signed_in(bytea), auth.sweep_security(integer) TO tollgate_app;

RESET ROLE;

-- People, the devices they are signed in on, what happened to their account, and
-- the keys that sign tokens. Nothing secret is stored as it is: passwords are
-- argon2id, refresh tokens are not stored at all, cookies are hashes, and private
-- keys are sealed under a key that the database never sees.

CREATE TABLE auth.users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    -- Lower-cased: what look-ups and uniqueness go by; `email` is as it was typed.
    email_normalised text NOT NULL,
    email_verified boolean NOT NULL DEFAULT false,
    name text,
    role text NOT NULL DEFAULT 'user',
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_taken UNIQUE (email_normalised),
    CONSTRAINT users_role_known CHECK (role IN ('user', 'admin', 'service')),
    CONSTRAINT users_status_known CHECK (status IN ('active', 'banned', 'deleted'))
);

-- Apart from `users`, so that reading a profile never touches a hash.
CREATE TABLE auth.passwords (
    user_id uuid PRIMARY KEY REFERENCES auth.users,
    -- A PHC string: the parameters travel with the hash.
    phc text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE auth.sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users,
    client_id text NOT NULL,
    -- Goes into the MAC of this session's refresh tokens, so that no key alone makes one.
    refresh_salt bytea NOT NULL,
    -- The latest counter issued, the one it was issued for, and when. Before the
    -- first refresh nothing has rotated.
    refresh_current integer NOT NULL DEFAULT 0,
    refresh_previous integer,
    rotated_at timestamptz,
    -- SHA-256 of the cookie's random secret.
    cookie_hash bytea,
    device_id text,
    device_name text,
    user_agent text,
    address inet,
    remember boolean NOT NULL,
    amr text[] NOT NULL,
    -- When the person last proved who they are, which a refresh does not.
    authenticated_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    -- Slides with every rotation, never past `ends_at`.
    expires_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT sessions_cookie_unique UNIQUE (cookie_hash),
    CONSTRAINT sessions_salt_length CHECK (octet_length(refresh_salt) = 16),
    CONSTRAINT sessions_counters_ordered CHECK (refresh_previous < refresh_current),
    CONSTRAINT sessions_rotation_whole CHECK ((refresh_previous IS NULL) = (rotated_at IS NULL)),
    CONSTRAINT sessions_end CHECK (expires_at <= ends_at)
);
-- Neither column changes on refresh, which therefore updates no index.
CREATE INDEX sessions_of_user ON auth.sessions (user_id) WHERE revoked_at IS NULL;

CREATE TABLE auth.security_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: somebody tried an address that has no account.
    user_id uuid REFERENCES auth.users,
    session_id uuid,
    type text NOT NULL,
    outcome text NOT NULL,
    address inet,
    user_agent text,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT security_events_outcome_known CHECK (outcome IN ('success', 'failure'))
);
CREATE INDEX security_events_of_user ON auth.security_events (user_id, id);

-- Outlives the account: a bonus is given once for an address, whoever comes back.
CREATE TABLE auth.signup_bonuses (
    email_hash bytea PRIMARY KEY,
    granted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE auth.signing_keys (
    kid text PRIMARY KEY,
    -- XChaCha20-Poly1305: 24 bytes of nonce, then the sealed seed. `kid` is authenticated with it.
    sealed_seed bytea NOT NULL,
    state text NOT NULL,
    published_at timestamptz NOT NULL,
    -- When it signs, or signed, its first token.
    activate_at timestamptz NOT NULL,
    -- When the last token it signed has expired; known once it has stopped signing.
    remove_at timestamptz,
    CONSTRAINT signing_keys_state_known CHECK (state IN ('next', 'active', 'retiring')),
    CONSTRAINT signing_keys_removal CHECK ((state = 'retiring') = (remove_at IS NOT NULL))
);
-- One key signs, and one waits: replicas that rotate at once collide here.
CREATE UNIQUE INDEX signing_keys_one_a_state ON auth.signing_keys (state) WHERE state <> 'retiring';

ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.passwords ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.security_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.signup_bonuses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON auth.users TO tollgate_app USING (id = auth.acting_user());
CREATE POLICY own ON auth.passwords TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.sessions TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.security_events TO tollgate_app USING (user_id = auth.acting_user());

CREATE POLICY every ON auth.users TO tollgate_definer USING (true);
CREATE POLICY every ON auth.passwords TO tollgate_definer USING (true);
CREATE POLICY every ON auth.sessions TO tollgate_definer USING (true);
CREATE POLICY every ON auth.security_events TO tollgate_definer USING (true);
CREATE POLICY every ON auth.signup_bonuses TO tollgate_definer USING (true);

GRANT SELECT ON auth.users, auth.sessions, auth.security_events TO tollgate_app;
-- `user_id` is what the policy compares. The hash itself stays unreadable.
GRANT SELECT (user_id), UPDATE (phc, changed_at) ON auth.passwords TO tollgate_app;
GRANT INSERT, UPDATE (revoked_at) ON auth.sessions TO tollgate_app;
GRANT INSERT ON auth.security_events TO tollgate_app;
-- No person's data, and useless without the sealing key: a row that somebody else
-- wrote does not open, so it neither signs nor verifies.
GRANT SELECT, INSERT, UPDATE (state, activate_at, remove_at), DELETE ON auth.signing_keys TO tollgate_app;

GRANT SELECT, INSERT ON auth.users, auth.passwords, auth.security_events, auth.signup_bonuses TO tollgate_definer;
GRANT SELECT, UPDATE ON auth.sessions TO tollgate_definer;

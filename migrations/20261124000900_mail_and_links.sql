-- Mail, and the one-time links in it. A queue says which mail is to go to whom; it is filled by the
-- transaction that has something to tell. No mail waits here with a link in it: a link is made when
-- its mail is about to leave, and the database keeps a hash of it.

-- One link of a purpose for an account: a new one takes the place of the one before.
CREATE TABLE auth.links (
    user_id uuid NOT NULL REFERENCES auth.users,
    purpose text NOT NULL,
    -- SHA-256 of 32 random bytes, as the link carries them.
    secret_hash bytea NOT NULL,
    -- A page of an app, where whoever has followed the link is led; asked again before that.
    redirect_to text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, purpose),
    CONSTRAINT links_secret_unique UNIQUE (secret_hash),
    CONSTRAINT links_secret_hashed CHECK (octet_length(secret_hash) = 32),
    CONSTRAINT links_purpose_known CHECK (purpose IN ('verify', 'reset', 'magic'))
);

-- What is to be sent. A row goes when its mail has left, or when that has become pointless.
CREATE TABLE auth.outbox (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    -- To whom, or to which address somebody asked for it, who may not have an account.
    user_id uuid REFERENCES auth.users,
    email_normalised text,
    redirect_to text,
    -- The sign-in that it tells of.
    session_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    -- When it may be tried (again). Whoever tries it moves this on first, which is his lease too.
    due_at timestamptz NOT NULL DEFAULT now(),
    -- When it would help nobody any more.
    expires_at timestamptz NOT NULL,
    CONSTRAINT outbox_kind_known CHECK (kind IN ('verify', 'reset', 'magic', 'password_changed', 'new_device')),
    CONSTRAINT outbox_has_an_addressee CHECK ((user_id IS NULL) <> (email_normalised IS NULL))
);
CREATE INDEX outbox_due ON auth.outbox (due_at);

-- Browsers that people have signed in with, by a hash of their long-lived cookie.
CREATE TABLE auth.devices (
    user_id uuid NOT NULL REFERENCES auth.users,
    device_hash bytea NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device_hash),
    CONSTRAINT devices_hashed CHECK (octet_length(device_hash) = 32)
);

ALTER TABLE auth.links ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.devices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON auth.links TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.outbox TO tollgate_app USING (user_id = auth.acting_user());
CREATE POLICY own ON auth.devices TO tollgate_app USING (user_id = auth.acting_user());

CREATE POLICY every ON auth.links TO tollgate_definer USING (true);
CREATE POLICY every ON auth.outbox TO tollgate_definer USING (true);
CREATE POLICY every ON auth.devices TO tollgate_definer USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.links TO tollgate_app;
GRANT INSERT ON auth.outbox TO tollgate_app;
GRANT SELECT, INSERT, UPDATE (last_seen_at), DELETE ON auth.devices TO tollgate_app;
-- Who has shown that an address is theirs sets a password, or takes a stranger's away.
GRANT INSERT, DELETE, SELECT (changed_at) ON auth.passwords TO tollgate_app;

GRANT SELECT ON auth.links TO tollgate_definer;
GRANT SELECT, INSERT, UPDATE (attempts, due_at), DELETE ON auth.outbox TO tollgate_definer;
GRANT UPDATE (email_verified) ON auth.users TO tollgate_definer;

SET ROLE tollgate_definer;

-- The bonus of a usable account, once for an address, however often that address signs up.
-- `p_bonus` is NULL where there is none to give (yet).
CREATE FUNCTION credits.give_signup_bonus(p_user uuid, p_email_hash bytea, p_bonus bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    b credits.balances;
BEGIN
    IF p_bonus > 0 THEN
        SELECT * INTO STRICT b FROM credits.balances WHERE user_id = p_user FOR UPDATE;
        INSERT INTO auth.signup_bonuses (email_hash) VALUES (p_email_hash) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM credits.save(credits.add_grant(b, gen_random_uuid(), 'signup', 'free', p_bonus, NULL, now()));
        END IF;
    END IF;
END $$;

-- Opens a new user's wallet, with the bonus if the account can be used at once.
CREATE OR REPLACE FUNCTION credits.open_wallet(p_user uuid, p_email_hash bytea, p_bonus bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO credits.balances (user_id) VALUES (p_user);
    PERFORM credits.give_signup_bonus(p_user, p_email_hash, p_bonus);
END $$;

-- The address of this account is its owner's. The first time, the account becomes usable; says
-- whether this is it.
CREATE FUNCTION auth.confirm_email(p_user uuid, p_email_hash bytea, p_bonus bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE auth.users SET email_verified = true WHERE id = p_user AND NOT email_verified;
    IF FOUND THEN
        PERFORM credits.give_signup_bonus(p_user, p_email_hash, p_bonus);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- What a sign-in by password compares with, and since when it is that: whoever compared asks again
-- before they let somebody in.
DROP FUNCTION auth.account_by_email(text);
CREATE FUNCTION auth.account_by_email(p_email_normalised text)
RETURNS TABLE (
    id uuid, email text, name text, role text, status text, email_verified boolean, phc text,
    changed_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id, u.email, u.name, u.role, u.status, u.email_verified, p.phc, p.changed_at
    FROM auth.users u JOIN auth.passwords p ON p.user_id = u.id
    WHERE u.email_normalised = p_email_normalised;
$$;

-- Whose link this is, while it is good, and what his password is compared with. Changes nothing.
CREATE FUNCTION auth.link_holder(p_purpose text, p_secret_hash bytea)
RETURNS TABLE (id uuid, email text, name text, role text, email_verified boolean, phc text, redirect_to text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.id, u.email, u.name, u.role, u.email_verified, p.phc, l.redirect_to
    FROM auth.links l JOIN auth.users u ON u.id = l.user_id LEFT JOIN auth.passwords p ON p.user_id = l.user_id
    WHERE l.secret_hash = p_secret_hash AND l.purpose = p_purpose
      AND l.used_at IS NULL AND l.expires_at > now() AND u.status = 'active';
$$;

-- Somebody asks for mail to an address. Whether it has an account is seen to when the mail is due:
-- here, known and unknown are the same one write.
CREATE FUNCTION auth.ask_for_mail(
    p_id uuid, p_kind text, p_email_normalised text, p_redirect_to text, p_lifetime interval
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO auth.outbox (id, kind, email_normalised, redirect_to, expires_at)
    VALUES (p_id, p_kind, p_email_normalised, p_redirect_to, now() + p_lifetime);
$$;

-- Takes the mail that has been due longest, and puts its next attempt off: by a minute, which is
-- the lease of this one, then by twice as much each time. `user_id` is NULL where there is nobody
-- (any more) to write to. `is_over` comes once, when it would help nobody any more.
CREATE FUNCTION auth.claim_mail()
RETURNS TABLE (
    id uuid, kind text, attempts integer, is_over boolean, redirect_to text, created_at timestamptz,
    user_id uuid, email text, name text, email_verified boolean,
    signed_in_at timestamptz, address text, user_agent text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m auth.outbox;
BEGIN
    SELECT * INTO m FROM auth.outbox o WHERE o.due_at <= now() ORDER BY o.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE auth.outbox o SET
        attempts = m.attempts + 1,
        due_at = now() + greatest(
            interval '1 minute', least(interval '1 minute' * 2 ^ least(m.attempts, 20), m.expires_at - now())
        )
    WHERE o.id = m.id;
    RETURN QUERY
        SELECT m.id, m.kind, m.attempts + 1, m.expires_at <= now(), m.redirect_to, m.created_at,
               u.id, u.email, u.name, u.email_verified,
               s.created_at, host(s.address), s.user_agent
        FROM (SELECT coalesce(
                  m.user_id, (SELECT v.id FROM auth.users v WHERE v.email_normalised = m.email_normalised)
              ) AS addressee) AS a
        LEFT JOIN auth.users u ON u.id = a.addressee AND u.status = 'active'
        LEFT JOIN auth.sessions s ON s.id = m.session_id;
END $$;

-- The mail has left, or never will.
CREATE FUNCTION auth.forget_mail(p_id uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM auth.outbox WHERE id = p_id;
$$;

-- How many mails wait, and for how long the oldest.
CREATE FUNCTION auth.mail_waiting() RETURNS TABLE (waiting bigint, oldest_secs double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM auth.outbox;
$$;

REVOKE ALL ON FUNCTION
    credits.give_signup_bonus, auth.account_by_email, auth.confirm_email, auth.link_holder, auth.ask_for_mail, auth.claim_mail,
    auth.forget_mail, auth.mail_waiting
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    auth.account_by_email, auth.confirm_email, auth.link_holder, auth.ask_for_mail, auth.claim_mail, auth.forget_mail, auth.mail_waiting
TO tollgate_app;

RESET ROLE;

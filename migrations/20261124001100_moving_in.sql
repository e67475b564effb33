-- People who come from another service, with the hash of their password as it was there.

SET ROLE tollgate_definer;

-- For the operator alone: the runtime role may not call it. Answers whether they are new here.
-- Their address counts as one that had its bonus.
CREATE FUNCTION auth.import_user(
    p_user uuid, p_email text, p_email_normalised text, p_email_verified boolean, p_name text, p_hash text,
    p_created_at timestamptz, p_email_hash bytea
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO auth.users (id, email, email_normalised, email_verified, name, created_at)
    VALUES (p_user, p_email, p_email_normalised, p_email_verified, p_name, p_created_at)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO auth.passwords (user_id, phc) VALUES (p_user, p_hash);
    PERFORM credits.open_wallet(p_user, p_email_hash, 0);
    INSERT INTO auth.signup_bonuses (email_hash) VALUES (p_email_hash) ON CONFLICT DO NOTHING;
    INSERT INTO auth.security_events (user_id, type, outcome) VALUES (p_user, 'imported', 'success');
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION auth.import_user FROM PUBLIC;

RESET ROLE;

-- Leaving: what is personal goes, the ledger stays without a name. The words of a transaction
-- are the one part of it that may be changed, to nothing; everything else of it stays append-only.

DROP TRIGGER append_only ON credits.transactions;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    user_id, version, id, type, amount, free_after, paid_after, app_id, idempotency_key, fingerprint, created_at,
    of_version, free, paid, held, debt, issuance, revenue, expired, lot, lot_amount
    ON credits.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();

GRANT UPDATE (description, metadata) ON credits.transactions TO tollgate_definer;
GRANT UPDATE (email, email_normalised, email_verified, name, image, status) ON auth.users TO tollgate_definer;
GRANT DELETE ON
    auth.passwords, auth.security_events, auth.links, auth.outbox, auth.devices, auth.totp,
    auth.recovery_codes, auth.half_sign_ins
TO tollgate_definer;
GRANT SELECT ON auth.links, auth.outbox, auth.devices, auth.totp, auth.recovery_codes, auth.half_sign_ins TO tollgate_definer;

SET ROLE tollgate_definer;

-- Deletes the acting user's account: the row stays, so that the ledger's has an owner, and names
-- nobody. The address is free for somebody else; its bonus is remembered by a keyed hash.
CREATE FUNCTION auth.delete_account() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user uuid := auth.acting_user();
BEGIN
    DELETE FROM auth.outbox o USING auth.users u
    WHERE u.id = v_user AND (o.user_id = u.id OR o.email_normalised = u.email_normalised);
    UPDATE auth.users SET
        email = '', email_normalised = 'deleted ' || id, email_verified = false, name = NULL, image = NULL,
        status = 'deleted'
    WHERE id = v_user;
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
    DELETE FROM auth.security_events WHERE user_id = v_user;
    INSERT INTO auth.security_events (user_id, type, outcome) VALUES (v_user, 'account_deleted', 'success');
    UPDATE credits.transactions SET description = NULL, metadata = NULL
    WHERE user_id = v_user AND (description IS NOT NULL OR metadata IS NOT NULL);
    -- Last, since it lets one at a time through until the end of the transaction.
    PERFORM auth.withdraw_tokens(v_user);
END $$;

REVOKE ALL ON FUNCTION auth.delete_account() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.delete_account() TO tollgate_app;

RESET ROLE;

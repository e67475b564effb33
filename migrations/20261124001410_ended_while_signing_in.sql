-- A sign-in may end sessions: those of a stranger who had registered the address, or the one that
-- has not been used for longest where there are too many. They go out in the feed at its end, by
-- their ids: a row about all of the user's tokens would end those that it is about to hand out.

SET ROLE tollgate_definer;

-- Appends the acting user's sessions that this transaction has ended. It is its last statement.
-- Takes no lock where there are none: sign-ins do not wait for one another.
CREATE FUNCTION auth.withdraw_ended() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_ended uuid[];
BEGIN
    SELECT array_agg(s.id ORDER BY s.id) INTO v_ended
    FROM auth.sessions s WHERE s.user_id = auth.acting_user() AND s.revoked_at = now();
    IF v_ended IS NOT NULL THEN
        INSERT INTO auth.revocations (user_id, session_id) SELECT auth.acting_user(), unnest(v_ended);
    END IF;
END $$;

REVOKE ALL ON FUNCTION auth.withdraw_ended() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.withdraw_ended() TO tollgate_app;

RESET ROLE;

-- It looks for sessions of the user's that have ended, too.
CREATE INDEX sessions_ended ON auth.sessions (user_id, revoked_at) WHERE revoked_at IS NOT NULL;

-- Least privilege from the first day. The origin works as `tollgate_app`, which
-- owns nothing and sees one user's rows at a time (row-level security reads
-- `tollgate.user`). What has no single user is a short list of SECURITY DEFINER
-- functions, owned by `tollgate_definer`, as whom nobody signs in.

-- Roles belong to the whole cluster: another database may be creating them now.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['tollgate_app', 'tollgate_definer'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
            END IF;
            -- A superuser may be anyone already; any other owner needs to be let in.
            IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT %I TO current_user', v_role);
            END IF;
        EXCEPTION
            -- `internal_error` is "tuple concurrently updated": the other one did it.
            WHEN duplicate_object OR unique_violation OR internal_error THEN NULL;
        END;
    END LOOP;
END $$;

CREATE SCHEMA auth;
CREATE SCHEMA credits;

GRANT USAGE ON SCHEMA auth, credits TO tollgate_app;
-- CREATE lets later migrations make functions that are the definer's from birth.
GRANT USAGE, CREATE ON SCHEMA auth, credits TO tollgate_definer;

-- The user on whose behalf the transaction runs; NULL, which matches no row, when unset.
CREATE FUNCTION auth.acting_user() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('tollgate.user', true), '')::uuid;

REVOKE ALL ON FUNCTION auth.acting_user() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.acting_user() TO tollgate_app, tollgate_definer;

-- The readiness probe compares the schema with its build.
GRANT SELECT ON _sqlx_migrations TO tollgate_app;

#!/bin/sh
# Runs once, when the database is made. `tollgate_owner` makes the schema and looks after it, and is no
# superuser; PgBouncer connects as `tollgate_pool`, which may do what the origin's requests may, and no more.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set owner="$OWNER_PASSWORD" --set pooler="$POOLER_PASSWORD" --set database="$POSTGRES_DB" <<'SQL'
CREATE ROLE tollgate_app;
CREATE ROLE tollgate_definer;
CREATE ROLE tollgate_owner LOGIN BYPASSRLS PASSWORD :'owner';
GRANT tollgate_app, tollgate_definer TO tollgate_owner WITH ADMIN OPTION;
ALTER DATABASE :"database" OWNER TO tollgate_owner;
CREATE ROLE tollgate_pool LOGIN PASSWORD :'pooler' IN ROLE tollgate_app;
ALTER ROLE tollgate_pool SET statement_timeout = '8s';
ALTER ROLE tollgate_pool SET idle_in_transaction_session_timeout = '20s';
SQL

#!/bin/sh
# Runs once, when the database is made: the role that PgBouncer connects as may do what the origin's
# requests may, and nothing else.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$POOLER_PASSWORD" <<'SQL'
CREATE ROLE tollgate_app;
CREATE ROLE tollgate_pool LOGIN PASSWORD :'password' IN ROLE tollgate_app;
ALTER ROLE tollgate_pool SET statement_timeout = '8s';
SQL

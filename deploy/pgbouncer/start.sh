# Writes the settings, with the password that nobody else is to read, and runs.
set -eu
umask 077
cat > /tmp/users.txt <<USERS
"tollgate_pool" "$POOLER_PASSWORD"
USERS
cat > /tmp/pgbouncer.ini <<SETTINGS
[databases]
tollgate = host=postgres port=5432 dbname=tollgate
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = 6432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /tmp/users.txt
pool_mode = transaction
; As many as DATABASE_POOL has at both origins.
default_pool_size = 32
; Seconds until it tries again to reach a Postgres that was away; 15 where nobody says.
server_login_retry = 1
; Where it knows prepared statements it would keep ours; the origin prepares anew each time.
max_prepared_statements = 0
max_client_conn = 500
; What a transaction leaves behind is not there for the next one.
server_reset_query = DISCARD ALL
server_reset_query_always = 1
SETTINGS
exec pgbouncer /tmp/pgbouncer.ini

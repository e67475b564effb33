//! The SQL of the export: a query a section, under row-level security.

use sqlx::PgConnection;

/// How many rows are read at once: each may have 8 KiB of somebody's own words.
pub const PAGE: u16 = 100;

/// A part of the document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    Account,
    Sessions,
    Devices,
    LinkedAccounts,
    AppsAllowed,
    AppsSignedInTo,
    MatrixIds,
    SecurityEvents,
    Balance,
    Transactions,
    Lots,
    Holds,
    Purchases,
}

impl Section {
    /// In their order.
    pub const ALL: [Self; 13] = [
        Self::Account,
        Self::Sessions,
        Self::Devices,
        Self::LinkedAccounts,
        Self::AppsAllowed,
        Self::AppsSignedInTo,
        Self::MatrixIds,
        Self::SecurityEvents,
        Self::Balance,
        Self::Transactions,
        Self::Lots,
        Self::Holds,
        Self::Purchases,
    ];

    /// As the document names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Sessions => "sessions",
            Self::Devices => "devices",
            Self::LinkedAccounts => "linkedAccounts",
            Self::AppsAllowed => "appsAllowed",
            Self::AppsSignedInTo => "appsSignedInTo",
            Self::MatrixIds => "matrixIds",
            Self::SecurityEvents => "securityEvents",
            Self::Balance => "balance",
            Self::Transactions => "transactions",
            Self::Lots => "lots",
            Self::Holds => "holds",
            Self::Purchases => "purchases",
        }
    }
}

/// A row as JSON, and its place in the section.
pub struct Row {
    pub at: i64,
    pub json: String,
}

/// The acting user's rows of a section behind a place; amounts are in credits.
#[expect(clippy::too_many_lines, reason = "a query a section, and no rule")]
pub async fn page(
    db: &mut PgConnection,
    section: Section,
    after: Option<i64>,
) -> sqlx::Result<Vec<Row>> {
    let (after, limit) = (after.unwrap_or(i64::MIN), i64::from(PAGE));
    match section {
        Section::Account => {
            sqlx::query_as!(
                Row,
                r#"SELECT 1::bigint AS "at!", json_build_object(
                       'id', id, 'email', email, 'emailVerified', email_verified, 'name', name, 'image', image, 'role', role,
                       'createdAt', created_at, 'secondFactorSince', (SELECT confirmed_at FROM auth.totp))::text AS "json!"
                   FROM auth.users WHERE 1::bigint > $1 LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Sessions => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY created_at, id) AS at, json_build_object(
                           'id', id, 'parentId', parent_id, 'clientId', client_id, 'deviceId', device_id, 'deviceName', device_name,
                           'userAgent', user_agent, 'ipAddress', host(address), 'amr', amr, 'createdAt', created_at,
                           'lastUsedAt', last_used_at, 'expiresAt', expires_at, 'revokedAt', revoked_at)::text AS json
                       FROM auth.sessions
                   ) s WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Devices => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY first_seen_at, device_hash) AS at, json_build_object(
                           'firstSeenAt', first_seen_at, 'lastSeenAt', last_seen_at)::text AS json
                       FROM auth.devices
                   ) d WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::LinkedAccounts => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY linked_at, id) AS at, json_build_object(
                           'id', id, 'provider', provider, 'issuer', issuer, 'subject', subject, 'email', email,
                           'linkedAt', linked_at, 'lastUsedAt', last_used_at)::text AS json
                       FROM auth.outside_accounts
                   ) o WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::AppsAllowed => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY given_at, client_id) AS at, json_build_object(
                           'clientId', client_id, 'scopes', scopes, 'givenAt', given_at)::text AS json
                       FROM auth.consents
                   ) c WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::AppsSignedInTo => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY created_at, id) AS at, json_build_object(
                           'id', id, 'clientId', client_id, 'sessionId', session_id, 'scopes', scopes, 'offline', offline,
                           'createdAt', created_at, 'expiresAt', expires_at, 'revokedAt', revoked_at)::text AS json
                       FROM auth.client_grants
                   ) g WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::MatrixIds => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY linked_at, mxid) AS at, json_build_object(
                           'matrixUserId', mxid, 'clientId', client_id, 'linkedAt', linked_at,
                           'lastUsedAt', last_used_at)::text AS json
                       FROM auth.matrix_links
                   ) m WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::SecurityEvents => {
            sqlx::query_as!(
                Row,
                r#"SELECT id AS "at!", json_build_object(
                       'id', id, 'type', type, 'outcome', outcome,
                       'ipAddress', CASE WHEN admin_id IS NULL THEN host(address) END,
                       'userAgent', CASE WHEN admin_id IS NULL THEN user_agent END, 'at', at)::text AS "json!"
                   FROM auth.security_events WHERE id > $1 ORDER BY id LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Balance => {
            sqlx::query_as!(
                Row,
                r#"SELECT 1::bigint AS "at!", json_build_object(
                       'free', trim_scale(free / 1000.0), 'paid', trim_scale(paid / 1000.0), 'held', trim_scale(held / 1000.0), 'debt', trim_scale(debt / 1000.0),
                       'totalEarned', trim_scale(total_earned / 1000.0), 'totalSpent', trim_scale(total_spent / 1000.0))::text AS "json!"
                   FROM credits.balances WHERE 1::bigint > $1 LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Transactions => {
            sqlx::query_as!(
                Row,
                r#"SELECT version AS "at!", json_build_object(
                       'id', id, 'type', type, 'amount', trim_scale(amount / 1000.0), 'freeAfter', trim_scale(free_after / 1000.0),
                       'paidAfter', trim_scale(paid_after / 1000.0), 'appId', app_id, 'description', description,
                       'metadata', metadata, 'idempotencyKey', idempotency_key, 'createdAt', created_at)::text AS "json!"
                   FROM credits.transactions WHERE version > $1 ORDER BY version LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Lots => {
            sqlx::query_as!(
                Row,
                r#"SELECT version AS "at!", json_build_object(
                       'source', source, 'kind', kind, 'amount', trim_scale(amount / 1000.0), 'remaining', trim_scale(remaining / 1000.0),
                       'expiresAt', expires_at)::text AS "json!"
                   FROM credits.lots WHERE version > $1 ORDER BY version LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Holds => {
            sqlx::query_as!(
                Row,
                r#"SELECT version AS "at!", json_build_object(
                       'id', id, 'openedBy', opened_by, 'amount', trim_scale(amount / 1000.0), 'state', state,
                       'captured', trim_scale(captured / 1000.0), 'expiresAt', expires_at)::text AS "json!"
                   FROM credits.holds WHERE version > $1 ORDER BY version LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
        Section::Purchases => {
            sqlx::query_as!(
                Row,
                r#"SELECT at AS "at!", json AS "json!" FROM (
                       SELECT row_number() OVER (ORDER BY created_at, id) AS at, json_build_object(
                           'id', id, 'packageId', package_id, 'credits', trim_scale(credits / 1000.0), 'priceCents', price_cents,
                           'currency', currency, 'state', state, 'createdAt', created_at, 'paidAt', paid_at)::text AS json
                       FROM credits.purchases
                   ) p WHERE at > $1 ORDER BY at LIMIT $2"#,
                after,
                limit
            )
            .fetch_all(db)
            .await
        }
    }
}

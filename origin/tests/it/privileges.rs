//! Least privilege: what the runtime role may, found in the catalogue so that no new table
//! can be forgotten.

use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    second_factor::{enrol, first_step},
    support::{Origin, count},
};

/// Tables that hold nobody's data, and say why there.
const IMPERSONAL: &[&str] = &[
    "auth.apps",
    "auth.clients",
    "auth.signing_keys",
    "credits.app_grants",
    "credits.packages",
];

async fn personal_tables(db: &PgPool) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('auth', 'credits') ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .expect("tables");
    tables
        .into_iter()
        .filter(|table| !IMPERSONAL.contains(&table.as_str()))
        .collect()
}

async fn as_runtime(db: &PgPool) -> PgConnection {
    let options = (*db.connect_options())
        .clone()
        .options([("role", "tollgate_app")]);
    PgConnection::connect_with(&options)
        .await
        .expect("the runtime role")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_runtime_role_sees_its_users_rows_and_none_without_a_user(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let eve = origin.join("eve@example.org").await;
    for person in [&ada, &eve] {
        origin.spend(person, 1.0, None).await;
        enrol(&origin, person).await;
    }
    for email in ["ada@example.org", "eve@example.org"] {
        first_step(&origin, email).await;
    }
    let mut runtime = as_runtime(&db).await;
    let mut seen = 0;
    for table in personal_tables(&db).await {
        let query = format!("SELECT count(*) FROM {table}");
        let mut look = async |user: &str| {
            sqlx::query("SELECT set_config('tollgate.user', $1, false)")
                .bind(user)
                .execute(&mut runtime)
                .await
                .expect("set");
            sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(query.clone()))
                .fetch_one(&mut runtime)
                .await
        };
        let (nobody, of_ada) = (look("").await, look(&ada.id).await);
        match (nobody, of_ada) {
            // Not readable at all.
            (Err(_), Err(_)) => {}
            (Ok(nobody), Ok(of_ada)) => {
                let all: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                    .fetch_one(&db)
                    .await
                    .expect("a count");
                assert_eq!((nobody, of_ada * 2), (0, all), "{table}");
                seen += 1;
            }
            other => panic!("{table}: {other:?}"),
        }
    }
    assert!(seen >= 12, "only {seen} tables were looked at");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_runtime_role_writes_no_money(db: PgPool) {
    let ada = Origin::start(&db).await.register("ada@example.org").await;
    let mut runtime = as_runtime(&db).await;
    sqlx::query("SELECT set_config('tollgate.user', $1, false)")
        .bind(&ada)
        .execute(&mut runtime)
        .await
        .expect("set");
    for table in personal_tables(&db)
        .await
        .iter()
        .filter(|table| table.starts_with("credits."))
    {
        for statement in [
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
            format!("INSERT INTO {table} DEFAULT VALUES"),
        ] {
            let error = sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
                .execute(&mut runtime)
                .await
                .expect_err(&statement);
            assert_eq!(
                error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code)
                    .as_deref(),
                Some("42501"),
                "{statement}"
            );
        }
    }
    let writable = "SELECT count(*) FROM information_schema.column_privileges
                    WHERE grantee = 'tollgate_app' AND table_schema = 'credits' AND privilege_type <> 'SELECT'";
    assert_eq!(count(&db, writable).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn every_personal_table_is_under_forced_row_security(db: PgPool) {
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('auth', 'credits') AND c.relkind = 'r'
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity) ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .expect("tables");
    assert_eq!(open, IMPERSONAL);
}

/// Row security is not asked inside of these: they ask by themselves.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_acts_for_a_user_acts_for_nobody_else(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.register("ada@example.org").await;
    let eve = origin.register("eve@example.org").await;
    let nobody = "0197a7c2-0000-7000-8000-000000000000";
    let mut runtime = as_runtime(&db).await;
    for (call, user) in [
        ("auth.withdraw_tokens($1::uuid)", &*eve),
        ("auth.confirm_email($1::uuid, 'hash', 1)", &*eve),
        (
            "auth.register($1::uuid, 'a@b.c', 'a@b.c', NULL, 'phc', 'hash', 1, NULL, NULL)",
            nobody,
        ),
        (
            "auth.register_outside($1::uuid, 'a@b.c', 'a@b.c', NULL, 'hash', 1, NULL, NULL)",
            nobody,
        ),
    ] {
        for acting in [&*ada, ""] {
            sqlx::query("SELECT set_config('tollgate.user', $1, false)")
                .bind(acting)
                .execute(&mut runtime)
                .await
                .expect("set");
            let error = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {call}")))
                .bind(user)
                .execute(&mut runtime)
                .await
                .expect_err(call);
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{call}: {error}");
        }
    }
}

/// What an admin does, the database lets nobody else do, whatever a handler believes.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_admins_do_nobody_else_does(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.register("ada@example.org").await;
    let eve = origin.register("eve@example.org").await;
    let mut runtime = as_runtime(&db).await;
    for call in [
        "auth.acting_admin()",
        "auth.look_as_admin($1::uuid)",
        "auth.admin_changes_ban($1::uuid, true, NULL, NULL)",
        "auth.admin_changes_role($1::uuid, 'admin', NULL, NULL)",
        "auth.admin_counts_mail()",
        "auth.admin_ends_sessions($1::uuid, NULL, NULL, NULL)",
        "auth.admin_finds_people('', NULL, '', 9)",
        "auth.admin_moved_credits($1::uuid, 'credits_granted', NULL, NULL)",
        "auth.admin_sees_mail(9)",
        "credits.grant(gen_random_uuid(), $1::uuid, NULL, 1, 'free', NULL, 'r', 'r', 'f', 1000)",
        "credits.refund(gen_random_uuid(), $1::uuid, NULL, $1::uuid, 1, 'r', 'r', 'f')",
        // These are the owner's alone.
        "auth.change_ban(NULL, $1::uuid, true, NULL, NULL)",
        "auth.change_role(NULL, $1::uuid, 'admin', NULL, NULL)",
        "auth.end_sessions(NULL, $1::uuid, NULL, NULL, NULL)",
        "auth.people('', NULL, '', 9)",
        "auth.take_charge(NULL, $1::uuid)",
        "auth.write_down_for(NULL, $1::uuid, NULL, 'x', NULL, NULL)",
        "auth.end_everything($1::uuid)",
    ] {
        for acting in [&*eve, ""] {
            sqlx::query("SELECT set_config('tollgate.user', $1, false)")
                .bind(acting)
                .execute(&mut runtime)
                .await
                .expect("set");
            let call = format!("SELECT {call} FROM (SELECT $1::uuid AS subject) AS one");
            let error = sqlx::query(sqlx::AssertSqlSafe(call.clone()))
                .bind(&ada)
                .execute(&mut runtime)
                .await
                .expect_err(&call);
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{call}: {error}");
        }
    }
    // Nor does anybody's event name an admin who did it.
    let forged = "INSERT INTO auth.security_events (user_id, admin_id, type, outcome)
                  VALUES (auth.acting_user(), auth.acting_user(), 'banned', 'success')";
    sqlx::query("SELECT set_config('tollgate.user', $1, false)")
        .bind(&eve)
        .execute(&mut runtime)
        .await
        .expect("set");
    let error = sqlx::query(forged).execute(&mut runtime).await;
    let error = error.expect_err("a forgery");
    assert!(error.to_string().contains("row-level security"), "{error}");
}

/// Invariant 9 of the architecture: the list is short, and it is this one.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_spans_users_is_a_listed_set_of_pinned_functions(db: PgPool) {
    let listed: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s.%s', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname IN ('auth', 'credits') AND p.prosecdef ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .expect("functions");
    assert_eq!(
        listed,
        [
            "auth.account_by_email",
            "auth.account_of_outside",
            "auth.admin_changes_ban",
            "auth.admin_changes_role",
            "auth.admin_counts_mail",
            "auth.admin_ends_sessions",
            "auth.admin_finds_people",
            "auth.admin_moved_credits",
            "auth.admin_sees_mail",
            "auth.ask_for_mail",
            "auth.begin_attempt",
            "auth.begin_outside_sign_in",
            "auth.begin_sign_in",
            "auth.claim_logout_notice",
            "auth.claim_mail",
            "auth.clear_words",
            "auth.confirm_email",
            "auth.delete_account",
            "auth.end_access",
            "auth.forget_logout_notice",
            "auth.forget_mail",
            "auth.forgive",
            "auth.grant_of",
            "auth.grant_salt",
            "auth.half_signed_in",
            "auth.import_user",
            "auth.known_device",
            "auth.link_holder",
            "auth.link_matrix",
            "auth.mail_waiting",
            "auth.matrix_holder",
            "auth.open_below",
            "auth.open_grant",
            "auth.record_failed_sign_in",
            "auth.redeem_code",
            "auth.refresh",
            "auth.refresh_grant",
            "auth.refresh_salt",
            "auth.register",
            "auth.register_outside",
            "auth.revocations_after",
            "auth.revoke_grant",
            "auth.session_of_cookie",
            "auth.session_state",
            "auth.signed_in_browser",
            "auth.sweep_failures",
            "auth.sweep_grants",
            "auth.sweep_revocations",
            "auth.sweep_security",
            "auth.take_outside_sign_in",
            "auth.tell_clients",
            "auth.use_outside_token",
            "auth.withdraw_ended",
            "auth.withdraw_key",
            "auth.withdraw_tokens",
            "credits.balance",
            "credits.begin_purchase",
            "credits.figures",
            "credits.grant",
            "credits.hear_from_stripe",
            "credits.open_checkout",
            "credits.post_batch",
            "credits.refund",
            "credits.sweep",
            "credits.verify",
        ]
    );
    let careless = "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname IN ('auth', 'credits') AND (
             (p.prosecdef AND (p.proowner <> 'tollgate_definer'::regrole
                               OR NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'))))
             OR has_function_privilege('public', p.oid, 'EXECUTE')
             OR (NOT p.prosecdef AND p.proname NOT IN ('acting_user', 'act_for', 'meet_device', 'open_session', 'acting_admin', 'look_as_admin', 'post')
                 AND has_function_privilege('tollgate_app', p.oid, 'EXECUTE')))";
    assert_eq!(count(&db, careless).await, 0);
}

//! What a code and a refresh token are good for, by whom, and how often.

use axum::http::{StatusCode, header};
use base64ct::{Base64UrlUnpadded, Encoding};
use origin::{oidc::GrantType, rim};
use serde_json::{Value, json};
use shared::jwks::SigningKey;
use sqlx::PgPool;
use zeroize::Zeroizing;

use crate::{
    oidc_flow::{ADA, Fields, HOME, Party, Spec, Tokens, is_refused, post, token, with},
    revocations::claims,
    session_to_token::Tab,
    support::{Answer, Origin, count, text},
};

pub async fn start(db: &PgPool) -> (Origin, Tab, Party) {
    let origin = Origin::start_with(db, &["--refresh-grace=0s"]).await;
    origin.register(ADA).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    let party = Party::add(db, "rp", Spec::default()).await;
    (origin, tab, party)
}

pub async fn userinfo(origin: &Origin, access: &str) -> u16 {
    origin.get("/oauth2/userinfo", access).await.status.as_u16()
}

pub async fn refresh(origin: &Origin, party: &Party, token_text: &str) -> Answer {
    token(origin, &party.refreshing(token_text)).await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_code_is_good_once_and_its_replay_ends_what_it_gave(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let code = party.code(&origin, &tab).await;
    let tokens = Tokens::of(&token(&origin, &party.exchange(&code)).await);
    assert_eq!(userinfo(&origin, &tokens.access).await, 200);
    is_refused(
        &token(&origin, &party.exchange(&code)).await,
        400,
        "invalid_grant",
    );
    assert_eq!(userinfo(&origin, &tokens.access).await, 401);
    is_refused(
        &refresh(&origin, &party, &tokens.refresh).await,
        400,
        "invalid_grant",
    );
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'code_replayed'";
    assert_eq!(count(&db, events).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_code_is_for_its_client_address_and_verifier(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let other = Party::add(&db, "other", Spec::default()).await;
    let code = party.code(&origin, &tab).await;
    let good = party.exchange(&code);
    let mut bytes = Base64UrlUnpadded::decode_vec(&code).expect("base64url");
    bytes[20] ^= 1;
    let changed = Base64UrlUnpadded::encode_string(&bytes);
    for (fields, error) in [
        (other.exchange(&code), "invalid_grant"),
        (
            with(good.clone(), "redirect_uri", Some("https://rp.example/cb2")),
            "invalid_grant",
        ),
        (with(good.clone(), "redirect_uri", None), "invalid_request"),
        (with(good.clone(), "code_verifier", None), "invalid_grant"),
        (
            with(good.clone(), "code_verifier", Some(&"a".repeat(43))),
            "invalid_grant",
        ),
        (
            with(good.clone(), "code_verifier", Some("short")),
            "invalid_request",
        ),
        (with(good.clone(), "code", Some(&changed)), "invalid_grant"),
        (with(good.clone(), "code", Some("x")), "invalid_grant"),
        (with(good.clone(), "code", None), "invalid_request"),
        (
            with(good.clone(), "grant_type", Some("password")),
            "unsupported_grant_type",
        ),
        (with(good.clone(), "grant_type", None), "invalid_request"),
        (
            with(good.clone(), "grant_type", Some("client_credentials")),
            "unauthorized_client",
        ),
    ] {
        is_refused(&token(&origin, &fields).await, 400, error);
    }
    // None of that has used it up.
    let tokens = Tokens::of(&token(&origin, &good).await);
    assert_eq!(userinfo(&origin, &tokens.access).await, 200);

    let code = party.code(&origin, &tab).await;
    sqlx::query("UPDATE auth.client_grants SET code_expires_at = now() WHERE code_used_at IS NULL")
        .execute(&db)
        .await
        .expect("a minute passes");
    is_refused(
        &token(&origin, &party.exchange(&code)).await,
        400,
        "invalid_grant",
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_says_once_and_in_one_way_who_it_is(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let code = party.code(&origin, &tab).await;
    let good = party.exchange(&code);
    let bare = with(good.clone(), "client_secret", None);
    let basic = party.basic();
    for (headers, fields) in [
        (
            &[][..],
            with(good.clone(), "client_secret", Some("tgc_wrong")),
        ),
        (&[], bare.clone()),
        (&[], with(bare.clone(), "client_id", None)),
        (&[], with(good.clone(), "client_id", Some("nobody"))),
        (&[("authorization", "Basic cnA6d3Jvbmc=")], bare.clone()),
        (&[("authorization", "Basic ?")], bare.clone()),
        (&[("authorization", "Bearer x")], bare.clone()),
    ] {
        let answer = post(&origin, "/oauth2/token", headers, &fields).await;
        is_refused(&answer, 401, "invalid_client");
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    let both = &[("authorization", &*basic)][..];
    is_refused(
        &post(&origin, "/oauth2/token", both, &good).await,
        400,
        "invalid_request",
    );
    let other = with(bare.clone(), "client_id", Some("other"));
    is_refused(
        &post(&origin, "/oauth2/token", both, &other).await,
        400,
        "invalid_request",
    );
    let twice = [("authorization", &*basic), ("authorization", &*basic)];
    is_refused(
        &post(&origin, "/oauth2/token", &twice, &bare).await,
        400,
        "invalid_request",
    );
    for name in [
        "grant_type",
        "code",
        "client_id",
        "client_secret",
        "unknown",
    ] {
        let mut fields = with(good.clone(), "unknown", Some("1"));
        let again = fields.iter().find(|(known, _)| known == name).cloned();
        fields.extend(again);
        is_refused(&token(&origin, &fields).await, 400, "invalid_request");
    }
    let as_json = origin
        .post("/oauth2/token", None, &json!({"code": code}))
        .await;
    is_refused(&as_json, 400, "invalid_request");
    assert_eq!(
        post(&origin, "/oauth2/token", both, &bare).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_may_sign_who_it_is_once(db: PgPool) {
    let (origin, tab, _) = start(&db).await;
    let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
    let another = SigningKey::from_seed(&Zeroizing::new([8; 32]));
    let spec = Spec {
        jwks: Some(json!({"keys": [key.key().jwk()]})),
        grant_types: vec![GrantType::Code, GrantType::Itself],
        ..Spec::default()
    };
    let party = Party::add(&db, "signs", spec).await;
    let good = json!({
        "iss": "signs", "sub": "signs", "aud": HOME, "jti": "1", "exp": rim::now().timestamp() + 60,
    });
    let assertion = |claims: &Value, key: &SigningKey| {
        let text = shared::jwt::sign_text("JWT", &claims.to_string(), key);
        let mut fields: Fields = Vec::new();
        fields = with(fields, "grant_type", Some("client_credentials"));
        fields = with(fields, "client_assertion", Some(&text));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        with(fields, "client_assertion_type", Some(kind))
    };
    for (name, value) in [
        ("iss", json!("rp")),
        ("sub", json!("rp")),
        ("aud", json!("https://evil.test")),
        ("aud", json!("rp")),
        ("aud", json!([HOME, "https://evil.test"])),
        ("exp", json!(rim::now().timestamp() - 60)),
        ("exp", json!(rim::now().timestamp() + 3600)),
        ("jti", json!("")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        is_refused(
            &token(&origin, &assertion(&claims, &key)).await,
            401,
            "invalid_client",
        );
    }
    is_refused(
        &token(&origin, &assertion(&good, &another)).await,
        401,
        "invalid_client",
    );
    let answer = token(&origin, &assertion(&good, &key)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(claims(&text(&answer.body["access_token"]))["sub"], "signs");
    is_refused(
        &token(&origin, &assertion(&good, &key)).await,
        401,
        "invalid_client",
    );

    let mut next = good.clone();
    next["jti"] = json!("2");
    next["aud"] = json!([format!("{HOME}/oauth2/token")]);
    let mut fields = party.exchange(&party.code(&origin, &tab).await);
    fields.retain(|(name, _)| !name.starts_with("client_") && name != "grant_type");
    fields.extend(with(
        assertion(&next, &key),
        "grant_type",
        Some("authorization_code"),
    ));
    assert_eq!(token(&origin, &fields).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refresh_token_is_rotated_and_its_reuse_ends_the_grant(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let other = Party::add(&db, "other", Spec::default()).await;
    let first = party
        .tokens(&origin, &tab, "openid email offline_access")
        .await;
    is_refused(
        &refresh(&origin, &other, &first.refresh).await,
        400,
        "invalid_grant",
    );
    let second = Tokens::of(&refresh(&origin, &party, &first.refresh).await);
    assert_ne!(first.refresh, second.refresh);
    let (was, is) = (claims(&first.id), claims(&second.id));
    for name in ["sub", "aud", "sid", "auth_time", "nonce"] {
        assert_eq!(was[name], is[name], "{name}");
    }
    // Fewer scopes for once, and never more.
    let fields = with(party.refreshing(&second.refresh), "scope", Some("email"));
    let less = token(&origin, &fields).await;
    assert_eq!(
        (&less.body["scope"], &less.body["id_token"]),
        (&json!("email"), &Value::Null)
    );
    let third = Tokens::of(&less);
    let told = origin.get("/oauth2/userinfo", &third.access).await;
    is_refused(&told, 403, "insufficient_scope");
    let fields = with(
        party.refreshing(&third.refresh),
        "scope",
        Some("openid profile"),
    );
    is_refused(&token(&origin, &fields).await, 400, "invalid_scope");

    is_refused(
        &refresh(&origin, &party, &first.refresh).await,
        400,
        "invalid_grant",
    );
    is_refused(
        &refresh(&origin, &party, &third.refresh).await,
        400,
        "invalid_grant",
    );
    assert_eq!(userinfo(&origin, &second.access).await, 401);
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'client_refresh_reuse'";
    assert_eq!(count(&db, events).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn neither_kind_of_refresh_token_passes_for_the_other(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let tokens = party.tokens(&origin, &tab, "openid offline_access").await;
    let answer = origin.refresh(&tokens.refresh).await;
    answer.is_problem(401, "INVALID_REFRESH_TOKEN");
    // Even where a session has the grant's id and salt.
    sqlx::query(
        "INSERT INTO auth.sessions (id, user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at)
         SELECT id, user_id, 'first-party', refresh_salt, false, '{}', 'infinity', 'infinity' FROM auth.client_grants",
    )
    .execute(&db)
    .await
    .expect("a session");
    let answer = origin.refresh(&tokens.refresh).await;
    answer.is_problem(401, "INVALID_REFRESH_TOKEN");
    let answer = refresh(&origin, &party, &tab.person.refresh).await;
    is_refused(&answer, 400, "invalid_grant");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn only_its_client_hears_what_a_token_is_worth_or_gives_it_up(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let other = Party::add(&db, "other", Spec::default()).await;
    let public = Spec {
        public: true,
        ..Spec::default()
    };
    let public = Party::add(&db, "public", public).await;
    let tokens = party.tokens(&origin, &tab, "openid email").await;
    let ask = async |party: &Party, token: &str| {
        post(&origin, "/oauth2/introspect", &[], &party.showing(token)).await
    };
    for token in [&tokens.access, &tokens.refresh] {
        let told = ask(&party, token).await.body;
        assert_eq!(
            (&told["active"], &told["sub"]),
            (&json!(true), &json!(tab.person.id))
        );
        assert_eq!(ask(&other, token).await.body, json!({"active": false}));
        let bare = with(public.showing(token), "client_secret", None);
        let answer = post(&origin, "/oauth2/introspect", &[], &bare).await;
        is_refused(&answer, 401, "invalid_client");
    }
    for token in [&tokens.id, &tab.person.access, "x"] {
        assert_eq!(ask(&party, token).await.body, json!({"active": false}));
    }
    let give_up = async |party: &Party, token: &str| {
        let answer = post(&origin, "/oauth2/revoke", &[], &party.showing(token)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    give_up(&other, &tokens.access).await;
    give_up(&other, &tokens.refresh).await;
    give_up(&party, "x").await;
    assert_eq!(userinfo(&origin, &tokens.access).await, 200);
    give_up(&party, &tokens.refresh).await;
    assert_eq!(userinfo(&origin, &tokens.access).await, 401);
    assert_eq!(
        ask(&party, &tokens.access).await.body,
        json!({"active": false})
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_disabled_client_has_nothing(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let tokens = party.tokens(&origin, &tab, "openid offline_access").await;
    let code = party.code(&origin, &tab).await;
    sqlx::query("UPDATE auth.clients SET disabled_at = now()")
        .execute(&db)
        .await
        .expect("disabled");
    assert_eq!(userinfo(&origin, &tokens.access).await, 401);
    is_refused(
        &refresh(&origin, &party, &tokens.refresh).await,
        401,
        "invalid_client",
    );
    is_refused(
        &token(&origin, &party.exchange(&code)).await,
        401,
        "invalid_client",
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn userinfo_takes_a_relying_partys_token_alone(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let tokens = party.tokens(&origin, &tab, "openid").await;
    let spec = Spec {
        grant_types: vec![GrantType::Itself],
        ..Spec::default()
    };
    let service = Party::add(&db, "service", spec).await;
    let fields = with(
        service.exchange(""),
        "grant_type",
        Some("client_credentials"),
    );
    let own = Tokens::of(&token(&origin, &fields).await);
    for bad in ["", "x", &tokens.id, &tab.person.access, &own.access] {
        let answer = origin.get("/oauth2/userinfo", bad).await;
        is_refused(&answer, 401, "invalid_token");
        assert!(
            answer.headers[header::WWW_AUTHENTICATE]
                .to_str()
                .expect("text")
                .starts_with("Bearer")
        );
    }
    let fields = with(Vec::new(), "access_token", Some(&tokens.access));
    let answer = post(&origin, "/oauth2/userinfo", &[], &fields).await;
    assert_eq!(answer.body, json!({"sub": tab.person.id}));
}

//! Signing out, in all its ways; Matrix ids; keys of RSA; and what the operator's command refuses.

use axum::http::{StatusCode, header};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::Parser;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use origin::{
    apps::Permission,
    cli::Cli,
    oidc::{self, Alg},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::jwks::{JwkSet, KeySet};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    oidc_flow::{
        ADA, Fields, GOODBYE, HOME, Party, Spec, Tokens, authorize, get, is_told_here, location,
        post, press, token, with,
    },
    revocations::claims,
    session_to_token::Tab,
    support::{Origin, Service, count, text},
};

async fn start(db: &PgPool) -> (Origin, Tab, Party) {
    let origin = Origin::start(db).await;
    origin.register(ADA).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    let party = Party::add(db, "rp", Spec::default()).await;
    (origin, tab, party)
}

async fn logout(origin: &Origin, tab: &Tab, fields: &Fields) -> crate::support::Answer {
    let path = format!("/oauth2/logout?{}", crate::oidc_flow::encode(fields));
    get(origin, Some(tab), &path).await
}

async fn is_signed_in(origin: &Origin, tab: &Tab) -> bool {
    let answer = get(origin, Some(tab), "/api/auth/get-session").await;
    answer.body != Value::Null
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_signs_somebody_out_that_shows_its_token_for_this_browser(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let tokens = party.tokens(&origin, &tab, "openid").await;
    let fields = with(Vec::new(), "id_token_hint", Some(&tokens.id));
    let fields = with(fields, "post_logout_redirect_uri", Some(GOODBYE));
    let fields = with(fields, "state", Some("a state"));
    let answer = logout(&origin, &tab, &fields).await;
    assert_eq!(
        location(&answer).as_str(),
        format!("{GOODBYE}?state=a+state")
    );
    let cookie = answer.headers[header::SET_COOKIE].to_str().expect("text");
    assert!(cookie.starts_with("tollgate=;"), "{cookie}");
    assert!(!is_signed_in(&origin, &tab).await);
    let told = origin.get("/oauth2/userinfo", &tokens.access).await;
    assert_eq!(told.status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_shows_no_such_token_has_the_person_asked(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let other = Tab::sign_in(&origin, ADA).await;
    let elsewhere = party.tokens(&origin, &other, "openid").await;
    let mut changed =
        Base64UrlUnpadded::decode_vec(elsewhere.id.rsplit_once('.').expect("three").1)
            .expect("base64url");
    changed[5] ^= 1;
    let forged = elsewhere.id.rsplit_once('.').expect("three").0.to_owned()
        + "."
        + &Base64UrlUnpadded::encode_string(&changed);
    for hint in [
        None,
        Some(&*elsewhere.id),
        Some(&*forged),
        Some("x"),
        Some(&*tab.person.access),
    ] {
        let fields = with(Vec::new(), "id_token_hint", hint);
        let page = logout(&origin, &tab, &fields).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        assert!(is_signed_in(&origin, &tab).await, "{hint:?}");
        press(&origin, &tab, &page, "no").await;
        assert!(is_signed_in(&origin, &tab).await);
        // Another browser's form does nothing here.
        let again = press(&origin, &other, &page, "yes").await;
        assert!(text(&again.body).contains("Sign out?"));
        assert!(is_signed_in(&origin, &other).await);
    }
    let fields = with(Vec::new(), "client_id", Some("rp"));
    let fields = with(fields, "post_logout_redirect_uri", Some(GOODBYE));
    let page = logout(&origin, &tab, &fields).await;
    let answer = press(&origin, &tab, &page, "yes").await;
    assert_eq!(location(&answer).as_str(), GOODBYE);
    assert!(!is_signed_in(&origin, &tab).await);
    // There is nobody to ask any more.
    assert_eq!(
        location(&logout(&origin, &tab, &fields).await).as_str(),
        GOODBYE
    );
    let answer = post(
        &origin,
        "/oauth2/logout",
        &[("origin", "https://rp.example")],
        &fields,
    )
    .await;
    assert_eq!(location(&answer).path(), "/oauth2/logout");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_out_leads_to_no_stranger(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    Party::add(&db, "other", Spec::default()).await;
    let tokens = party.tokens(&origin, &tab, "openid").await;
    let good = with(Vec::new(), "id_token_hint", Some(&tokens.id));
    for uri in [
        "https://evil.test/",
        "https://rp.example/bye/",
        "https://rp.example/bye?x=1",
        "https://rp.example/cb",
        "https://rp.example@evil.test/bye",
        "javascript:alert(1)",
    ] {
        let fields = with(good.clone(), "post_logout_redirect_uri", Some(uri));
        is_told_here(&logout(&origin, &tab, &fields).await);
    }
    let nobody = with(Vec::new(), "post_logout_redirect_uri", Some(GOODBYE));
    is_told_here(&logout(&origin, &tab, &nobody).await);
    let two = with(good.clone(), "client_id", Some("other"));
    is_told_here(&logout(&origin, &tab, &two).await);
    let mut twice = good;
    twice.extend(twice.clone());
    is_told_here(&logout(&origin, &tab, &twice).await);
    assert!(is_signed_in(&origin, &tab).await);
}

/// Answers one request with this status, and gives its body.
async fn hear(listener: &TcpListener, status: u16) -> String {
    let (mut stream, _) = listener.accept().await.expect("a caller");
    let mut heard = String::new();
    loop {
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes).await.expect("bytes");
        heard.push_str(&String::from_utf8_lossy(&bytes[..read]));
        let Some((fields, body)) = heard.split_once("\r\n\r\n") else {
            continue;
        };
        let length = fields.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        if body.len() >= length.expect("a length") {
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
            return body.to_owned();
        }
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn clients_hear_when_a_session_ends_whatever_ends_it(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let spec = Spec {
        backchannel: Some(format!("http://127.0.0.1:{port}/logout")),
        ..Spec::default()
    };
    let party = Party::add(&db, "rp", spec).await;
    let silent = Party::add(&db, "silent", Spec::default()).await;
    let waiting = "SELECT count(*) FROM auth.logout_notices";
    for path in ["logout", "logout-all", "account"] {
        let tab = Tab::sign_in(&origin, ADA).await;
        let tokens = party.tokens(&origin, &tab, "openid").await;
        party.tokens(&origin, &tab, "openid").await;
        silent.tokens(&origin, &tab, "openid").await;
        assert!(!oidc::send_next(&origin.app).await.expect("a look"));
        if path == "account" {
            let body = json!({"password": crate::support::PASSWORD});
            let path = "/api/v1/auth/account";
            let answer = origin
                .call(axum::http::Method::DELETE, path, &tab.person.access, &body)
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        } else {
            let path = format!("/api/v1/auth/{path}");
            origin
                .post(&path, Some(&tab.person.access), &json!({}))
                .await;
        }
        assert_eq!(count(&db, waiting).await, 1);

        // One that does not hear is told once more, later.
        let (sent, _) = tokio::join!(oidc::send_next(&origin.app), hear(&listener, 500));
        assert!(sent.expect("an attempt"));
        assert!(!oidc::send_next(&origin.app).await.expect("nothing is due"));
        sqlx::query("UPDATE auth.logout_notices SET due_at = now()")
            .execute(&db)
            .await
            .expect("time passes");
        let (sent, body) = tokio::join!(oidc::send_next(&origin.app), hear(&listener, 200));
        assert!(sent.expect("an attempt"));
        assert_eq!(count(&db, waiting).await, 0);

        let token = body.strip_prefix("logout_token=").expect("a token");
        let (said, was) = (claims(token), claims(&tokens.id));
        for name in ["iss", "aud", "sub", "sid"] {
            assert_eq!(said[name], was[name], "{name}");
        }
        assert_eq!(
            said["events"],
            json!({"http://schemas.openid.net/event/backchannel-logout": {}})
        );
        assert_eq!(said.get("nonce"), None);
        let head = Base64UrlUnpadded::decode_vec(token.split('.').next().expect("a head"))
            .expect("base64url");
        let head: Value = serde_json::from_slice(&head).expect("JSON");
        assert_eq!(head["typ"], "logout+jwt");
    }
    for table in ["client_grants", "consents"] {
        let left = format!("SELECT count(*) FROM auth.{table}");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(left))
            .fetch_one(&db)
            .await
            .expect("a count");
        assert_eq!(left, 0, "{table}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_matrix_id_is_linked_and_never_moves(db: PgPool) {
    let (origin, tab, _) = start(&db).await;
    let spec = Spec {
        matrix_server: Some("example.org"),
        ..Spec::default()
    };
    let synapse = Party::add(&db, "synapse", spec).await;
    let bot = Service::add(&db, "bot", &[Permission::Matrix], 0).await;
    let nosy = Service::add(&db, "nosy", &[Permission::Charge, Permission::Read], 0).await;
    let mxid = format!("@{}:example.org", tab.person.id);
    let encoded = mxid.replace('@', "%40").replace(':', "%3A");
    let session = format!("/api/v1/auth/matrix-session/{encoded}");
    let check = format!("/api/v1/auth/matrix-session/check/{encoded}");
    assert_eq!(
        origin.get_as(&bot, &check).await.body,
        json!({"linked": false})
    );
    origin
        .get_as(&bot, &session)
        .await
        .is_problem(404, "NOT_FOUND");

    let tokens = synapse.tokens(&origin, &tab, "openid").await;
    origin.get("/oauth2/userinfo", &tokens.access).await;
    assert_eq!(
        origin.get_as(&bot, &check).await.body,
        json!({"linked": true})
    );
    let told = origin.get_as(&bot, &session).await.body;
    assert_eq!(
        (&told["user"]["id"], &told["matrixUserId"]),
        (&json!(tab.person.id), &json!(mxid))
    );
    for path in [&session, &check] {
        origin
            .get_as(&nosy, path)
            .await
            .is_problem(403, "FORBIDDEN");
        origin
            .get(path, &tab.person.access)
            .await
            .is_problem(401, "INVALID_SERVICE_KEY");
    }
    let links = "/api/v1/auth/matrix-user-links";
    let told = origin.get(links, &tab.person.access).await.body;
    assert_eq!(told["links"][0]["matrixUserId"], json!(mxid));
    let eve = origin.join("eve@example.org").await;
    assert_eq!(
        origin.get(links, &eve.access).await.body,
        json!({"links": []})
    );
    let unlink = |token: String| {
        let (origin, path) = (&origin, format!("{links}/{encoded}"));
        async move {
            origin
                .call(axum::http::Method::DELETE, &path, &token, &json!({}))
                .await
        }
    };
    unlink(eve.access.clone())
        .await
        .is_problem(404, "NOT_FOUND");
    let export = origin
        .get("/api/v1/auth/me/export", &tab.person.access)
        .await
        .body;
    assert_eq!(export["matrixIds"][0]["matrixUserId"], json!(mxid));
    assert_eq!(export["appsSignedInTo"][0]["clientId"], "synapse");
    assert_eq!(
        unlink(tab.person.access.clone()).await.status,
        StatusCode::OK
    );
    assert_eq!(
        origin.get_as(&bot, &check).await.body,
        json!({"linked": false})
    );

    // It is somebody else's already, however that came.
    sqlx::query(
        "INSERT INTO auth.matrix_links (mxid, user_id, client_id) VALUES ($1, $2::uuid, 'synapse')",
    )
    .bind(&mxid)
    .bind(&eve.id)
    .execute(&db)
    .await
    .expect("a link");
    let told = origin.get("/oauth2/userinfo", &tokens.access).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(
        origin.get_as(&bot, &session).await.body["user"]["id"],
        json!(eve.id)
    );
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'matrix_link_taken'";
    assert_eq!(count(&db, events).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_that_knows_rsa_alone_gets_that(db: PgPool) {
    let (origin, tab, eddsa) = start(&db).await;
    let keys = "/.well-known/jwks.json";
    assert_eq!(
        origin.get(keys, "").await.body["keys"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let spec = Spec {
        alg: Alg::Rs256,
        ..Spec::default()
    };
    let party = Party::add(&db, "old", spec).await;
    let code = party.code(&origin, &tab).await;
    // There is no key yet, and then one that other replicas may not publish yet. The code is not used
    // up for it.
    for _ in ["no key", "a new one"] {
        let answer = token(&origin, &party.exchange(&code)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        origin.load_keys().await;
    }
    let rsa = origin.get("/oauth2/rs256/jwks.json", "").await.body;
    assert_eq!(rsa["keys"].as_array().map(Vec::len), Some(1));
    let later = "UPDATE auth.signing_keys SET activate_at = activate_at - interval '1 minute' WHERE alg = 'RS256'";
    sqlx::query(later).execute(&db).await.expect("a minute");
    origin.load_keys().await;
    let tokens = Tokens::of(&token(&origin, &party.exchange(&code)).await);

    let published = origin.get(keys, "").await.body;
    assert_eq!(published["keys"][1], rsa["keys"][0]);
    assert!(rsa["keys"][0].get("d").is_none());
    // Whoever knows Ed25519 alone passes over it.
    let set: JwkSet = serde_json::from_value(published.clone()).expect("a key set");
    let kid = text(&published["keys"][0]["kid"]);
    assert!(KeySet::from(&set).find(&kid).is_some());

    let jwk: Jwk = serde_json::from_value(rsa["keys"][0].clone()).expect("a key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["old"]);
    validation.set_issuer(&[HOME]);
    let key = DecodingKey::from_jwk(&jwk).expect("a key");
    let said = jsonwebtoken::decode::<Value>(&tokens.id, &key, &validation).expect("a good token");
    let half = Base64UrlUnpadded::encode_string(&Sha256::digest(&tokens.access)[..16]);
    assert_eq!(said.claims["at_hash"], json!(half));
    let other = eddsa.tokens(&origin, &tab, "openid").await;
    assert_ne!(claims(&other.id)["sid"], said.claims["sid"]);

    let fields = with(Vec::new(), "id_token_hint", Some(&tokens.id));
    let answer = logout(&origin, &tab, &fields).await;
    assert!(
        text(&answer.body).contains("You are signed out"),
        "{answer:?}"
    );
    assert!(!is_signed_in(&origin, &tab).await);
    // The key lives as the others do: on a second look nothing is made.
    origin.load_keys().await;
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.signing_keys").await,
        2
    );
}

#[test]
fn a_client_is_registered_with_addresses_that_are_safe_alone() {
    let parse = |args: &[&str]| {
        let all = [
            "origin",
            "clients",
            "--database-url=postgres://x",
            "add",
            "rp",
        ];
        Cli::try_parse_from(all.iter().chain(args)).is_ok()
    };
    assert!(parse(&[
        "--redirect-uri=https://rp.example/cb",
        "--trusted"
    ]));
    assert!(parse(&["--redirect-uri=http://127.0.0.1/cb", "--public"]));
    for bad in [
        "--redirect-uri=http://rp.example/cb",
        "--redirect-uri=https://rp.example/cb#x",
        "--post-logout-redirect-uri=javascript:alert(1)",
        "--backchannel-logout-uri=com.example:/x",
        "--backchannel-logout-uri=http://rp.example/x",
        "--matrix-server=a/b",
        "--grant=password",
        "--id-token-alg=none",
    ] {
        assert!(!parse(&[bad]), "{bad}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_new_secret_takes_the_place_of_the_old_one(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let mut connection = db.acquire().await.expect("a connection");
    let id = shared::api::AppId::parse("rp".to_owned()).expect("an id");
    let secret = oidc::Secret::new();
    oidc::rotate(&mut connection, &id, secret.hash())
        .await
        .expect("rotated");
    let code = party.code(&origin, &tab).await;
    let answer = token(&origin, &party.exchange(&code)).await;
    assert_eq!(answer.body["error"], "invalid_client");
    let fields = with(
        party.exchange(&code),
        "client_secret",
        Some(secret.reveal()),
    );
    assert_eq!(token(&origin, &fields).await.status, StatusCode::OK);
    oidc::disable(&mut connection, &id).await.expect("disabled");
    is_told_here(&authorize(&origin, Some(&tab), &party.request()).await);
    oidc::rotate(&mut connection, &id, secret.hash())
        .await
        .expect("enabled");
    party.code(&origin, &tab).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_without_a_secret_stays_disabled_when_it_is_to_get_one(db: PgPool) {
    let (origin, tab, _) = start(&db).await;
    let spec = Spec {
        public: true,
        ..Spec::default()
    };
    let party = Party::add(&db, "spa", spec).await;
    party.code(&origin, &tab).await;
    let mut connection = db.acquire().await.expect("a connection");
    let id = |id: &str| shared::api::AppId::parse(id.to_owned()).expect("an id");
    let hash = oidc::Secret::new().hash();
    oidc::disable(&mut connection, &id("spa"))
        .await
        .expect("disabled");
    for (name, why) in [
        ("spa", r#"client "spa" has no secret"#),
        ("none", r#"there is no client "none""#),
    ] {
        let refused = oidc::rotate(&mut connection, &id(name), hash).await;
        assert_eq!(refused.map_err(|why| why.to_string()), Err(why.to_owned()));
    }
    is_told_here(&authorize(&origin, Some(&tab), &party.request()).await);
}

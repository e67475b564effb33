//! What else somebody signs in by, and whom they sign in to: to see, and to end.

use std::time::Duration;

use origin::oidc::GrantType;
use sqlx::PgPool;
use tokio::time::timeout;
use url::Url;

use crate::{
    oidc_flow::{CALLBACK, HOME, Party, Spec, Tokens, encode, param, token, with},
    pages_account::an_hour_passes,
    provider::Provider,
    second_factor::change,
    support::{Origin, count, waiting},
    surfer::Surfer,
};

const ADA: &str = "ada@example.org";
const LINKED: &str = "/account/linked";
const UNLINK: &str = "/account/linked/unlink";
const WITH: &str = "/account/linked/with/acme";
const ACCESS: &str = "/account/access";
const END: &str = "/account/access/end";
const ALL: &str = "SELECT count(*) FROM auth.outside_accounts";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_account_elsewhere_is_linked_seen_and_unlinked(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    origin.register(ADA).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let page = ada.look(LINKED).await;
    page.is(200).says("None yet.");
    let form = page.form(WITH);
    an_hour_passes(&db).await;
    let again = ada.press(&form).await.leads_to();
    assert!(again.starts_with("/sign-in?again=1"), "{again}");
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let away = ada.fill(LINKED, WITH, &[]).await;
    let back = ada.look(&acme.say_yes(&away.leads_to())).await;
    assert_eq!(back.leads_to(), format!("{HOME}{LINKED}?done=linked"));
    let page = ada.look(&back.leads_to()).await;
    page.says("The account is linked.").says("Ada@example.org");
    assert_eq!(count(&db, ALL).await, 1);

    // Another person's form ends nothing of hers.
    origin.register("eve@example.org").await;
    let mut eve = Surfer::signed_in(&origin, "eve@example.org").await;
    let hers = page.form(UNLINK);
    an_hour_passes(&db).await;
    let again = ada.press(&hers).await.leads_to();
    assert!(again.starts_with("/sign-in?again=1"), "{again}");
    change(&db, "UPDATE auth.sessions SET authenticated_at = now()").await;
    let csrf = eve.look(LINKED).await.form(WITH).value("csrf").to_owned();
    eve.press(&hers.clone().with(&[("csrf", &csrf)])).await;
    assert_eq!(count(&db, ALL).await, 1);
    ada.press(&hers.clone().with(&[("account", "x")]))
        .await
        .is(404);
    let gone = ada.press(&hers).await;
    ada.look(&gone.leads_to()).await.says("not linked any more");
    assert_eq!(count(&db, ALL).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_last_way_in_stays(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let mut ada = Surfer::at(&origin);
    let away = ada.fill("/sign-in", "/sign-in/with/acme", &[]).await;
    let back = ada.look(&acme.say_yes(&away.leads_to())).await;
    assert!(back.leads_to().ends_with("/account"), "{back:?}");
    let seen = ada.fill(LINKED, UNLINK, &[]).await;
    seen.is(409).says("Set a password first");
    assert_eq!(count(&db, ALL).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_that_was_allowed_is_seen_and_loses_access(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let spec = Spec {
        trusted: false,
        grant_types: vec![GrantType::Code, GrantType::Refresh],
        ..Spec::default()
    };
    let party = Party::add(&db, "chess-club", spec).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    ada.look(ACCESS).await.is(200).says("None.");

    let request = with(
        party.request(),
        "scope",
        Some("openid email offline_access"),
    );
    let ask = format!("/oauth2/authorize?{}", encode(&request));
    let asked = ada.look(&ask).await;
    let form = asked.is(200).form("/oauth2/consent");
    let seen = ada.press(&form.with(&[("answer", "yes")])).await;
    let back = Url::parse(&seen.leads_to()).expect("a URL");
    assert!(back.as_str().starts_with(CALLBACK));
    let code = param(&back, "code").expect("a code");
    let tokens = Tokens::of(&token(&origin, &party.exchange(&code)).await);

    let page = ada.look(ACCESS).await;
    page.says("chess-club").says("your e-mail address");
    assert!(!page.html.contains("your name"), "it was not asked for");
    origin.register("eve@example.org").await;
    let mut eve = Surfer::signed_in(&origin, "eve@example.org").await;
    eve.look(ACCESS).await.says("None.");
    let hers = page.form(END);
    let csrf = eve.look("/account").await.form("/account");
    let csrf = csrf.value("csrf").to_owned();
    eve.press(&hers.clone().with(&[("csrf", &csrf)]))
        .await
        .is(303);
    ada.look(ACCESS).await.says("chess-club");

    let ended = ada.press(&hers).await;
    ada.look(&ended.leads_to())
        .await
        .says("no access any more")
        .says("None.");
    ada.press(&hers).await.is(303);
    let refused = token(&origin, &party.refreshing(&tokens.refresh)).await;
    assert_eq!(refused.body["error"], "invalid_grant");
    ada.look(&ask).await.is(200).form("/oauth2/consent");
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'client_access_ended'";
    assert_eq!(count(&db, events).await, 1);
    ada.look("/account/events")
        .await
        .says("Access of an app taken back");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_that_nobody_is_asked_for_is_seen_while_it_has_tokens(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let party = Party::add(&db, "mail", Spec::default()).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let ask = format!("/oauth2/authorize?{}", encode(&party.request()));
    ada.look(&ask).await.is(303);
    let page = ada.look(ACCESS).await;
    page.says("your e-mail address")
        .says("your name")
        .says("signs you in without asking")
        .says("Sign out there");
    ada.press(&page.form(END)).await.is(303);
    ada.look(ACCESS).await.says("None.");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_that_loses_access_hears_that_somebody_is_signed_out(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let spec = Spec {
        backchannel: Some("https://rp.example/logout".to_owned()),
        ..Spec::default()
    };
    let party = Party::add(&db, "mail", spec).await;
    let silent = Party::add(&db, "silent", Spec::default()).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    for (party, is_used) in [(&party, true), (&party, false), (&silent, true)] {
        let ask = format!("/oauth2/authorize?{}", encode(&party.request()));
        let back = Url::parse(&ada.look(&ask).await.leads_to()).expect("a URL");
        if is_used {
            let code = param(&back, "code").expect("a code");
            Tokens::of(&token(&origin, &party.exchange(&code)).await);
        }
    }
    let told = "SELECT count(*) FROM auth.logout_notices WHERE client_id = 'mail'";
    let page = ada.look(ACCESS).await;
    for form in page.forms(END) {
        ada.press(&form).await.is(303);
    }
    assert_eq!(count(&db, told).await, 1);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.logout_notices").await,
        1
    );
    ada.look(ACCESS).await.says("None.");
}

/// The consent is held by who opens a grant: taking it back waits, and ends that grant, too.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_grant_that_is_opened_meanwhile_ends_with_its_consent(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join(ADA).await;
    let spec = Spec {
        trusted: false,
        ..Spec::default()
    };
    let party = Party::add(&db, "chess-club", spec).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let ask = format!("/oauth2/authorize?{}", encode(&party.request()));
    let form = ada.look(&ask).await.form("/oauth2/consent");
    ada.press(&form.with(&[("answer", "yes")])).await.is(303);
    let form = ada.look(ACCESS).await.form(END);
    let mut opening = db.begin().await.expect("a transaction");
    let opened: String = sqlx::query_scalar(
        "SELECT auth.open_grant(s.cookie_hash, gen_random_uuid(), 'chess-club', '{openid}', '', sha256(''),
             NULL, NULL, decode(repeat('00', 16), 'hex'), 60, false, NULL, NULL)
         FROM auth.sessions s WHERE s.user_id = $1::uuid AND s.cookie_hash IS NOT NULL
         ORDER BY s.created_at DESC LIMIT 1",
    )
    .bind(&person.id)
    .fetch_one(&mut *opening)
    .await
    .expect("a grant");
    assert_eq!(opened, "opened");
    let opens = async {
        let comes = timeout(Duration::from_secs(20), waiting(&db, 1));
        comes.await.expect("taking back waits");
        opening.commit().await.expect("a commit");
    };
    let (seen, ()) = tokio::join!(ada.press(&form), opens);
    seen.is(303);
    let live = "SELECT count(*) FROM auth.client_grants WHERE revoked_at IS NULL";
    assert_eq!(count(&db, live).await, 0);
}

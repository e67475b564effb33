//! What people change of their account by its pages.

use axum::http::header;
use sqlx::PgPool;

use crate::{
    post_office::NEW_PASSWORD,
    second_factor::{Authenticator, change, time_passes},
    support::{Origin, PASSWORD, count},
    surfer::{Filled, Surfer},
};

const ADA: &str = "ada@example.org";
const SECURITY: &str = "/account/security";
const BEGIN: &str = "/account/security/factor-begin";
const CONFIRM: &str = "/account/security/factor-confirm";
const REMOVE: &str = "/account/security/factor-remove";
const CODES: &str = "/account/security/codes";

async fn ada(origin: &Origin) -> Surfer<'_> {
    origin.register(ADA).await;
    Surfer::signed_in(origin, ADA).await
}

/// As if everybody had signed in an hour ago.
pub async fn an_hour_passes(db: &PgPool) {
    change(
        db,
        "UPDATE auth.sessions SET authenticated_at = now() - interval '1 hour'",
    )
    .await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_name_is_changed_and_taken_away(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    let name = [("name", "Ada <i>Lovelace</i>")];
    let seen = ada.fill("/account", "/account", &name).await;
    let page = ada.look(&seen.leads_to()).await;
    page.is(200).says("Saved.").says("Ada &#60;i&#62;Lovelace");
    assert_eq!(page.form("/account").value("name"), name[0].1);
    let long = "x".repeat(201);
    let wrong = ada.fill("/account", "/account", &[("name", &long)]).await;
    wrong.is(400).says("id=\"name-mistake\"");
    let seen = ada.fill("/account", "/account", &[("name", "")]).await;
    let page = ada.look(&seen.leads_to()).await;
    assert_eq!(page.form("/account").value("name"), "");
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'profile_changed'";
    assert_eq!(count(&db, events).await, 2);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_is_changed_by_who_knows_it(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    let mut phone = Surfer::signed_in(&origin, ADA).await;
    let action = "/account/security/password";
    for (fields, status, says) in [
        (
            [
                ("currentPassword", "wrong horse battery"),
                ("newPassword", NEW_PASSWORD),
            ],
            401,
            "id=\"currentPassword-mistake\"",
        ),
        (
            [("currentPassword", PASSWORD), ("newPassword", "password1")],
            422,
            "guessed first",
        ),
        (
            [("currentPassword", PASSWORD), ("newPassword", "short")],
            400,
            "id=\"newPassword-mistake\"",
        ),
    ] {
        let seen = ada.fill(SECURITY, action, &fields).await;
        seen.is(status).says(says);
        assert!(!seen.html.contains("horse"), "no password is repeated");
    }
    phone.look("/account").await.is(200);
    let fields = [("currentPassword", PASSWORD), ("newPassword", NEW_PASSWORD)];
    let seen = ada.fill(SECURITY, action, &fields).await;
    ada.look(&seen.leads_to())
        .await
        .is(200)
        .says("password is changed");
    phone.look("/account").await.is(303);
    phone.sign_in(ADA, PASSWORD).await.is(401);
    phone.sign_in(ADA, NEW_PASSWORD).await.is(303);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_second_factor_is_set_up_used_and_turned_off(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    let page = ada.fill(SECURITY, BEGIN, &[]).await;
    page.is(200).says("src=\"data:image/svg+xml;base64,");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    assert!(policy.contains("img-src data:"), "{policy}");
    let secret = page
        .html
        .split("<code>")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let app = Authenticator::new(&secret.expect("a secret").replace(' ', ""));
    let form = page.form(CONFIRM);
    let wrong = ada
        .press(&form.clone().with(&[("code", app.wrong().as_str())]))
        .await;
    wrong.is(400).says("This code is wrong");
    assert!(
        !wrong.html.contains("data:image"),
        "the secret is shown once"
    );
    let codes = ada
        .press(&form.with(&[("code", app.good().as_str())]))
        .await;
    assert_eq!(codes.is(200).html.matches("<code>").count(), 10);
    let shown = ada.look(SECURITY).await;
    shown
        .says("Two-step sign-in is on")
        .says("10 recovery codes");
    assert!(!shown.html.contains("<code>"), "codes are shown once");

    time_passes(&db).await;
    let mut phone = Surfer::at(&origin);
    let asked = phone.sign_in(ADA, PASSWORD).await;
    let code = codes
        .html
        .split("<code>")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let form = phone.look(&asked.leads_to()).await.form("/sign-in/code");
    phone
        .press(&form.with(&[("code", code.expect("a code"))]))
        .await
        .is(303);
    phone.look(SECURITY).await.says("9 recovery codes");

    let fresh = ada.fill(SECURITY, CODES, &[]).await;
    assert_eq!(fresh.is(200).html.matches("<code>").count(), 10);
    let wrong = ada
        .fill(SECURITY, REMOVE, &[("code", app.wrong().as_str())])
        .await;
    wrong.is(400).says("This code is wrong");
    let seen = ada
        .fill(SECURITY, REMOVE, &[("code", app.good().as_str())])
        .await;
    ada.look(&seen.leads_to())
        .await
        .is(200)
        .says("Two-step sign-in is off");
    phone.look("/account").await.is(303);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_needs_a_recent_sign_in_asks_for_one(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    let form = ada.look(SECURITY).await.form(BEGIN);
    an_hour_passes(&db).await;
    let asked = ada.press(&form).await;
    assert_eq!(
        asked.leads_to(),
        "/sign-in?again=1&returnUrl=%2Faccount%2Fsecurity%2Ffactor-begin"
    );
    assert_eq!(count(&db, "SELECT count(*) FROM auth.totp").await, 0);
    let page = ada.look(&asked.leads_to()).await;
    let again = page.form("/sign-in").with(&[("password", PASSWORD)]);
    let back = ada.press(&again).await.leads_to();
    assert_eq!(ada.look(&back).await.leads_to(), SECURITY);
    ada.fill(SECURITY, BEGIN, &[])
        .await
        .is(200)
        .says("data:image");
    // A form of before the sign-in is not this session's.
    ada.press(&form).await.is(403);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn devices_are_seen_and_signed_out(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    let mut phone = Surfer::signed_in(&origin, ADA).await;
    let mut tablet = Surfer::signed_in(&origin, ADA).await;
    origin.register("eve@example.org").await;
    let mut eve = Surfer::signed_in(&origin, "eve@example.org").await;
    let page = ada.look("/account/devices").await;
    assert_eq!(page.html.matches("This device").count(), 1);
    let end = "/account/devices/end";
    assert_eq!(page.html.matches(&format!("action=\"{end}\"")).count(), 2);

    // Another's session, by a form of one's own.
    let others = phone.look("/account/devices").await.form(end);
    let form = |session: &str, of: &Filled| of.clone().with(&[("session", session)]);
    let foreign = form(others.value("session"), &eve_form(&mut eve).await);
    eve.press(&foreign).await.is(303);
    for surfer in [&mut ada, &mut phone, &mut tablet] {
        surfer.look("/account").await.is(200);
    }
    for nonsense in ["", "x"] {
        let unknown = form(nonsense, &page.form(end));
        ada.press(&unknown).await.is(404);
    }
    // The latest one is the first of the list.
    let seen = ada.press(&page.form(end)).await;
    ada.look(&seen.leads_to())
        .await
        .says("The device is signed out");
    tablet.look("/account").await.is(303);
    phone.look("/account").await.is(200);

    let seen = ada
        .fill("/account/devices", "/account/devices/end-others", &[])
        .await;
    ada.look(&seen.leads_to()).await.says("All other devices");
    phone.look("/account").await.is(303);
    let mut phone = Surfer::signed_in(&origin, ADA).await;
    ada.fill("/account/devices", "/account/devices/end-all", &[])
        .await
        .is(303);
    for surfer in [&mut ada, &mut phone] {
        surfer.look("/account").await.is(303);
    }
    eve.look("/account").await.is(200);
}

/// A form of hers to end a session, though she has one alone.
async fn eve_form(eve: &mut Surfer<'_>) -> Filled {
    let page = eve.look("/account/devices").await;
    let form = page.form("/account/devices/end-all");
    Filled {
        action: "/account/devices/end".to_owned(),
        ..form
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn events_are_read_page_by_page_and_those_of_others_never(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut ada = ada(&origin).await;
    origin.register("eve@example.org").await;
    Surfer::at(&origin)
        .sign_in("eve@example.org", "wrong horse battery")
        .await;
    for _ in 0..30 {
        Surfer::at(&origin)
            .sign_in(ADA, "wrong horse battery")
            .await
            .is(401);
    }
    let page = ada.look("/account/events").await;
    page.says("failed").says("Older");
    assert_eq!(page.html.matches("<strong>").count(), 25);
    let (_, rest) = page
        .html
        .split_once("/account/events?before=")
        .expect("older ones");
    let next = rest.split('"').next().expect("a cursor");
    let page = ada.look(&format!("/account/events?before={next}")).await;
    page.says("Account created").says("Back to the newest");
    assert_eq!(page.html.matches("<strong>").count(), 32 - 25);
    ada.look("/account/events?before=x").await.is(200);
}

//! Taking one's data along, and leaving, by the pages.

use serde_json::Value;
use sqlx::PgPool;

use crate::{
    pages_account::an_hour_passes,
    second_factor::change,
    support::{Origin, PASSWORD, count},
    surfer::Surfer,
};

const DATA: &str = "/account/data";
const EXPORT: &str = "/account/data/export";
const DELETE: &str = "/account/data/delete";
const ADA: &str = "Ada@example.org";
const ACTIVE: &str = "SELECT count(*) FROM auth.users WHERE status = 'active'";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whoever_is_signed_in_takes_their_own_data_along(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    origin.register("eve@example.org").await;
    let nobody = Surfer::at(&origin).look(EXPORT).await;
    assert!(nobody.leads_to().starts_with("/sign-in?"));
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    ada.look(DATA).await.is(200).says(EXPORT);
    let file = ada.look(EXPORT).await;
    file.is(200).says(ADA);
    assert_eq!(
        file.headers["content-disposition"],
        "attachment; filename=\"account.json\""
    );
    assert_eq!(file.headers["cache-control"], "no-store");
    assert_eq!(file.headers["x-content-type-options"], "nosniff");
    ada.look("/account/events").await.says("Data downloaded");
    let json: Value = serde_json::from_str(&file.html).expect("JSON");
    assert_eq!(json["account"][0]["email"], ADA);
    assert!(!file.html.contains("eve@"), "nothing of others");
    an_hour_passes(&db).await;
    let again = ada.look(EXPORT).await.leads_to();
    assert!(again.starts_with("/sign-in?again=1"), "{again}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_account_is_deleted_by_who_knows_its_password_and_means_it(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    for (fields, status, says) in [
        (
            [("password", PASSWORD), ("address", "")],
            400,
            "not the address",
        ),
        (
            [("password", PASSWORD), ("address", "eve@example.org")],
            400,
            "not the address",
        ),
        (
            [("password", "wrong horse battery"), ("address", ADA)],
            401,
            "id=\"password-mistake\"",
        ),
        (
            [("password", ""), ("address", ADA)],
            400,
            "id=\"password-mistake\"",
        ),
    ] {
        let seen = ada.fill(DATA, DELETE, &fields).await;
        seen.is(status).says(says);
        assert!(!seen.html.contains("horse"), "no password is repeated");
    }
    let form = ada.look(DATA).await.form(DELETE);
    let form = form.with(&[("password", PASSWORD), ("address", "ada@EXAMPLE.org")]);
    // A page of another site presses it.
    ada.press_at("https://evil.example", &form).await.is(403);
    // The sign-in was an hour ago.
    an_hour_passes(&db).await;
    let again = ada.press(&form).await.leads_to();
    let back = "/sign-in?again=1&returnUrl=%2Faccount%2Fdata%2Fdelete";
    assert_eq!(again, back);
    assert_eq!(count(&db, ACTIVE).await, 1);
    change(&db, "UPDATE auth.sessions SET authenticated_at = now()").await;
    let seen = ada.press(&form).await;
    seen.is(200).says("Your account is deleted");
    assert_eq!(ada.cookie("tollgate"), None);
    assert_eq!(count(&db, ACTIVE).await, 0);
    ada.look(DATA).await.is(303);
    ada.sign_in(ADA, PASSWORD).await.is(401);
}

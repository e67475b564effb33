//! What people see of their credits by the pages, and how they buy more.

use sqlx::PgPool;
use tests::Fault;

use crate::{
    shop::Shop,
    support::{Origin, count},
    surfer::Surfer,
};

const CREDITS: &str = "/account/credits";
const BUY: &str = "/account/credits/buy";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn credits_are_seen_with_what_they_were_used_for(db: PgPool) {
    let flags = ["--credits-signup-bonus=40", "--credits-daily=5"];
    let origin = Origin::start_with(&db, &flags).await;
    let person = origin.join("ada@example.org").await;
    let mut ada = Surfer::signed_in(&origin, "ada@example.org").await;
    let page = ada.look(CREDITS).await;
    page.is(200)
        .says("Nothing yet.")
        .says("Besides, 45 credits for free.")
        .says("Every day brings 5 credits");
    assert!(!page.html.contains("<svg"), "nothing to draw");
    assert!(!page.html.contains("Buy"), "nobody sells here");

    origin.spend(&person, 7.25, None).await;
    origin.register("eve@example.org").await;
    let eve = origin.login("eve@example.org").await;
    origin.spend(&eve, 1.125, None).await;
    let page = ada.look(CREDITS).await;
    page.is(200)
        .says("7.25 credits in all.")
        .says("<strong>a picture</strong>")
        .says("Used: 7.25 credits")
        .says("App: app");
    assert!(!page.html.contains("1.125"), "nothing of others");
    assert_eq!(page.html.matches("<rect").count(), 30);
    assert_eq!(
        page.html.matches("<rect x=\"583\" y=\"0\"").count(),
        1,
        "today"
    );
    assert_eq!(page.html.matches("class=\"none\"").count(), 29);
    assert_eq!(page.html.matches("<th scope=\"row\">").count(), 1);

    ada.language = "de";
    let page = ada.look(CREDITS).await;
    page.says("Insgesamt 7,25 Credits.")
        .says("Verbraucht: 7,25 Credits");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_long_history_is_read_page_by_page(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    for _ in 0..30 {
        origin.spend(&person, 0.001, None).await;
    }
    let mut ada = Surfer::signed_in(&origin, "ada@example.org").await;
    let page = ada.look(CREDITS).await;
    let lines = "Used: 0.001 credits";
    assert_eq!(page.html.matches(lines).count(), 25);
    let (_, rest) = page
        .html
        .split_once("/account/credits?before=")
        .expect("older ones");
    let next = rest.split('"').next().expect("a cursor");
    let page = ada.look(&format!("{CREDITS}?before={next}")).await;
    assert_eq!(page.html.matches(lines).count(), 5);
    page.says("Received").says("Back to the newest");
    for nonsense in ["x", "", "-1", "9999999999999999999"] {
        ada.look(&format!("{CREDITS}?before={nonsense}"))
            .await
            .is(200);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn credits_are_bought_on_a_page_of_stripes(db: PgPool) {
    let shop = Shop::open(&db).await;
    let mut ada = Surfer::signed_in(&shop.origin, "ada@example.org").await;
    let page = ada.look(CREDITS).await;
    page.says("350 credits").says("Buy for 3.50 EUR");
    let form = page.form(BUY);
    let gone = ada.press(&form).await;
    assert!(gone.is(200).leads_to().starts_with("https://"), "{gone:?}");
    let purchase = shop.purchases().await[0]["id"].to_string();
    let session = shop.stripe.session_of(purchase.trim_matches('"'));
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    shop.has(350_000).await;
    ada.look("/account/credits?done=bought")
        .await
        .says("as soon as the payment is confirmed")
        .says("Balance: 350 credits.");

    // What is not for sale, and a Stripe that is away.
    let unknown = form.clone().with(&[("package", "credits-1")]);
    ada.press(&unknown).await.is(404);
    ada.press(&form.clone().without("package")).await.is(400);
    shop.stripe.fail_next([Fault::Status(400)]);
    ada.press(&form).await.is(502).says("Nothing was charged");
    // A form of somebody else's session buys nothing.
    shop.origin.register("eve@example.org").await;
    let mut eve = Surfer::signed_in(&shop.origin, "eve@example.org").await;
    eve.press(&form).await.is(403);
    let bought = "SELECT count(*) FROM credits.purchases WHERE state = 'paid'";
    assert_eq!(count(&db, bought).await, 1);
}

//! What admins see and do by the pages, and that nobody else does.

use sqlx::PgPool;

use crate::{
    pages_account::an_hour_passes,
    support::{Origin, PASSWORD, Person, assert_ledger_adds_up, count},
    surfer::{Filled, Surfer},
};

const ADA: &str = "ada@example.org";
const ROOT: &str = "root@example.org";

/// Somebody, and an admin at the pages.
async fn scene<'a>(origin: &'a Origin, db: &PgPool) -> (Person, Surfer<'a>) {
    let ada = origin.join(ADA).await;
    origin.join_as_admin(db, ROOT).await;
    (ada, Surfer::signed_in(origin, ROOT).await)
}

/// Presses the button that does this to somebody.
async fn act(admin: &mut Surfer<'_>, of: &Person, what: &str) {
    let (page, action) = (user(of), format!("{}/change", user(of)));
    let forms = admin.look(&page).await.forms(&action);
    let mut forms = forms.into_iter();
    let form = forms.find(|form| form.value("do") == what);
    let seen = admin.press(&form.expect("a button")).await;
    admin.look(&seen.leads_to()).await.is(200).says("Done.");
}

fn user(person: &Person) -> String {
    format!("/admin/users/{}", person.id)
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn to_anybody_else_there_is_no_such_page(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (person, mut admin) = scene(&origin, &db).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let (of, credits) = (user(&person), format!("{}/credits", user(&person)));
    let pages = [
        "/admin",
        &of,
        &credits,
        "/admin/apps",
        "/admin/clients",
        "/admin/keys",
        "/admin/mail",
        "/admin/health",
    ];
    for page in pages {
        admin.look(page).await.is(200);
        ada.look(page).await.is(404).says("There is no such page");
        let nobody = Surfer::at(&origin).look(page).await;
        assert!(nobody.leads_to().starts_with("/sign-in?returnUrl="));
    }
    assert!(!ada.look("/account").await.html.contains("/admin"));
    admin.look("/account").await.says("href=\"/admin\"");

    // By a form of her own, of the shape of an admin's.
    let csrf = ada.look("/account").await.form("/account");
    let csrf = csrf.value("csrf").to_owned();
    for (action, fields) in [
        (format!("{of}/change"), [("do", "admin"), ("csrf", &csrf)]),
        (
            format!("{credits}/grant"),
            [("amount", "9"), ("csrf", &csrf)],
        ),
        (
            format!("{credits}/refund"),
            [("amount", "9"), ("csrf", &csrf)],
        ),
    ] {
        let page = admin.look(if action.ends_with("change") {
            &of
        } else {
            &credits
        });
        let form = page.await.form(&if action.ends_with("refund") {
            format!("{credits}/grant")
        } else {
            action.clone()
        });
        let form = Filled { action, ..form };
        ada.press(&form.with(&fields)).await.is(404);
    }
    let admins = "SELECT count(*) FROM auth.users WHERE role = 'admin'";
    assert_eq!(count(&db, admins).await, 1);
    for nobody in ["x", "00000000-0000-0000-0000-000000000000"] {
        admin.look(&format!("/admin/users/{nobody}")).await.is(404);
        let credits = format!("/admin/users/{nobody}/credits");
        admin.look(&credits).await.is(404);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn people_are_found_by_how_their_address_begins(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, mut admin) = scene(&origin, &db).await;
    origin.register("adam@example.org").await;
    let found = admin.look("/admin?q=ADA").await;
    found.says(ADA).says("adam@example.org").says(&user(&ada));
    assert!(!found.html.contains(&format!(">{ROOT}</a></strong>")));
    let found = admin.look(&format!("/admin?q={}", ada.id)).await;
    found.says(ADA);
    assert!(!found.html.contains("adam@"));
    for (asked, shown) in [
        ("%3Cb%3E", "value=\"&#60;b&#62;\""),
        ("a%00b", "value=\"\""),
    ] {
        admin
            .look(&format!("/admin?q={asked}"))
            .await
            .is(200)
            .says(shown);
    }
    admin.look("/admin?q=%25").await.says("Nobody.");
    for more in 0..50 {
        origin.register(&format!("many{more:02}@example.org")).await;
    }
    let page = admin.look("/admin?q=many").await;
    assert_eq!(page.html.matches("/admin/users/").count(), 50);
    assert!(!page.html.contains("after="), "that was the last page");
    origin.register("many99@example.org").await;
    let page = admin.look("/admin?q=many").await;
    let (_, next) = page
        .html
        .split_once("<a href=\"/admin?q=many&#38;after=")
        .expect("more");
    let next = next.split('"').next().expect("a place");
    let page = admin.look(&format!("/admin?q=many&after={next}")).await;
    page.says("many99@");
    assert_eq!(page.html.matches("/admin/users/").count(), 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_admin_signs_people_out_bans_them_and_makes_admins(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (person, mut admin) = scene(&origin, &db).await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    let page = admin.look(&user(&person)).await;
    page.says(ADA).says("Sessions").says("Activity");
    // Somebody else's session, by a form about her.
    let root = user(&origin.login(ROOT).await);
    let theirs = admin.look(&root).await.form(&format!("{root}/change"));
    let action = format!("{}/change", user(&person));
    admin.press(&Filled { action, ..theirs }).await.is(303);
    admin.look("/admin").await.is(200);
    let live = "SELECT count(*) FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
        WHERE u.email = 'root@example.org' AND s.revoked_at IS NULL";
    assert_eq!(count(&db, live).await, 3);
    // The newest session is the first of the list.
    act(&mut admin, &person, "end").await;
    ada.look("/account").await.is(303);
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    act(&mut admin, &person, "sign-out").await;
    ada.look("/account").await.is(303);
    act(&mut admin, &person, "admin").await;
    let mut ada = Surfer::signed_in(&origin, ADA).await;
    ada.look("/admin").await.is(200);
    ada.look("/account/events").await.says("Made an admin");
    act(&mut admin, &person, "user").await;
    ada.look("/admin").await.is(404);
    act(&mut admin, &person, "ban").await;
    ada.look("/account").await.is(303);
    ada.sign_in(ADA, PASSWORD).await.is(403).says("disabled");
    admin
        .look(&user(&person))
        .await
        .says("Banned")
        .says("By admin");
    act(&mut admin, &person, "unban").await;
    Surfer::signed_in(&origin, ADA).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_admin_does_nothing_to_themselves_and_changes_nothing_late(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, mut admin) = scene(&origin, &db).await;
    let own = origin.login(ROOT).await;
    let page = admin.look(&user(&own)).await;
    let action = format!("{}/change", user(&own));
    assert!(
        page.forms(&action)
            .iter()
            .all(|form| form.value("do") == "end")
    );
    let form = page.form(&action);
    for what in ["user", "ban"] {
        admin
            .press(&form.clone().with(&[("do", what)]))
            .await
            .is(403);
    }
    admin
        .press(&form.clone().with(&[("do", "nonsense")]))
        .await
        .is(404);
    let before = origin.spendable(&ada).await;
    let credits = format!("{}/credits", user(&ada));
    let [change, grant, refund] = [
        format!("{}/change", user(&ada)),
        format!("{credits}/grant"),
        format!("{credits}/refund"),
    ];
    for (page, shown, action) in [
        (user(&ada), &change, &change),
        (credits.clone(), &grant, &grant),
        (credits.clone(), &grant, &refund),
    ] {
        let form = admin.look(&page).await.form(shown);
        let fields = [("do", "ban"), ("amount", "1"), ("reason", "sorry")];
        let action = action.clone();
        let late = Filled { action, ..form }.with(&fields);
        an_hour_passes(&db).await;
        let again = admin.press(&late).await.leads_to();
        assert!(again.starts_with("/sign-in?again=1"), "{again}");
        let form = admin.look(&again).await.form("/sign-in");
        let back = admin.press(&form.with(&[("password", PASSWORD)])).await;
        // To the form's page, which is shown again.
        let there = admin.look(&back.leads_to()).await.leads_to();
        assert_eq!(there, page);
        admin.look(&there).await.is(200).says(ADA);
    }
    assert!((origin.spendable(&ada).await - before).abs() < 1e-9);
    let active = "SELECT count(*) FROM auth.users WHERE status = 'active' AND role <> 'admin'";
    assert_eq!(count(&db, active).await, 1);
}

/// Somebody is not there because an admin has looked at them.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_look_at_somebodys_credits_brings_them_no_credits_of_the_day(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-daily=5"]).await;
    let (ada, mut admin) = scene(&origin, &db).await;
    let of_days = "SELECT count(*) FROM credits.daily d JOIN auth.users u ON u.id = d.user_id
         WHERE u.email = 'ada@example.org'";
    let path = format!("{}/credits", user(&ada));
    admin.look(&path).await.is(200);
    assert_eq!(count(&db, of_days).await, 0);
    origin.get("/api/v1/credits/balance", &ada.access).await;
    assert_eq!(count(&db, of_days).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_admin_gives_credits_and_gives_charges_back_once(db: PgPool) {
    let flags = ["--credits-signup-bonus=10", "--credits-daily=0"];
    let origin = Origin::start_with(&db, &flags).await;
    let (ada, mut admin) = scene(&origin, &db).await;
    origin.spend(&ada, 4.0, None).await;
    let credits = format!("{}/credits", user(&ada));
    let (grant, refund) = (format!("{credits}/grant"), format!("{credits}/refund"));
    let page = admin.look(&credits).await;
    page.says("Credits of ada@example.org").says("a picture");
    let form = page.form(&grant);
    for (amount, reason, wrong) in [
        ("", "sorry", "amount"),
        ("x", "sorry", "amount"),
        ("-1", "sorry", "amount"),
        ("0", "sorry", "amount"),
        ("1,5", "sorry", "amount"),
        ("1e3", "sorry", "amount"),
        ("NaN", "sorry", "amount"),
        ("1.0001", "sorry", "amount"),
        ("1", "", "reason"),
    ] {
        let wish = form.clone().with(&[("amount", amount), ("reason", reason)]);
        let seen = admin.press(&wish).await;
        seen.is(400).says(&format!("id=\"{wrong}-mistake\""));
        let again = seen.form(&grant);
        assert_eq!(again.value("reason"), reason);
        assert_eq!(again.value("referenceId"), form.value("referenceId"));
    }
    let wish = form.with(&[("amount", "2.5"), ("reason", "<b>sorry</b>")]);
    for _ in 0..2 {
        let seen = admin.press(&wish).await;
        admin.look(&seen.leads_to()).await.says("Done.");
        assert!((origin.spendable(&ada).await - 8.5).abs() < 1e-9);
    }
    let other = wish.with(&[("amount", "3")]);
    admin.press(&other).await.is(422).says("done already");

    let page = admin.look(&credits).await;
    page.says("&#60;b&#62;sorry&#60;/b&#62;");
    let (_, id) = page
        .html
        .split_once("name=\"refund\" value=\"")
        .expect("a charge");
    let id = id.split('"').next().expect("an id");
    let form = admin
        .look(&format!("{credits}?refund={id}"))
        .await
        .form(&refund);
    let too_much = form.clone().with(&[("amount", "4.5"), ("reason", "oh")]);
    admin
        .press(&too_much)
        .await
        .is(422)
        .says("more than is left");
    let all = form.with(&[("amount", ""), ("reason", "oh")]);
    for _ in 0..2 {
        admin.press(&all).await.is(303);
        assert!((origin.spendable(&ada).await - 12.5).abs() < 1e-9);
    }
    let unknown = all
        .clone()
        .with(&[("transactionId", "x"), ("referenceId", "another")]);
    admin.press(&unknown).await.is(404);
    let none = all.without("transactionId");
    admin
        .press(&none)
        .await
        .is(400)
        .says("check what you have entered");
    for nothing in ["x", "00000000-0000-0000-0000-000000000000", "%3Cb%3Ewords"] {
        let look = format!("{credits}?refund={nothing}");
        admin.look(&look).await.is(404);
    }
    let line = admin
        .look(&format!("{credits}?refund={}", id.to_uppercase()))
        .await;
    line.says("a picture").says("Used: 4 credits");

    admin.language = "de";
    let form = admin.look(&credits).await.form(&grant);
    let dots = form.clone().with(&[("amount", "1.000"), ("reason", "oh")]);
    admin.press(&dots).await.is(400).says("amount-mistake");
    let comma = form.with(&[("amount", "1,5"), ("reason", "oh")]);
    admin.press(&comma).await.is(303);
    assert!((origin.spendable(&ada).await - 14.0).abs() < 1e-9);
    assert_ledger_adds_up(&db).await;
}

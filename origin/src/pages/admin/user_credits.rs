//! Somebody's credits, for an admin: to see, to give, and to give back.

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use shared::{
    api::{Body, Transaction},
    ids::UserId,
};
use uuid::Uuid;

use crate::{
    accounts, admin,
    app::App,
    credits::{self, Clerk, ledger},
    error::Error as Failure,
    front::Client,
    rim,
};

use super::{
    super::{
        Browser, Field, Form, Item, Mistake, Part, Sent,
        account::{history, ledger_line, standing},
        go,
    },
    Desk,
    user::{Id, named},
};

const A_PAGE: i64 = 25;

pub fn router() -> Router<App> {
    Router::new()
        .route("/admin/users/{id}/credits", get(show))
        .route("/admin/users/{id}/credits/grant", post(grant).get(back))
        .route("/admin/users/{id}/credits/refund", post(refund).get(back))
}

fn path(user: UserId) -> String {
    format!("/admin/users/{user}/credits")
}

async fn back(id: Id) -> Result<Response, Failure> {
    Ok(go(&path(named(id)?)))
}

async fn show(State(app): State<App>, browser: Browser, id: Id) -> Result<Response, Failure> {
    let charge = browser.asked("refund").to_owned();
    page(&app, &browser, named(id)?, &charge, None).await
}

/// A page with what went wrong. `charge` is the one to be given back, if any.
async fn page(
    app: &App,
    browser: &Browser,
    user: UserId,
    charge: &str,
    wrong: Option<(&Mistake, &Sent)>,
) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let before = browser.asked("before").parse().ok();
    let mut transaction = admin::look_at(app, admin, user).await?;
    let from = before.unwrap_or(i64::MAX);
    let lines = ledger::page(&mut transaction, A_PAGE, from, 0).await?;
    let charge = match charge {
        "" => None,
        id => {
            let id = id.parse().map_err(|_| credits::Error::NoSuchCharge)?;
            let charge = ledger::charge(&mut transaction, id).await?;
            Some(charge.ok_or(credits::Error::NoSuchCharge)?)
        }
    };
    let account = accounts::own(&mut transaction).await?;
    transaction.commit().await?;
    let balance = app.ledger.look(user).await?;
    let words = &browser.words.admin;
    let mut history = history(browser, &path(user), lines.next, before);
    let items = lines.transactions.iter();
    history.items = items
        .map(|line| match charge {
            None => refundable(browser, user, line),
            Some(_) => ledger_line(browser, line),
        })
        .collect();
    let mut page = Desk::Users
        .page_of(browser, (words.credits_of)(&account.email))
        .mistake(wrong.and_then(|(mistake, _)| mistake.beside(&["amount", "reason"])))
        .part(Part {
            links: vec![(format!("/admin/users/{user}"), words.to_user)],
            ..standing(browser, &balance)
        });
    page = page.part(match charge {
        None => Part {
            heading: Some(words.grant),
            says: vec![words.grant_says.to_owned()],
            forms: vec![moving(browser, user, "grant", wrong)],
            ..Part::default()
        },
        Some(charge) => {
            let form = moving(browser, user, "refund", wrong);
            Part {
                heading: Some(words.refund),
                says: vec![words.refund_says.to_owned()],
                items: vec![ledger_line(browser, &charge)],
                forms: vec![form.hidden("transactionId", charge.id.to_string())],
                ..Part::default()
            }
        }
    });
    Ok(page
        .part(history)
        .show(browser, wrong.map(|(mistake, _)| mistake)))
}

/// A form that moves credits. It has a name of its own, by which it does so once, however often its
/// button is pressed.
fn moving(
    browser: &Browser,
    user: UserId,
    what: &'static str,
    wrong: Option<(&Mistake, &Sent)>,
) -> Form {
    let words = &browser.words.admin;
    let typed = |name: &str| wrong.map_or("", |(_, sent)| sent.text(name));
    let mistake = |name: &str| wrong.and_then(|(mistake, _)| mistake.at(name));
    let reference = match typed("referenceId") {
        "" => rim::new_id::<Uuid>().to_string(),
        same => same.to_owned(),
    };
    let (label, button) = match what {
        "refund" => (words.amount_or_all, words.refund_button),
        _ => (words.amount, words.grant_button),
    };
    let mut amount = Field::text("amount", label, "off");
    if what == "refund" {
        amount = amount.optional();
    }
    let reason = Field::text("reason", words.reason, "off");
    browser
        .form(format!("{}/{what}", path(user)), button)
        .hidden("referenceId", reference)
        .field(amount.value(typed("amount")).mistake(mistake("amount")))
        .field(reason.value(typed("reason")).mistake(mistake("reason")))
}

/// A line, and a way to give it back where it is a charge.
fn refundable(browser: &Browser, user: UserId, line: &Transaction) -> Item {
    let is_charge = ["spend", "capture"].contains(&line.r#type.as_str());
    let form = Form::look(path(user), browser.words.admin.refund_button)
        .hidden("refund", line.id.to_string());
    Item {
        form: is_charge.then(|| form.quiet()),
        ..ledger_line(browser, line)
    }
}

async fn grant(
    State(app): State<App>,
    client: Client,
    id: Id,
    sent: Sent,
) -> Result<Response, Failure> {
    let (admin, user) = (clerk(&sent)?, named(id)?);
    let answer = async {
        let grant = order(&sent, user, &["amount", "reason", "referenceId"])?;
        app.ledger.grant(&grant, Clerk::Admin(admin, &client)).await
    };
    conclude(&app, &sent, user, answer.await).await
}

async fn refund(
    State(app): State<App>,
    client: Client,
    id: Id,
    sent: Sent,
) -> Result<Response, Failure> {
    let (admin, user) = (clerk(&sent)?, named(id)?);
    let answer = async {
        let fields = ["transactionId", "amount", "reason", "referenceId"];
        let refund = order(&sent, user, &fields)?;
        app.ledger
            .refund(&refund, Clerk::Admin(admin, &client))
            .await
    };
    conclude(&app, &sent, user, answer.await).await
}

/// What is to be done for this person, as the call in JSON has it.
fn order<T: Body>(sent: &Sent, user: UserId, fields: &[&str]) -> Result<T, Failure> {
    sent.body_with(fields, &[("userId", &user.to_string())])
}

/// An admin who has signed in not long ago.
fn clerk(sent: &Sent) -> Result<UserId, Failure> {
    sent.browser.admin()?;
    Ok(sent.browser.recent()?.caller.user)
}

async fn conclude<T>(
    app: &App,
    sent: &Sent,
    user: UserId,
    answer: Result<T, Failure>,
) -> Result<Response, Failure> {
    match answer {
        Ok(_) => Ok(go(&format!("{}?done=1", path(user)))),
        Err(failure) => {
            let mistake = Mistake::of(&sent.browser, failure)?;
            let charge = sent.text("transactionId");
            page(app, &sent.browser, user, charge, Some((&mistake, sent))).await
        }
    }
}

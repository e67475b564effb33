//! What somebody has, what they used it for, and more of it for money.

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use chrono::{Days, NaiveDate};
use shared::{
    api::{Balance, Package, Purchase, Transaction, Usage},
    credits::Credits,
};

use crate::{app::App, credits::ledger, error::Error as Failure, payments, rim};

use super::{
    super::{
        Mistake, Sent,
        chart::{Bar, Chart},
        go,
    },
    Browser, Item, Part, Section,
};

const PATH: &str = Section::Credits.path();
const BUY: &str = "/account/credits/buy";
const A_PAGE: i64 = 25;
const DAYS: u64 = 30;

pub fn router() -> Router<App> {
    Router::new()
        .route(PATH, get(show))
        .route(BUY, post(buy).get(async || go(PATH)))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    page(&app, &browser, None).await
}

async fn page(
    app: &App,
    browser: &Browser,
    mistake: Option<&Mistake>,
) -> Result<Response, Failure> {
    let user = browser.member()?.caller.user;
    let words = &browser.words.account;
    let balance = app.ledger.balance(user, None).await?;
    let packages = payments::offered(app).await?;
    let before = browser.asked("before").parse().ok();
    let today = rim::now().date_naive();
    let first = today - Days::new(DAYS - 1);
    let mut transaction = app.db.as_user(user).await?;
    let usage = ledger::usage(&mut transaction, first, today, false, true).await?;
    let from = before.unwrap_or(i64::MAX);
    let page = ledger::page(&mut transaction, A_PAGE, from, 0).await?;
    transaction.commit().await?;
    let mut history = history(browser, PATH, page.next, before);
    let items = page.transactions.iter();
    history.items = items.map(|line| self::line(browser, line)).collect();
    if history.items.is_empty() {
        history.says.push(words.history_none.to_owned());
    }
    let mut page = Section::Credits
        .page(browser)
        .mistake(mistake.and_then(|mistake| mistake.beside(&[])))
        .part(standing(browser, &balance));
    if !packages.is_empty() {
        page = page.part(Part {
            heading: Some(words.buy),
            items: packages.iter().map(|offer| item(browser, offer)).collect(),
            ..Part::default()
        });
    }
    let page = page.part(used(browser, &usage, first, today)).part(history);
    Ok(page.show(browser, mistake))
}

/// What somebody has.
pub fn standing(browser: &Browser, balance: &Balance) -> Part {
    let words = &browser.words.account;
    let amount = |credits| (words.amount)(credits);
    let mut says = vec![(words.has)(&amount(balance.balance))];
    let (free, daily) = (balance.free_credits_remaining, balance.daily_free_credits);
    if free > Credits::ZERO {
        says.push((words.has_free)(&amount(free)));
    }
    if daily > Credits::ZERO {
        says.push((words.daily)(&amount(daily)));
    }
    if balance.held > Credits::ZERO {
        says.push((words.holds)(&amount(balance.held)));
    }
    Part {
        says,
        ..Part::default()
    }
}

/// The heading of a list of what happened, with the ways to what is older and newest.
pub fn history(browser: &Browser, path: &str, next: Option<i64>, before: Option<i64>) -> Part {
    let words = &browser.words.account;
    let mut links = Vec::new();
    links.extend(next.map(|next| (format!("{path}?before={next}"), words.older)));
    links.extend(before.map(|_| (path.to_owned(), words.newest)));
    Part {
        heading: Some(words.history),
        links,
        ..Part::default()
    }
}

/// A line of the ledger.
pub fn line(browser: &Browser, line: &Transaction) -> Item {
    let words = &browser.words.account;
    let kind = words.kinds.of(&line.r#type);
    let description = line.description.as_deref().filter(|text| !text.is_empty());
    let mut lines = vec![(words.moment)(line.created_at)];
    lines.extend(line.app_id.as_deref().map(words.by_app));
    let (paid, free) = (line.balance_after, line.free_credits_after);
    let (paid, free) = ((words.amount)(paid), (words.amount)(free));
    lines.push((words.after)(&paid, &free));
    let amount = (words.amount)(line.amount);
    let (title, mark) = match description {
        Some(description) => (description, format!("{kind}: {amount}")),
        None => (kind, amount),
    };
    Item {
        title: title.to_owned(),
        marks: vec![mark],
        lines,
        ..Item::default()
    }
}

/// A chart of what was used, day by day.
fn used(browser: &Browser, usage: &[Usage], first: NaiveDate, last: NaiveDate) -> Part {
    let words = &browser.words.account;
    let heading = Some(words.used);
    if usage.is_empty() {
        return Part {
            heading,
            says: vec![words.used_nothing.to_owned()],
            ..Part::default()
        };
    }
    let bars = first.iter_days().take_while(|day| *day <= last).map(|day| {
        let mut of_day = usage.iter().filter(|line| line.day == Some(day));
        let value = of_day.next().map_or(Credits::ZERO, |line| line.spent);
        Bar {
            name: (words.day)(day),
            value,
            text: (words.amount)(value),
        }
    });
    let thousandths = usage.iter().map(|line| line.spent.thousandths());
    let all = Credits::from_thousandths(thousandths.sum()).unwrap_or(Credits::MAX);
    Part {
        heading,
        chart: Some(Chart {
            title: words.used,
            says: (words.used_says)(&(words.amount)(all)),
            summary: words.as_table,
            heads: (words.a_day, words.used_that_day),
            from: (words.day)(first),
            to: (words.day)(last),
            bars: bars.collect(),
        }),
        below: None,
        says: vec![(words.used_says)(&(words.amount)(all))],
        ..Part::default()
    }
}

fn item(browser: &Browser, offer: &Package) -> Item {
    let words = &browser.words.account;
    let price = (words.price)(offer.price_cents, &offer.currency);
    Item {
        title: (words.amount)(offer.credits),
        form: Some(
            browser
                .form(BUY, (words.buy_for)(&price))
                .hidden("package", &offer.id),
        ),
        ..Item::default()
    }
}

async fn buy(State(app): State<App>, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let user = browser.member()?.caller.user;
    let home = format!("{}{PATH}", app.config.public_url.as_str());
    let thanks = format!("{home}?done=bought");
    let back = [
        ("successUrl", thanks.as_str()),
        ("cancelUrl", home.as_str()),
    ];
    let package = [("packageId", sent.text("package"))];
    let wish: Purchase = sent.body_with(&[], &[package.as_slice(), back.as_slice()].concat())?;
    let checkout = match payments::buy(&app, user, &wish).await {
        Ok(checkout) => checkout,
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            return page(&app, browser, Some(&mistake)).await;
        }
    };
    let words = &browser.words.account;
    Ok(browser.go_on(&checkout.checkout_url, words.paying, words.paying_says))
}

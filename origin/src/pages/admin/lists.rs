//! What there is of apps, clients, keys and mail, and how this process is: to look at. An operator
//! changes them from the command line.

use axum::{Router, extract::State, response::Response, routing::get};
use chrono::{DateTime, Utc};

use crate::{admin, app::App, apps, error::Error as Failure, keys, oidc};

use super::{
    super::{Browser, Item, Part},
    Desk,
};

pub fn router() -> Router<App> {
    Router::new()
        .route(Desk::Apps.path(), get(apps))
        .route(Desk::Clients.path(), get(clients))
        .route(Desk::Keys.path(), get(keys))
        .route(Desk::Mail.path(), get(mail))
        .route(Desk::Health.path(), get(health))
}

/// A page of one list.
fn list(browser: &Browser, desk: Desk, says: &'static str, items: Vec<Item>) -> Response {
    let mut says = vec![says.to_owned()];
    if items.is_empty() {
        says.push(browser.words.admin.none.to_owned());
    }
    let part = Part {
        says,
        items,
        ..Part::default()
    };
    desk.page(browser).part(part).show(browser, None)
}

/// That something is worth nothing any more, if so.
fn disabled(browser: &Browser, since: Option<DateTime<Utc>>) -> Option<String> {
    since.map(|_| browser.words.admin.is_disabled.to_owned())
}

async fn apps(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let mut transaction = admin::as_admin(&app, admin).await?;
    let apps = apps::all(&mut transaction).await?;
    let words = browser.words;
    let items = apps.into_iter().map(|app| {
        let since = (words.account.moment)(app.created_at);
        Item {
            marks: Vec::from_iter(disabled(&browser, app.disabled_at)),
            lines: vec![
                app.id,
                app.origins.join(", "),
                app.permissions.join(", "),
                (words.admin.since)(&since),
            ],
            title: app.name,
            ..Item::default()
        }
    });
    let items = items.collect();
    Ok(list(&browser, Desk::Apps, words.admin.apps_says, items))
}

async fn clients(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let mut transaction = admin::as_admin(&app, admin).await?;
    let clients = oidc::all(&mut transaction).await?;
    let words = &browser.words.admin;
    let items = clients.into_iter().map(|client| {
        let mut marks = Vec::from_iter(disabled(&browser, client.disabled_at));
        marks.extend(client.trusted.then(|| words.is_trusted.to_owned()));
        Item {
            title: client.name,
            marks,
            lines: vec![
                client.id,
                client.redirect_uris.join(", "),
                client.grant_types.join(", "),
                format!("{} · {}", client.auth_method, client.id_token_alg),
            ],
            ..Item::default()
        }
    });
    let items = items.collect();
    Ok(list(&browser, Desk::Clients, words.clients_says, items))
}

async fn keys(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let mut transaction = admin::as_admin(&app, admin).await?;
    let keys = keys::list(&mut transaction).await?;
    let words = browser.words;
    let items = keys.into_iter().map(|key| {
        let moment = words.account.moment;
        let mut lines = vec![(words.admin.signs_from)(&moment(key.activate_at))];
        let goes = key.remove_at.map(moment);
        lines.extend(goes.as_deref().map(words.admin.goes_at));
        Item {
            title: key.kid,
            marks: vec![key.kind.as_str().to_owned(), key.state.as_str().to_owned()],
            lines,
            ..Item::default()
        }
    });
    let items = items.collect();
    Ok(list(&browser, Desk::Keys, words.admin.keys_says, items))
}

async fn mail(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let outbox = admin::outbox(&app, admin).await?;
    let words = browser.words;
    let moment = words.account.moment;
    let waiting = outbox.counts.into_iter().map(|kind| Item {
        title: kind.kind,
        marks: vec![kind.waiting.to_string()],
        lines: vec![(words.admin.oldest)(&moment(kind.oldest_at))],
        ..Item::default()
    });
    let stuck = outbox.stuck.into_iter().map(|mail| Item {
        title: mail.masked,
        marks: vec![(words.admin.tries)(mail.attempts)],
        lines: vec![mail.kind, (words.admin.next_try)(&moment(mail.due_at))],
        ..Item::default()
    });
    let (waiting, stuck): (Vec<_>, Vec<_>) = (waiting.collect(), stuck.collect());
    let mut says = vec![words.admin.mail_says.to_owned()];
    if waiting.is_empty() {
        says.push(words.admin.none.to_owned());
    }
    let mut page = Desk::Mail.page(&browser).part(Part {
        says,
        items: waiting,
        ..Part::default()
    });
    if !stuck.is_empty() {
        page = page.part(Part {
            heading: Some(words.admin.stuck),
            items: stuck,
            ..Part::default()
        });
    }
    Ok(page.show(&browser, None))
}

async fn health(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let health = admin::health(&app, admin).await?;
    let words = browser.words;
    let moment = words.account.moment;
    let fact = |title: &'static str, value: String| Item {
        title: title.to_owned(),
        marks: vec![value],
        ..Item::default()
    };
    let busy = (health.connections as usize).saturating_sub(health.idle);
    let verified = match health.verified {
        Some(seen) => (words.admin.verified_at)(&moment(seen.at), seen.differences),
        None => words.admin.not_yet.to_owned(),
    };
    let age = match health.revocations_age {
        Some(age) => (words.admin.seconds)(age.as_secs()),
        None => words.admin.not_yet.to_owned(),
    };
    let items = vec![
        fact(
            words.admin.connections,
            format!("{busy} / {}", health.most_connections),
        ),
        fact(words.admin.ledger_queue, health.ledger_queue.to_string()),
        fact(words.admin.ledger_verified, verified),
        fact(words.admin.revocations, health.revocations.to_string()),
        fact(words.admin.revocations_age, age),
    ];
    Ok(list(&browser, Desk::Health, words.admin.health_says, items))
}

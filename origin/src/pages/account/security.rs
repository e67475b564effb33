//! The password and the second factor. What the calls allow to a recent sign-in alone asks for one here
//! too: the front leads there, and back.

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use shared::{
    api::{ChangePassword, RecoveryCodes, ShowCode},
    problem::Code,
};

use crate::{accounts, app::App, error::Error as Failure, front::Client, second_factor};

use super::{
    super::{Field, Form, Mistake, Sent, go},
    Browser, Part, Section,
};

const PATH: &str = Section::Security.path();
const PASSWORD: &str = "/account/security/password";
const BEGIN: &str = "/account/security/factor-begin";
const CONFIRM: &str = "/account/security/factor-confirm";
const REMOVE: &str = "/account/security/factor-remove";
const CODES: &str = "/account/security/codes";

pub fn router() -> Router<App> {
    let back = async || go(PATH);
    Router::new()
        .route(PATH, get(show))
        .route(PASSWORD, post(change_password).get(back))
        .route(BEGIN, post(begin).get(back))
        .route(CONFIRM, post(confirm).get(back))
        .route(REMOVE, post(remove).get(back))
        .route(CODES, post(new_codes).get(back))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    page(&app, &browser, None).await
}

/// What went wrong, and in which form.
type Wrong<'a> = Option<(&'static str, &'a Mistake)>;

async fn page(app: &App, browser: &Browser, wrong: Wrong<'_>) -> Result<Response, Failure> {
    let visitor = browser.member()?;
    let mut transaction = app.db.as_user(visitor.caller.user).await?;
    let has_password = accounts::has_password(&mut transaction).await?;
    let (is_on, codes) = second_factor::standing(&mut transaction).await?;
    transaction.commit().await?;
    let mistake = wrong.map(|(_, mistake)| mistake);
    let of = |form| wrong.filter(|(wrong, _)| *wrong == form).map(|(_, m)| m);
    let password = password(browser, has_password, of(PASSWORD));
    let factor = if is_on {
        guarded(browser, codes, of(REMOVE))
    } else {
        let words = &browser.words.account;
        Part {
            heading: Some(words.factor),
            says: vec![words.factor_off.to_owned()],
            forms: vec![browser.form(BEGIN, words.factor_begin)],
            ..Part::default()
        }
    };
    let text = mistake.and_then(|mistake| match mistake.code {
        // These stand at their fields.
        Code::InvalidCredentials | Code::PasswordTooCommon => None,
        _ => mistake.text,
    });
    let page = Section::Security.page(browser);
    let page = page.mistake(text).part(password).part(factor);
    Ok(page.show(browser, mistake))
}

fn password(browser: &Browser, has_password: bool, mistake: Option<&Mistake>) -> Part {
    let words = browser.words;
    let heading = Some(words.account.password);
    if !has_password {
        let links = vec![("/sign-in/forgot".to_owned(), words.account.set_password)];
        return Part {
            heading,
            says: vec![words.account.no_password.to_owned()],
            links: if browser.has_mail() {
                links
            } else {
                Vec::new()
            },
            ..Part::default()
        };
    }
    let wrong = |name: &str, code: Code, text: &'static str| {
        let mistake = mistake?;
        mistake.at(name).or((mistake.code == code).then_some(text))
    };
    let is_wrong = wrong(
        "currentPassword",
        Code::InvalidCredentials,
        words.links.wrong_password,
    );
    let is_common = wrong(
        "newPassword",
        Code::PasswordTooCommon,
        words.mistakes.common_password,
    );
    let current = words.account.current_password;
    let new = words.common.new_password;
    let email = browser.visitor().map_or("", |visitor| &visitor.email);
    let form = browser
        .form(PASSWORD, words.account.change_password)
        .about(email)
        .field(Field::password("currentPassword", current, "current-password").mistake(is_wrong))
        .field(Field::password("newPassword", new, "new-password").mistake(is_common))
        .field(Field::check("revokeOthers", words.account.end_others, true));
    Part {
        heading,
        forms: vec![form],
        ..Part::default()
    }
}

fn guarded(browser: &Browser, codes: i64, mistake: Option<&Mistake>) -> Part {
    let words = &browser.words.account;
    let new_codes = browser.form(CODES, words.codes_new).quiet();
    let remove = browser
        .form(REMOVE, words.factor_remove)
        .field(code(browser, mistake))
        .grave();
    Part {
        heading: Some(words.factor),
        says: vec![(words.factor_on)(codes)],
        forms: vec![new_codes, remove],
        ..Part::default()
    }
}

/// A code is wrong, whatever is wrong with it.
fn code(browser: &Browser, mistake: Option<&Mistake>) -> Field {
    let words = browser.words;
    let wrong = mistake.and_then(|mistake| mistake.at("code"));
    let wrong = wrong.map(|_| words.mistakes.code);
    Field::text("code", words.account.factor_code, "one-time-code").mistake(wrong)
}

async fn change_password(
    State(app): State<App>,
    client: Client,
    sent: Sent,
) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.member()?.caller;
    let answer = async {
        let fields = ["currentPassword", "newPassword", "revokeOthers"];
        let body: ChangePassword = sent.body(&fields)?;
        accounts::change_password(&app, caller, body, &client).await
    };
    match answer.await {
        Ok(()) => Ok(go(&format!("{PATH}?done=password"))),
        Err(failure) => again(&app, browser, PASSWORD, failure).await,
    }
}

async fn again(
    app: &App,
    browser: &Browser,
    form: &'static str,
    failure: Failure,
) -> Result<Response, Failure> {
    let mistake = Mistake::of(browser, failure)?;
    page(app, browser, Some((form, &mistake))).await
}

async fn begin(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.recent()?.caller;
    let enrolment = second_factor::begin(&app, caller, &client).await?;
    let words = &browser.words.account;
    // Groups of four are easier to type, and apps take them.
    let secret: Vec<&str> = (0..enrolment.secret.len())
        .step_by(4)
        .filter_map(|at| enrolment.secret.get(at..at + 4))
        .collect();
    let scan = Part {
        heading: Some(words.factor_begin),
        says: vec![words.factor_scan.to_owned()],
        picture: Some((enrolment.qr_code, words.factor_picture)),
        below: Some(words.factor_type),
        secrets: vec![secret.join(" ")],
        forms: vec![confirmation(browser, None)],
        ..Part::default()
    };
    let page = Section::Security.page(browser);
    Ok(page.part(scan).show(browser, None))
}

fn confirmation(browser: &Browser, mistake: Option<&Mistake>) -> Form {
    let form = browser.form(CONFIRM, browser.words.account.factor_confirm);
    form.field(code(browser, mistake))
}

async fn confirm(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.member()?.caller;
    let answer = async {
        let body: ShowCode = sent.body(&["code"])?;
        second_factor::confirm(&app, caller, &body, &client).await
    };
    match answer.await {
        Ok(codes) => Ok(show_codes(browser, codes)),
        Err(failure) if failure.problem().code == Code::NotFound => {
            Ok(go(&format!("{PATH}?done=factor-over")))
        }
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            // The secret is not shown again: the app has it, or it is begun anew.
            let words = &browser.words.account;
            let page = Section::Security.page(browser).part(Part {
                heading: Some(words.factor_begin),
                forms: vec![confirmation(browser, Some(&mistake))],
                links: vec![(PATH.to_owned(), browser.words.common.back)],
                ..Part::default()
            });
            Ok(page.show(browser, Some(&mistake)))
        }
    }
}

fn show_codes(browser: &Browser, codes: RecoveryCodes) -> Response {
    let words = &browser.words.account;
    let page = Section::Security.page(browser).part(Part {
        heading: Some(words.codes),
        says: vec![words.codes_says.to_owned()],
        secrets: codes.recovery_codes,
        links: vec![(PATH.to_owned(), words.codes_kept)],
        ..Part::default()
    });
    page.show(browser, None)
}

async fn remove(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.recent()?.caller;
    let answer = async {
        let body: ShowCode = sent.body(&["code"])?;
        second_factor::remove(&app, caller, &body, &client).await
    };
    match answer.await {
        Ok(()) => Ok(go(&format!("{PATH}?done=factor-off"))),
        Err(failure) => again(&app, browser, REMOVE, failure).await,
    }
}

async fn new_codes(
    State(app): State<App>,
    client: Client,
    sent: Sent,
) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.recent()?.caller;
    let codes = second_factor::new_codes(&app, caller, &client).await?;
    Ok(show_codes(browser, codes))
}

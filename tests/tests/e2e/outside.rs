//! Signing in by a provider that we have not written, through the edge: `oidc-provider` from npm, its
//! pages and all, and a browser that walks through them.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Url, header, redirect};
use serde_json::{Value, json};
use tests::{Answer, Client, Issuer, root};

use crate::rig::{LOGIN, PASSWORD, Person, mailed};

const ACCOUNTS: &str = "/api/v1/auth/accounts";
const MAGIC_LINK: &str = "/api/v1/auth/magic-link";

/// One for all tests, which the origin finds where it is configured. It ends with this process.
static PROVIDER: LazyLock<Child> = LazyLock::new(|| {
    let mut child = Command::new(root().join("node_modules/.bin/node"))
        .arg(root().join("tests/tests/e2e/outside.mjs"))
        .args([configured(), Client::of_stack().url("")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node is installed");
    let said = BufReader::new(child.stdout.as_mut().expect("it is piped"));
    let mut lines = said.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "listening"), "no provider");
    child
});

/// The origin's `OIDC_PROVIDERS`.
fn configured() -> String {
    env::var("STACK_OIDC_PROVIDERS").expect("these tests are run by `cargo xtask test`")
}

/// `POST` sends a browser there.
fn departure() -> Result<String> {
    let providers: Value = serde_json::from_str(&configured())?;
    let id = providers[0]["id"].as_str().context("a provider")?;
    Ok(format!("/api/v1/auth/oauth/{id}"))
}

/// A name at the provider that nobody has had yet.
fn new_name(kind: &str) -> String {
    format!("{kind}-{}", Issuer::new("", 0).claims().sub)
}

/// What a page shows.
struct Page {
    status: u16,
    leads_to: Option<String>,
    text: String,
}

impl Page {
    #[track_caller]
    fn says(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(text), "{}", self.text);
    }
}

/// A browser: it keeps its cookies, which no port keeps apart, and goes nowhere by itself.
struct Browser {
    edge: Client,
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Result<Self> {
        LazyLock::force(&PROVIDER);
        let nowhere = redirect::Policy::none();
        Ok(Self {
            edge: Client::of_stack(),
            http: reqwest::Client::builder().redirect(nowhere).build()?,
            cookies: BTreeMap::new(),
        })
    }

    fn is_signed_in(&self) -> bool {
        self.cookies.contains_key("tollgate")
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let cookies: Vec<_> = self.cookies.iter().collect();
        let cookies = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        self.http
            .request(method, url)
            .header(header::COOKIE, cookies)
    }

    fn keep(&mut self, headers: &header::HeaderMap) {
        let set = headers.get_all(header::SET_COOKIE).iter();
        for cookie in set.filter_map(|cookie| cookie.to_str().ok()) {
            let pair = cookie.split(';').next().unwrap_or_default();
            match pair.split_once('=') {
                Some((name, "")) => self.cookies.remove(name),
                Some((name, value)) => self.cookies.insert(name.to_owned(), value.to_owned()),
                None => None,
            };
        }
    }

    async fn show(&mut self, request: RequestBuilder) -> Result<Page> {
        let answer = request.send().await?;
        self.keep(answer.headers());
        let leads_to = answer.headers().get(header::LOCATION);
        let leads_to =
            leads_to.map(|url| Ok::<_, anyhow::Error>(answer.url().join(url.to_str()?)?));
        Ok(Page {
            status: answer.status().as_u16(),
            leads_to: leads_to.transpose()?.map(String::from),
            text: answer.text().await?,
        })
    }

    async fn open(&mut self, url: &str) -> Result<Page> {
        self.show(self.request(Method::GET, url)).await
    }

    /// Asks the edge for something, as a script of an app's page does.
    async fn ask(&mut self, path: &str, body: &Value, bearer: Option<&str>) -> Result<Answer> {
        let mut request = self.request(Method::POST, &self.edge.url(path)).json(body);
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        let answer = Answer::to(request).await?;
        self.keep(&answer.headers);
        Ok(answer)
    }

    /// The provider's page, for whatever `body` wants of it.
    async fn depart(&mut self, body: &Value, bearer: Option<&str>) -> Result<String> {
        let answer = self.ask(&departure()?, body, bearer).await?.ok();
        Ok(answer.body["url"].as_str().context("a page")?.to_owned())
    }

    /// Signs in at the provider and agrees to what it asks; gives the URL that leads back to us.
    async fn agree(&mut self, page: &str, name: &str) -> Result<String> {
        let mut page_url = page.to_owned();
        let mut page = self.open(&page_url).await?;
        // Five pages or so.
        for _ in 0..10 {
            page = match page.leads_to {
                Some(url) if url.starts_with(&self.edge.url("/")) => return Ok(url),
                Some(url) => {
                    page_url = url;
                    self.open(&page_url).await?
                }
                None => {
                    let is_login = page.text.contains(r#"name="login""#);
                    let form = if is_login {
                        format!("prompt=login&login={name}&password=any")
                    } else {
                        "prompt=consent".to_owned()
                    };
                    let request = self.request(Method::POST, &page_url).body(form);
                    let form = "application/x-www-form-urlencoded";
                    self.show(request.header(header::CONTENT_TYPE, form))
                        .await?
                }
            };
        }
        anyhow::bail!("the provider leads nowhere: {} {}", page.status, page.text)
    }

    /// Goes to the provider to sign in, and comes back as `name`.
    async fn sign_in(&mut self, name: &str) -> Result<Page> {
        let page = self.depart(&json!({}), None).await?;
        let back = self.agree(&page, name).await?;
        self.open(&back).await
    }
}

/// Who has a person's address at the provider.
fn same_at_provider(person: &Person) -> &str {
    let name = person.email.strip_suffix("@example.org");
    name.expect("everybody's address is there")
}

#[tokio::test]
async fn a_newcomer_signs_in_by_a_provider_and_is_the_same_person_the_next_time() -> Result<()> {
    let name = new_name("ada");
    let email = format!("{name}@example.org");
    let mut browser = Browser::new()?;
    let page = browser.edge.url("/health?welcome");
    for _ in 0..2 {
        browser = Browser::new()?;
        let there = browser.depart(&json!({"redirectTo": page}), None).await?;
        let back = browser.agree(&there, &name).await?;
        let answer = browser.open(&back).await?;
        assert_eq!(answer.status, 303, "{}", answer.text);
        assert_eq!(answer.leads_to.as_ref(), Some(&page));
        assert!(browser.is_signed_in());
    }

    // A mail to the address leads to the account too, and leaves it its link: only the links of an
    // address that nobody had verified would go.
    let body = json!({"email": email});
    let _ = browser.ask(MAGIC_LINK, &body, None).await?.ok();
    let mark = "magic-link/verify?token=";
    let token = mailed(&email, mark).await?;
    let path = format!("{MAGIC_LINK}/verify");
    let body = json!({"token": token});
    let answer = browser.ask(&path, &body, None).await?.ok();
    let ada = Person {
        access: answer.body["accessToken"]
            .as_str()
            .context("a token")?
            .to_owned(),
        refresh: String::new(),
        edge: browser.edge,
        email,
    };
    assert_eq!(answer.body["user"]["email"], ada.email, "{answer:?}");
    assert_eq!(answer.body["user"]["emailVerified"], true, "{answer:?}");
    let accounts = ada.get(ACCOUNTS).await?.ok().body;
    assert_eq!(accounts.as_array().map(Vec::len), Some(1), "{accounts}");
    assert_eq!(accounts[0]["email"], ada.email);
    let sessions = ada.get("/api/v1/auth/sessions").await?.ok().body;
    assert_eq!(sessions.as_array().map(Vec::len), Some(3), "{sessions}");
    Ok(())
}

#[tokio::test]
async fn who_is_signed_in_links_an_account_signs_in_by_it_and_removes_it() -> Result<()> {
    let ada = Person::sign_up().await?;
    let grace = new_name("grace");
    let mut browser = Browser::new()?;
    let link = json!({"link": true});
    let there = browser.depart(&link, Some(&ada.access)).await?;
    let back = browser.agree(&there, &grace).await?;
    browser
        .open(&back)
        .await?
        .says(200, "The account is linked");
    assert!(!browser.is_signed_in());

    let accounts = ada.get(ACCOUNTS).await?.ok().body;
    assert_eq!(accounts[0]["email"], format!("{grace}@example.org"));
    let mut browser = Browser::new()?;
    browser
        .sign_in(&grace)
        .await?
        .says(200, "You are signed in");
    let sessions = ada.get("/api/v1/auth/sessions").await?.ok().body;
    assert_eq!(sessions.as_array().map(Vec::len), Some(2), "{sessions}");

    let path = format!(
        "{ACCOUNTS}/{}",
        accounts[0]["id"].as_str().context("an id")?
    );
    let unlink = || ada.edge.delete(&path).bearer_auth(&ada.access);
    let _ = Answer::to(unlink()).await?.ok();
    Answer::to(unlink()).await?.is_problem(404, "NOT_FOUND");
    assert_eq!(ada.get(ACCOUNTS).await?.ok().body, json!([]));
    Ok(())
}

#[tokio::test]
async fn a_way_back_is_good_once_and_in_the_browser_that_went() -> Result<()> {
    const NOT_HERE: &str = "This sign-in was not begun here";
    let (mut victim, mut mallory) = (Browser::new()?, Browser::new()?);
    // Whose account would be linked to mallory's, and who would be signed in as mallory.
    let ada = new_name("ada");
    let account = Person::sign_up().await?;
    let link = json!({"link": true});
    let lure = mallory.depart(&link, Some(&account.access)).await?;
    let back = victim.agree(&lure, &ada).await?;
    victim.open(&back).await?.says(400, NOT_HERE);
    let _own = victim.depart(&json!({}), None).await?;
    victim.open(&back).await?.says(400, NOT_HERE);
    assert_eq!(account.get(ACCOUNTS).await?.ok().body, json!([]));

    let there = mallory.depart(&json!({}), None).await?;
    let lure = mallory.agree(&there, &new_name("mallory")).await?;
    victim.open(&lure).await?.says(400, NOT_HERE);
    assert!(!victim.is_signed_in());
    mallory.open(&lure).await?.says(200, "You are signed in");
    mallory.open(&lure).await?.says(400, NOT_HERE);

    // Who sends somebody back says who it is (RFC 9207), and is believed nothing as another one.
    let there = victim.depart(&json!({}), None).await?;
    let back = Url::parse(&victim.agree(&there, &ada).await?)?;
    let others = back.query_pairs().map(|(name, value)| match &*name {
        "iss" => (name, "https://other.example".into()),
        _ => (name, value),
    });
    let mut mixed_up = back.clone();
    mixed_up.query_pairs_mut().clear().extend_pairs(others);
    assert_ne!(mixed_up, back);
    victim.open(mixed_up.as_str()).await?.says(400, NOT_HERE);
    victim.open(back.as_str()).await?.says(400, NOT_HERE);
    assert!(!victim.is_signed_in());
    Ok(())
}

#[tokio::test]
async fn nobody_is_led_to_a_page_of_strangers() -> Result<()> {
    let mut browser = Browser::new()?;
    let ours = browser.edge.url("");
    for evil in [
        "https://app.example.com.evil.test",
        "//evil",
        "javascript:alert(1)",
        &format!("{ours}.evil.test/"),
        &format!("{ours}@evil.test/"),
        &format!("https://evil.test/{ours}"),
    ] {
        let wish = json!({"redirectTo": evil});
        let answer = browser.ask(&departure()?, &wish, None).await?;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), ["/redirectTo"], "{evil}");
    }
    assert!(browser.cookies.is_empty(), "nobody was sent anywhere");
    Ok(())
}

#[tokio::test]
async fn an_address_that_the_provider_has_not_verified_opens_and_makes_nothing() -> Result<()> {
    const UNVERIFIED: &str = "The provider has not verified";
    let mut browser = Browser::new()?;
    let name = new_name("ada");
    let claimant = format!("unverified-{name}");
    browser.sign_in(&claimant).await?.says(403, UNVERIFIED);
    let body = json!({"email": format!("{name}@example.org"), "password": PASSWORD});
    let registered = browser.ask("/api/v1/auth/register", &body, None).await?;
    assert_eq!(registered.status, 201, "nobody has the address yet");

    let ada = Person::sign_up().await?;
    let mut browser = Browser::new()?;
    let claimant = format!("unverified-{}", same_at_provider(&ada));
    browser.sign_in(&claimant).await?.says(403, UNVERIFIED);
    assert!(!browser.is_signed_in());
    assert_eq!(ada.get(ACCOUNTS).await?.ok().body, json!([]));
    Ok(())
}

#[tokio::test]
async fn who_squats_on_an_address_is_out_when_its_owner_comes_by_a_provider() -> Result<()> {
    let squatter = Person::sign_up().await?;
    let mut browser = Browser::new()?;
    let page = browser.sign_in(same_at_provider(&squatter));
    page.await?.says(200, "You are signed in");
    assert!(browser.is_signed_in());
    let body = json!({"email": squatter.email, "password": PASSWORD});
    let login = Answer::to(squatter.edge.post(LOGIN).json(&body)).await?;
    login.is_problem(401, "INVALID_CREDENTIALS");
    let body = json!({"refreshToken": squatter.refresh});
    let refresh = squatter.post("/api/v1/auth/refresh", &body).await?;
    refresh.is_problem(401, "INVALID_REFRESH_TOKEN");
    Ok(())
}

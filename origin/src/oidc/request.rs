//! What a client asks for when it sends somebody here (RFC 6749 §4.1.1, OpenID Connect Core 1.0 §3.1.2.1).
//! Pure: first who asks and where the answer goes, which is told to the person alone when it is wrong
//! (RFC 9700 §4.11); then everything else, which is told to the client.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    clients::{Client, GrantType},
    params::Params,
    scopes::{Scope, Scopes},
};

const MOST_NONCE_BYTES: usize = 1_000;
/// Base64url of a SHA-256.
const CHALLENGE_BYTES: usize = 43;

/// How an answer goes back to the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// In the query of a redirect.
    Query,
    /// In the body of a form (OAuth 2.0 Form Post Response Mode).
    FormPost,
}

/// Where an answer goes.
#[derive(Debug)]
pub struct Return {
    /// One of the client's own.
    pub uri: String,
    /// How.
    pub mode: Mode,
    /// What the client wants to see again.
    pub state: Option<String>,
}

/// What is wrong, as the client is told.
pub type Wrong = (&'static str, &'static str);

/// What is asked for.
#[derive(Debug)]
pub struct Ask {
    /// What the client wants to know or do.
    pub scopes: Scopes,
    /// What its code is bound to.
    pub challenge: Option<String>,
    /// What it wants to see again in the `id_token`.
    pub nonce: Option<String>,
    /// Whether nobody may be asked anything.
    pub silent: bool,
    /// Whether the person is to say yes once more.
    pub consent: bool,
    /// Whether they are to sign in once more, or to choose as whom.
    pub again: bool,
    /// How long ago they may have signed in.
    pub max_age: Option<TimeDelta>,
    /// Whom the client expects.
    pub login_hint: Option<String>,
}

impl Return {
    /// Where the answer goes: to a URI of the client's, and nowhere else.
    pub fn read(params: &Params, client: &Client) -> Option<Self> {
        let uri = params.clear("redirect_uri")?;
        client.leads_to(uri).then(|| Self {
            uri: uri.to_owned(),
            mode: match params.clear("response_mode") {
                Some("form_post") => Mode::FormPost,
                _ => Mode::Query,
            },
            state: params.clear("state").map(str::to_owned),
        })
    }
}

impl Ask {
    /// Reads the rest of a request.
    pub fn read(params: &Params, client: &Client) -> Result<Self, Wrong> {
        if params.is_unclear() {
            return Err(("invalid_request", "a parameter is there twice"));
        }
        for (name, error) in [
            ("request", "request_not_supported"),
            ("request_uri", "request_uri_not_supported"),
            ("registration", "registration_not_supported"),
        ] {
            if params.clear(name).is_some() {
                return Err((error, "not supported here"));
            }
        }
        match params.clear("response_type") {
            Some("code") => {}
            None => return Err(("invalid_request", "response_type is missing")),
            Some(_) => return Err(("unsupported_response_type", "response_type must be code")),
        }
        if !matches!(
            params.clear("response_mode"),
            None | Some("query" | "form_post")
        ) {
            return Err((
                "invalid_request",
                "response_mode must be query or form_post",
            ));
        }
        if !client.may(GrantType::Code) {
            return Err(("unauthorized_client", "the client may not ask for a code"));
        }
        let (silent, consent, again) = prompts(params.clear("prompt").unwrap_or_default())?;
        let nonce = params.clear("nonce");
        if nonce.is_some_and(|nonce| nonce.len() > MOST_NONCE_BYTES) {
            return Err(("invalid_request", "nonce is too long"));
        }
        Ok(Self {
            scopes: scopes(params, client)?,
            challenge: challenge(params, client)?,
            nonce: nonce.map(str::to_owned),
            silent,
            consent,
            again,
            max_age: max_age(params.clear("max_age"))?,
            login_hint: params.clear("login_hint").map(str::to_owned),
        })
    }

    /// Whether somebody who signed in then must do so once more. `asked_at` is when we have asked them to
    /// for this very request.
    pub fn wants_sign_in(
        &self,
        authenticated_at: DateTime<Utc>,
        asked_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> bool {
        let did_so = asked_at.is_some_and(|asked_at| authenticated_at >= asked_at);
        let is_old = self
            .max_age
            .is_some_and(|max_age| now - authenticated_at > max_age);
        (self.again || is_old) && !did_so
    }
}

fn scopes(params: &Params, client: &Client) -> Result<Scopes, Wrong> {
    let scopes = Scopes::parse(params.clear("scope").unwrap_or_default());
    let scopes = if client.may(GrantType::Refresh) {
        scopes
    } else {
        scopes.without(Scope::Offline)
    };
    if scopes.is_empty() {
        return Err(("invalid_scope", "no known scope is asked for"));
    }
    Ok(scopes)
}

fn challenge(params: &Params, client: &Client) -> Result<Option<String>, Wrong> {
    let Some(challenge) = params.clear("code_challenge") else {
        if client.requires_pkce || params.clear("code_challenge_method").is_some() {
            return Err(("invalid_request", "code_challenge is missing"));
        }
        return Ok(None);
    };
    // Without a method it would be plain (RFC 7636 §4.3).
    if params.clear("code_challenge_method") != Some("S256") {
        return Err(("invalid_request", "code_challenge_method must be S256"));
    }
    let is_hash = challenge.len() == CHALLENGE_BYTES
        && challenge
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_hash {
        return Err((
            "invalid_request",
            "code_challenge is no SHA-256 in base64url",
        ));
    }
    Ok(Some(challenge.to_owned()))
}

/// Whether nobody is to be asked, whether for consent, and whether to sign in.
fn prompts(text: &str) -> Result<(bool, bool, bool), Wrong> {
    let (mut silent, mut consent, mut again) = (false, false, false);
    for prompt in text.split(' ').filter(|prompt| !prompt.is_empty()) {
        match prompt {
            "none" => silent = true,
            "consent" => consent = true,
            "login" | "select_account" => again = true,
            _ => return Err(("invalid_request", "prompt has an unknown value")),
        }
    }
    if silent && (consent || again) {
        return Err(("invalid_request", "prompt none stands alone"));
    }
    Ok((silent, consent, again))
}

fn max_age(text: Option<&str>) -> Result<Option<TimeDelta>, Wrong> {
    let parse = |text: &str| text.parse::<u32>().ok();
    match text.map(parse) {
        None => Ok(None),
        Some(Some(secs)) => Ok(Some(TimeDelta::seconds(secs.into()))),
        Some(None) => Err(("invalid_request", "max_age must be seconds")),
    }
}

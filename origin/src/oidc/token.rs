//! The token endpoint: a code, a refresh token or a client's own word for tokens.

use axum::{
    Json,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::claims::ACCESS_TOKEN_LIFETIME_SECS;
use uuid::Uuid;

use crate::{
    app::App,
    door,
    front::Client as Asker,
    openapi,
    pages::is_form,
    rim,
    sessions::{Presented, RefreshKind},
};

use super::{
    clients::{Client, GrantType},
    error::{NOT_KEPT, Refused},
    params::Params,
    proof,
    scopes::{Scope, Scopes},
    store::{self, Granted, Shown},
    tokens,
};

/// RFC 6749 §5.1.
#[derive(Serialize, utoipa::ToSchema)]
struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: u32,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id_token: Option<String>,
}

/// `POST /oauth2/token`.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    tag = "OpenID provider",
    summary = "Tokens for a code, a refresh token, or the client itself",
    description = "RFC 6749 §3.2. Also at `/api/auth/oauth2/token` and `/api/oidc/token`.",
    security((), ("client" = [])),
    request_body(content = openapi::TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Tokens),
        (status = 400, body = openapi::Refusal, description = "RFC 6749 §5.2"),
        (status = 401, body = openapi::Refusal, description = "The client is unknown, or not who it says"),
        (status = 429, body = openapi::Refusal, description = "The grant refreshes too often"),
    )
)]
pub async fn issue(
    State(app): State<App>,
    from: Asker,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let form = form(&app, &headers, request).await?;
    let client = proof::client(&app, &headers, &form).await?;
    let missing = || Refused::new("invalid_request", "grant_type is missing");
    let grant_type = form.one("grant_type")?.ok_or_else(missing)?;
    let known = [GrantType::Code, GrantType::Refresh, GrantType::Itself];
    let mut known = known.into_iter();
    let Some(grant_type) = known.find(|known| known.as_str() == grant_type) else {
        return Err(Refused::new(
            "unsupported_grant_type",
            "This grant_type is not known here",
        ));
    };
    if !client.may(grant_type) {
        return Err(Refused::new(
            "unauthorized_client",
            "The client may not ask in this way",
        ));
    }
    let tokens = match grant_type {
        GrantType::Code => by_code(&app, &client, &form, &from).await?,
        GrantType::Refresh => by_refresh(&app, &client, &form, &from).await?,
        GrantType::Itself => by_itself(&app, &client, &form)?,
    };
    Ok((NOT_KEPT, Json(tokens)).into_response())
}

/// The fields of a form, each once.
pub async fn form(app: &App, headers: &HeaderMap, request: Request) -> Result<Params, Refused> {
    if !is_form(headers) {
        return Err(Refused::new(
            "invalid_request",
            "The body must be application/x-www-form-urlencoded",
        ));
    }
    let form = Params::parse(&door::read(request.into_body(), app.config.max_body_bytes).await?);
    if form.is_unclear() {
        return Err(super::params::Unclear.into());
    }
    Ok(form)
}

async fn by_code(
    app: &App,
    client: &Client,
    form: &Params,
    from: &Asker,
) -> Result<Tokens, Refused> {
    let missing = |what| Refused::new("invalid_request", format!("{what} is missing"));
    let code = form.one("code")?.ok_or_else(|| missing("code"))?;
    let redirect_uri = form.one("redirect_uri")?;
    let redirect_uri = redirect_uri.ok_or_else(|| missing("redirect_uri"))?;
    let challenge = form.one("code_verifier")?.map(challenge).transpose()?;
    let (grant, code_hash) = parse(code).ok_or_else(Refused::grant)?;
    // Before the code is used up.
    check_keys(app, client)?;
    let shown = Shown {
        grant,
        code_hash,
        client: &client.id,
        redirect_uri,
        challenge: challenge.as_deref(),
    };
    let granted = store::redeem(app.db.pool(), &shown, from).await?;
    let granted = granted.ok_or_else(Refused::grant)?;
    let scopes = Scopes::read(&granted.scopes);
    make(app, client, &granted, &scopes)
}

/// The grant that a code names, and what the code is known by.
fn parse(code: &str) -> Option<(Uuid, [u8; 32])> {
    let mut bytes = [0; 48];
    let decoded = Base64UrlUnpadded::decode(code, &mut bytes).ok()?;
    let (grant, secret) = decoded.split_first_chunk::<16>()?;
    (secret.len() == 32).then(|| (Uuid::from_bytes(*grant), Sha256::digest(secret).into()))
}

/// What a verifier makes (RFC 7636 §4.1, §4.6).
fn challenge(verifier: &str) -> Result<String, Refused> {
    let is_one = (43..=128).contains(&verifier.len())
        && verifier
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if !is_one {
        return Err(Refused::new("invalid_request", "code_verifier is none"));
    }
    Ok(Base64UrlUnpadded::encode_string(&Sha256::digest(verifier)))
}

/// Whether there is what signs for the client.
fn check_keys(app: &App, client: &Client) -> Result<(), Refused> {
    tokens::sign(&*app.keys.ring()?, client.alg, "JWT", &())?;
    Ok(())
}

async fn by_refresh(
    app: &App,
    client: &Client,
    form: &Params,
    from: &Asker,
) -> Result<Tokens, Refused> {
    let missing = || Refused::new("invalid_request", "refresh_token is missing");
    let text = form.one("refresh_token")?.ok_or_else(missing)?;
    let token = believe(app, client, text)
        .await?
        .ok_or_else(Refused::grant)?;
    let verdict = app.refreshes.admit(token.session, rim::now()).await;
    if !verdict.decision.admitted {
        return Err(Refused::too_often(verdict.decision.retry_after_secs));
    }
    let asked = form.one("scope")?.map(Scopes::parse);
    let (grant, grace) = (token.session.uuid(), app.config.refresh_grace);
    let shown = (grant, token.counter);
    let granted = store::refresh(app.db.pool(), shown, &client.id, grace, from).await?;
    let granted = granted.ok_or_else(Refused::grant)?;
    let all = Scopes::read(&granted.scopes);
    let scopes = asked.unwrap_or_else(|| all.clone());
    if scopes.is_empty() || !all.covers(&scopes) {
        return Err(Refused::new("invalid_scope", "That was not granted"));
    }
    make(app, client, &granted, &scopes)
}

/// A refresh token of the client's whose MAC is good. Nothing was written.
pub async fn believe(app: &App, client: &Client, text: &str) -> Result<Option<Presented>, Refused> {
    let Some(token) = Presented::parse(text) else {
        return Ok(None);
    };
    let known = store::salt(app.db.pool(), token.session.uuid()).await?;
    let keys = &app.config.refresh_token_keys;
    let is_good = known.is_some_and(|(owner, salt)| {
        owner == client.id && keys.made_of(RefreshKind::Grant, &token, &salt)
    });
    Ok(is_good.then_some(token))
}

fn by_itself(app: &App, client: &Client, form: &Params) -> Result<Tokens, Refused> {
    if form.one("scope")?.is_some() {
        return Err(Refused::new(
            "invalid_scope",
            "There is no scope for a client itself",
        ));
    }
    Ok(Tokens {
        access_token: tokens::own(app, &*app.keys.ring()?, &client.id),
        token_type: "Bearer",
        expires_in: ACCESS_TOKEN_LIFETIME_SECS,
        scope: String::new(),
        refresh_token: None,
        id_token: None,
    })
}

fn make(app: &App, client: &Client, granted: &Granted, scopes: &Scopes) -> Result<Tokens, Refused> {
    let ring = app.keys.ring()?;
    let access_token = tokens::access(app, &ring, &client.id, granted, scopes.to_string());
    let is_openid = scopes.has(Scope::OpenId);
    let identity =
        || tokens::identity(app, &ring, (&client.id, client.alg), granted, &access_token);
    let id_token = is_openid.then(identity).transpose()?;
    let refresh_token = client.may(GrantType::Refresh).then(|| {
        let keys = &app.config.refresh_token_keys;
        let id = granted.grant.into();
        keys.make_of(RefreshKind::Grant, id, granted.counter, &granted.salt)
    });
    Ok(Tokens {
        access_token,
        token_type: "Bearer",
        expires_in: ACCESS_TOKEN_LIFETIME_SECS,
        scope: scopes.to_string(),
        refresh_token,
        id_token,
    })
}

//! The userinfo endpoint: who somebody is, as far as they let the client know (OpenID Connect Core 1.0
//! §5.3).

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{app::App, openapi, rim};

use super::{
    error::{NOT_KEPT, Refused},
    matrix,
    scopes::{Scope, Scopes},
    store, token, tokens,
};

#[derive(Serialize, utoipa::ToSchema)]
struct UserInfo {
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    picture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    email_verified: Option<bool>,
}

/// `GET` and `POST /oauth2/userinfo`.
#[utoipa::path(
    method(get, post),
    path = "/oauth2/userinfo",
    tag = "OpenID provider",
    summary = "Who somebody is, as far as they let the client know",
    description = "OpenID Connect Core 1.0 §5.3. Also at `/api/auth/oauth2/userinfo` and `/api/oidc/userinfo`.",
    security(("relyingParty" = [])),
    responses(
        (status = 200, body = UserInfo),
        (status = 401, body = openapi::Refusal, description = "RFC 6750 §3.1"),
        (status = 403, body = openapi::Refusal, description = "The token was not issued for `openid`"),
    )
)]
pub async fn tell(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let shown = match bearer(&headers) {
        Some(token) => Some(token.to_owned()),
        // RFC 6750 §2.2.
        None if request.method() == Method::POST
            && !headers.contains_key(header::AUTHORIZATION) =>
        {
            let form = token::form(&app, &headers, request).await;
            let form = form.map_err(|_| Refused::token(false))?;
            form.clear("access_token").map(str::to_owned)
        }
        None => None,
    };
    let token = shown.ok_or_else(|| Refused::token(false))?;
    let claims = tokens::read(&app, &token, rim::now())?;
    let claims = claims.ok_or_else(|| Refused::token(true))?;
    let scopes = Scopes::parse(&claims.scope);
    let grant = claims.gid.ok_or_else(|| Refused::token(true))?;
    if !scopes.has(Scope::OpenId) {
        return Err(Refused::scope());
    }
    let holder = store::holder(app.db.pool(), grant).await?;
    let holder = holder.ok_or_else(|| Refused::token(true))?;
    matrix::meet(&app, grant, &holder).await?;
    let (profile, email) = (scopes.has(Scope::Profile), scopes.has(Scope::Email));
    let told = UserInfo {
        sub: holder.user_id.to_string(),
        name: holder.name.filter(|_| profile),
        picture: holder.image.filter(|_| profile),
        email: email.then_some(holder.email),
        email_verified: email.then_some(holder.email_verified),
    };
    Ok((NOT_KEPT, Json(told)).into_response())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

//! What a token is worth (RFC 7662), and giving one up (RFC 7009). A client hears of its own tokens alone.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app::App, openapi, rim};

use super::{
    clients::Client,
    error::{NOT_KEPT, Refused},
    params::Params,
    proof, store, token, tokens,
};

/// `POST /oauth2/introspect`.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    tag = "OpenID provider",
    summary = "Whether a token of the client's is good",
    description = "RFC 7662. Also at `/api/auth/oauth2/introspect` and `/api/oidc/introspect`.",
    security((), ("client" = [])),
    request_body(content = openapi::TokenShown, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = openapi::Introspected),
        (status = 400, body = openapi::Refusal, description = "RFC 6749 §5.2"),
        (status = 401, body = openapi::Refusal, description = "The client is unknown, or not who it says"),
    )
)]
pub async fn introspect(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let form = token::form(&app, &headers, request).await?;
    let client = proof::confidential(&app, &headers, &form).await?;
    let text = shown(&form)?;
    let known = match by_access(&app, &client, text).await? {
        Some(known) => known,
        None => by_refresh(&app, &client, text).await?,
    };
    Ok((NOT_KEPT, Json(known)).into_response())
}

fn shown(form: &Params) -> Result<&str, Refused> {
    let missing = || Refused::new("invalid_request", "token is missing");
    form.one("token")?.ok_or_else(missing)
}

async fn by_access(app: &App, client: &Client, text: &str) -> Result<Option<Value>, Refused> {
    let Some(claims) = tokens::read(app, text, rim::now())? else {
        return Ok(None);
    };
    if claims.client_id != client.id {
        return Ok(None);
    }
    if let Some(grant) = claims.gid
        && store::holder(app.db.pool(), grant).await?.is_none()
    {
        return Ok(None);
    }
    Ok(Some(json!({
        "active": true,
        "client_id": claims.client_id,
        "exp": claims.exp,
        "iat": claims.iat,
        "iss": app.expect.issuer,
        "scope": claims.scope,
        "sub": claims.sub,
        "token_type": "Bearer",
    })))
}

/// Whether it is the latest one is not told: showing it tells that.
async fn by_refresh(app: &App, client: &Client, text: &str) -> Result<Value, Refused> {
    let none = json!({"active": false});
    let Some(token) = token::believe(app, client, text).await? else {
        return Ok(none);
    };
    let holder = store::holder(app.db.pool(), token.session.uuid()).await?;
    Ok(holder.map_or(none, |holder| {
        json!({
            "active": true,
            "client_id": holder.client_id,
            "iss": app.expect.issuer,
            "sub": holder.user_id,
            "token_type": "refresh_token",
        })
    }))
}

/// `POST /oauth2/revoke`: the grant of the token ends, and every token of it. A token that is nobody's is
/// no error.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    tag = "OpenID provider",
    summary = "Gives a token up, and its grant with it",
    description = "RFC 7009. Also at `/api/auth/oauth2/revoke` and `/api/oidc/revoke`.",
    security((), ("client" = [])),
    request_body(content = openapi::TokenShown, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "It is worth nothing now, whatever it was"),
        (status = 400, body = openapi::Refusal, description = "RFC 6749 §5.2"),
        (status = 401, body = openapi::Refusal, description = "The client is unknown, or not who it says"),
    )
)]
pub async fn revoke(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let form = token::form(&app, &headers, request).await?;
    let client = proof::client(&app, &headers, &form).await?;
    let text = shown(&form)?;
    let grant = match tokens::read(&app, text, rim::now())? {
        Some(claims) => claims.gid,
        None => token::believe(&app, &client, text)
            .await?
            .map(|token| token.session.uuid()),
    };
    if let Some(grant) = grant {
        // Of another client's nothing happens.
        store::revoke(app.db.pool(), grant, &client.id).await?;
    }
    Ok((StatusCode::OK, NOT_KEPT).into_response())
}

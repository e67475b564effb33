//! Forged requests: what a page of somebody else's makes a browser send, with the cookies that it has or
//! to be given one (login CSRF). Browsers say where a request comes from, by `Origin` or at least by
//! `Sec-Fetch-Site`, and no page can change that; whatever else keeps cookies to their site (`SameSite`)
//! is not relied on. What no browser sends says neither, and passes.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};

use crate::{app::App, apps, error::Error};

const FETCH_SITE: &str = "sec-fetch-site";

/// The middleware around whatever may change something, or set a cookie.
pub async fn guard(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let headers = request.headers();
    if !request.method().is_safe()
        && !shows_credentials(headers)
        && !is_welcome(&app, headers).await?
    {
        return Err(Error::ForeignPage);
    }
    Ok(next.run(request).await)
}

/// Whether the request is made with something that only a script can add, and another site's only when
/// the edge lets it. `Authorization: Basic` a browser may add by itself.
fn shows_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(apps::SERVICE_KEY)
        || headers.get_all(header::AUTHORIZATION).iter().any(|value| {
            let scheme = value.as_bytes().get(..7);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
        })
}

async fn is_welcome(app: &App, headers: &HeaderMap) -> Result<bool, Error> {
    if !headers.contains_key(header::ORIGIN) {
        let mut sites = headers.get_all(FETCH_SITE).iter();
        return Ok(sites.all(|site| site == "same-origin" || site == "none"));
    }
    let Some(origin) = origin(headers) else {
        return Ok(false);
    };
    Ok(is_ours(app, headers) || app.origins.know(app.db.pool(), origin).await?)
}

/// The one origin that a browser says it is at a page of.
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none());
    origin.and_then(|origin| origin.to_str().ok())
}

/// Whether it is at a page of our own.
pub fn is_ours(app: &App, headers: &HeaderMap) -> bool {
    origin(headers) == Some(app.config.public_url.origin())
}

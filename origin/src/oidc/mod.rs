//! The OpenID provider: programs of others (clients, relying parties) sign people in by us. `request` is
//! what a client asks for, `authorize` how somebody goes back to it with a code, `token` what it gets
//! for that, and `proof` how it says who it is; where people are sent back to is a rule of
//! `clients`.
//!
//! What somebody lets a client do is a grant: one row, which is born with its code, and by which its
//! tokens are asked after whenever they are shown. It ends with the browser's session that it came from,
//! unless it is for `offline_access`. A client's access token is good at the userinfo endpoint alone.

mod access;
mod authorize;
mod backchannel;
mod clients;
mod discovery;
mod error;
mod introspect;
mod logout;
mod matrix;
mod pages;
mod params;
mod proof;
mod request;
mod scopes;
mod store;
mod token;
mod tokens;
mod userinfo;

use std::time::Duration;

use axum::routing::{get, post};
use tokio::time::{MissedTickBehavior, interval};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, db};

pub use access::{Access, access, end_access};
pub use backchannel::{send_next, tell};
pub use clients::{
    Alg, Error, GrantType, Listed, NewClient, Secret, add, all, disable, registrable, rotate, web,
};
pub use matrix::unlink as unlink_matrix;
pub use pages::learns;
pub use store::matrix_links;

/// Where the endpoints are besides `/oauth2`.
const ALIASES: [&str; 2] = ["/api/auth/oauth2", "/api/oidc"];
/// How many grants are dropped at once.
const SWEPT_AT_ONCE: i32 = 2_000;

/// What a browser is asked here, by our own pages.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(matrix::links))
        .routes(routes!(matrix::forget))
        .routes(routes!(matrix::session))
        .routes(routes!(matrix::check))
        .route("/oauth2/consent", post(authorize::decide))
        .route("/oauth2/logout/confirm", post(logout::decide))
}

/// What clients ask, and their pages send browsers to. None of it changes anything by a cookie.
pub fn endpoints() -> OpenApiRouter<App> {
    let router = OpenApiRouter::new()
        .routes(routes!(discovery::describe))
        .route(
            "/.well-known/oauth-authorization-server",
            get(discovery::describe),
        )
        .routes(routes!(discovery::describe_rs256))
        .routes(routes!(discovery::keys_rs256))
        .routes(routes!(authorize::by_get))
        .route("/oauth2/authorize", post(authorize::by_post))
        .routes(routes!(token::issue))
        .routes(routes!(userinfo::tell))
        .routes(routes!(introspect::introspect))
        .routes(routes!(introspect::revoke))
        .routes(routes!(logout::by_get))
        .route("/oauth2/logout", post(logout::by_post));
    ALIASES.into_iter().fold(router, |router, base| {
        let at = |name: &str| format!("{base}/{name}");
        router
            .route(
                &at("authorize"),
                get(authorize::by_get).post(authorize::by_post),
            )
            .route(&at("token"), post(token::issue))
            .route(&at("userinfo"), get(userinfo::tell).post(userinfo::tell))
            .route(&at("introspect"), post(introspect::introspect))
            .route(&at("revoke"), post(introspect::revoke))
            .route(&at("logout"), get(logout::by_get).post(logout::by_post))
    })
}

/// Drops grants that have ended, for as long as the process lives.
pub async fn tend(app: App) {
    let mut ticks = interval(Duration::from_mins(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = db::turn(store::sweep(app.db.pool(), SWEPT_AT_ONCE)).await {
            tracing::warn!(%error, "grants that have ended stay until the next sweep");
        }
    }
}

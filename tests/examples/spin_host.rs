//! The WASI host of the tests behind HTTP, for `cargo xtask bench spin`: serves the component that
//! `SPIN_COMPONENT` names on a port that it prints, until it is stopped.

#[path = "../tests/gateway/setting.rs"]
#[expect(dead_code, reason = "what tests alone need")]
mod setting;
#[path = "../tests/gateway/spin.rs"]
mod spin;
#[path = "../tests/gateway/spin_redis.rs"]
mod spin_redis;

use std::{env, net::SocketAddr};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{self, Body},
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

use crate::setting::Setting;

/// The bench sends none.
const MAX_BODY_BYTES: usize = 0;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let setting = Setting {
        issuer: arguments.next().context("the issuer")?,
        origin: arguments.next().context("the origin")?,
        policy: r#"{"routes": [], "shield": {"quota": 1000000000}}"#.to_owned(),
        redis: None,
    };
    let edge = spin::Component::load()?.start(&setting).await?;
    let router = Router::new().fallback(answer).with_state(edge);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}

async fn answer(
    State(edge): State<spin::Edge>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let ask = async {
        let (parts, body) = request.into_parts();
        body::to_bytes(body, MAX_BODY_BYTES).await?;
        let request = Request::from_parts(parts, String::new());
        edge.ask(peer.ip(), request).await
    };
    match ask.await {
        Ok(answer) => answer.map(Body::from),
        Err(why) => (StatusCode::BAD_GATEWAY, format!("{why:?}")).into_response(),
    }
}

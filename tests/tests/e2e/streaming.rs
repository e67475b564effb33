//! What passes through the edge while it is being made: bodies in both directions, events, sockets, and
//! answers that break off. The app behind it is one that we look into.

use std::{future::ready, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{State, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::{SinkExt, StreamExt, future::Either, stream};
use serde_json::json;
use tests::Answer;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, client::IntoClientRequest},
};

use crate::rig::Rig;

const LONG: Duration = Duration::from_secs(10);
const KEYS: &str = "app:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// What the app is told and what it tells.
#[derive(Clone)]
struct App {
    /// How many parts of a body it may send.
    may_send: watch::Receiver<usize>,
    received: mpsc::UnboundedSender<usize>,
}

struct World {
    rig: Rig,
    let_send: watch::Sender<usize>,
    received: mpsc::UnboundedReceiver<usize>,
}

impl World {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (let_send, may_send) = watch::channel(0);
        let (tell, received) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/events", get(events))
            .route("/upload", post(upload))
            .route("/socket", any(socket))
            .route("/breaks-off", get(breaks_off))
            .route(
                "/sized",
                get(async || [(header::CONTENT_TYPE, "text/plain")]),
            )
            .with_state(App {
                may_send,
                received: tell,
            });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let route = |path: &str, method: &str| json!({"path": path, "methods": [method], "upstream": "app", "auth": "required"});
        let policy = json!({
            "upstreams": {"app": {"url": url}},
            "routes": [
                route("/events", "GET"), route("/upload", "POST"), route("/socket", "GET"),
                route("/breaks-off", "GET"), route("/sized", "GET"),
            ]
        });
        let policy: toml::Value = serde_json::from_value(policy)?;
        let rig = Rig::start_with(|script| {
            script
                .var("POLICY", policy)
                .var("UPSTREAM_PROOF_KEYS", KEYS)
        });
        Ok(Self {
            rig: rig.await?,
            let_send,
            received,
        })
    }
}

/// Two events: the second when it may.
async fn events(State(app): State<App>) -> Response {
    let parts = stream::unfold((app.may_send, 0), async |(mut may_send, sent)| {
        if sent == 2 {
            return None;
        }
        may_send.wait_for(|may| *may > sent).await.ok()?;
        let event = format!("data: {sent}\n\n");
        Some((
            Ok::<_, std::io::Error>(Bytes::from(event)),
            (may_send, sent + 1),
        ))
    });
    let body = Body::from_stream(parts);
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Tells of each part when it comes.
async fn upload(State(app): State<App>, body: Body) -> String {
    let mut parts = body.into_data_stream();
    let mut size = 0;
    while let Some(Ok(part)) = parts.next().await {
        size += part.len();
        let _ = app.received.send(size);
    }
    size.to_string()
}

/// Says who asks, and then everything again.
async fn socket(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let who = headers.get("tollgate-subject").cloned();
    upgrade.on_upgrade(async move |mut socket| {
        let who = who.and_then(|who| who.to_str().ok().map(str::to_owned));
        let _ = socket.send(Message::text(who.unwrap_or_default())).await;
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(_) = message {
                let _ = socket.send(message).await;
            }
        }
    })
}

/// Promises more than it sends, and goes when it may.
async fn breaks_off(State(mut app): State<App>) -> Response {
    let half = stream::once(ready(Ok(Bytes::from("half"))));
    let end = stream::once(async move {
        let _ = app.may_send.wait_for(|may| *may > 0).await;
        Err(std::io::Error::other("gone"))
    });
    let body = Body::from_stream(half.chain(end));
    (StatusCode::OK, [(header::CONTENT_LENGTH, "8")], body).into_response()
}

#[tokio::test]
async fn an_event_arrives_when_it_is_sent() -> Result<()> {
    let world = World::start().await?;
    let token = world.rig.issuer.token();
    world.let_send.send(1)?;
    let mut answer = world
        .rig
        .edge
        .get("/events")
        .bearer_auth(token)
        .send()
        .await?;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let first = timeout(LONG, answer.chunk())
        .await
        .context("the first event")??;
    assert_eq!(first.as_deref(), Some(&b"data: 0\n\n"[..]));
    world.let_send.send(2)?;
    let second = timeout(LONG, answer.chunk())
        .await
        .context("the second event")??;
    assert_eq!(second.as_deref(), Some(&b"data: 1\n\n"[..]));
    Ok(())
}

#[tokio::test]
async fn a_body_arrives_while_it_is_sent() -> Result<()> {
    let mut world = World::start().await?;
    let (mut client, parts) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let parts = stream::unfold(parts, async |mut parts| Some((parts.recv().await?, parts)));
    let request = world
        .rig
        .edge
        .post("/upload")
        .bearer_auth(world.rig.issuer.token());
    let request = request.body(reqwest::Body::wrap_stream(parts));
    let sent = tokio::spawn(request.send());
    for size in [5, 10] {
        client
            .send(Ok(Bytes::from("a part"[..5].to_owned())))
            .await?;
        let received = timeout(LONG, world.received.recv()).await;
        assert_eq!(received.context("a part")?, Some(size));
    }
    client = mpsc::channel(1).0;
    drop(client);
    let answer = timeout(LONG, sent).await.context("an answer")???;
    assert_eq!(answer.text().await?, "10");
    Ok(())
}

#[tokio::test]
async fn a_socket_is_opened_for_who_may_and_talks_both_ways() -> Result<()> {
    let world = World::start().await?;
    let url = world.rig.worker.url.replace("http", "ws") + "/socket";
    let claims = world.rig.issuer.claims();
    let token = shared::jwt::sign(&claims, world.rig.issuer.key());
    let mut request = url.as_str().into_client_request()?;
    let bearer = format!("Bearer {token}").parse()?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let (mut socket, answer) = timeout(LONG, connect_async(request)).await??;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let who = socket.next().await.context("a greeting")??;
    assert_eq!(who.into_text()?, claims.sub.to_string());
    for word in ["one", "two"] {
        socket.send(tungstenite::Message::text(word)).await?;
        let again = timeout(LONG, socket.next()).await?.context("the same")??;
        assert_eq!(again.into_text()?, word);
    }
    socket.close(None).await?;

    let refused = connect_async(url.as_str()).await.expect_err("nobody's");
    let tungstenite::Error::Http(refused) = refused else {
        panic!("{refused}");
    };
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_the_edge_lives_on() -> Result<()> {
    let world = World::start().await?;
    let ask = |path: &str| {
        world
            .rig
            .edge
            .get(path)
            .bearer_auth(world.rig.issuer.token())
    };
    let answer = ask("/breaks-off").send().await?;
    assert_eq!(answer.status(), 200);
    world.let_send.send(1)?;
    ensure!(answer.bytes().await.is_err(), "it ends as if it were whole");
    let answer = Answer::to(ask("/sized")).await?.ok();
    assert_eq!(answer.header("content-type"), "text/plain");
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_upload_alone() -> Result<()> {
    let mut world = World::start().await?;
    let never = stream::once(ready(Ok::<_, std::io::Error>(Bytes::from("begin"))));
    let never = never.chain(stream::pending());
    let request = world
        .rig
        .edge
        .post("/upload")
        .bearer_auth(world.rig.issuer.token());
    let sent = Box::pin(request.body(reqwest::Body::wrap_stream(never)).send());
    let begun = Box::pin(timeout(LONG, world.received.recv()));
    match futures_util::future::select(sent, begun).await {
        Either::Left((answer, _)) => panic!("an answer to half a body: {answer:?}"),
        Either::Right((begun, _)) => assert_eq!(begun?, Some(5)),
    }
    let ask = world
        .rig
        .edge
        .get("/sized")
        .bearer_auth(world.rig.issuer.token());
    let _ = Answer::to(ask).await?.ok();
    Ok(())
}

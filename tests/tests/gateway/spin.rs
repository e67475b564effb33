//! A WASI 0.3 host for the built component: what Spin is to it, and no more.
//!
//! One instance answers one request after the other, as Spin's do, so that what the gateway
//! remembers lasts. Variables come from the [`Setting`]; the client's address is put behind what
//! the client itself sent under that name, as Spin does it.

use std::{env, net::IpAddr, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, anyhow};
use axum::{
    body::{self, Body},
    http::{Request, Response, Uri},
};
use tests::root;
use tokio::sync::{mpsc, oneshot};
use wasmtime::{
    Config, Engine, Store,
    component::{self, ComponentType, Lift, Linker, Lower, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView, default_hooks,
    p3::{self, bindings::Service},
};

use crate::{setting::Setting, spin_redis};

/// An answer is no larger than this.
const MAX_BODY_BYTES: usize = 1 << 20;

type Answered = wasmtime::Result<Response<WasiBody>>;
type Asked = (Request<String>, oneshot::Sender<Answered>);

/// The component, compiled for this machine.
pub struct Component {
    engine: Engine,
    code: component::Component,
}

/// An instance of it, which ends when this is dropped.
#[derive(Clone)]
pub struct Edge(mpsc::Sender<Asked>);

impl Component {
    /// Loads what `cargo build --release --target wasm32-wasip2 -p edge` built, which
    /// `SPIN_COMPONENT` may name.
    pub fn load() -> Result<Self> {
        let built = root().join("target/wasm32-wasip2/release/edge.wasm");
        let path = env::var_os("SPIN_COMPONENT").map_or(built, PathBuf::from);
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let load = || -> wasmtime::Result<Self> {
            let engine = Engine::new(&config)?;
            let code = component::Component::from_file(&engine, &path)?;
            Ok(Self { engine, code })
        };
        load().map_err(|why| anyhow!("{}: {why:?}; build it", path.display()))
    }

    /// Starts an instance.
    pub async fn start(&self, setting: &Setting) -> Result<Edge> {
        self.instantiate(setting)
            .await
            .map_err(|why| anyhow!("{why:?}"))
    }

    async fn instantiate(&self, setting: &Setting) -> wasmtime::Result<Edge> {
        let mut linker = Linker::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        add_variables(&mut linker, setting)?;
        spin_redis::add_to_linker(&mut linker)?;
        let state = State {
            wasi: WasiCtx::builder().inherit_stderr().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        let service = Service::instantiate_async(&mut store, &self.code, &linker).await?;
        let (asks, asked) = mpsc::channel(1);
        tokio::spawn(serve(store, service, asked));
        Ok(Edge(asks))
    }
}

/// Answers one request after the other until nobody can ask any more.
async fn serve(
    mut store: Store<State>,
    service: Service,
    mut asked: mpsc::Receiver<Asked>,
) -> wasmtime::Result<()> {
    store
        .run_concurrent(async |store| {
            while let Some((request, reply)) = asked.recv().await {
                let (request, sent) = p3::Request::from_http(default_hooks(), request);
                let answer = match service.handle(store, request).await {
                    Ok(Ok(answer)) => store.with(|store| answer.into_http(store, sent)),
                    Ok(Err(code)) => Err(code.into()),
                    Err(trap) => Err(trap),
                };
                let _ = reply.send(answer);
            }
        })
        .await
}

impl Edge {
    /// Asks it, as Spin would for a client at `address`.
    pub async fn ask(
        &self,
        address: IpAddr,
        mut request: Request<String>,
    ) -> Result<Response<String>> {
        let target = request.uri().path_and_query().context("a path")?.clone();
        let uri = Uri::builder().scheme("http").authority("127.0.0.1:8787");
        *request.uri_mut() = uri.path_and_query(target).build()?;
        let peer = SocketAddr::new(address, 50_000).to_string().parse()?;
        request.headers_mut().append("spin-client-addr", peer);
        let (reply, answer) = oneshot::channel();
        self.0.send((request, reply)).await?;
        let answer = answer.await?.map_err(|why| anyhow!("{why:?}"))?;
        let (parts, body) = answer.into_parts();
        let body = body::to_bytes(Body::new(body), MAX_BODY_BYTES).await?;
        Ok(Response::from_parts(parts, String::from_utf8(body.into())?))
    }
}

/// What the host keeps for an instance.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: default_hooks(),
        }
    }
}

/// Why a variable has no value, as `spin:variables` says it.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum NoVariable {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// `spin:variables`: names are in small letters.
fn add_variables(linker: &mut Linker<State>, setting: &Setting) -> wasmtime::Result<()> {
    let names = [
        "PUBLIC_URL",
        "ORIGIN_URL",
        "EDGE_PROOF_KEY",
        "UPSTREAM_PROOF_KEYS",
        "POLICY",
        "REDIS_URL",
    ];
    let values = names.map(|name| (name.to_lowercase(), setting.var(name)));
    linker
        .instance("spin:variables/variables@3.0.0")?
        .func_wrap_concurrent("get", move |_, (name,): (String,)| {
            let value = values.iter().find(|(known, _)| *known == name);
            let value = value.and_then(|(_, value)| value.clone());
            Box::pin(async { Ok((value.ok_or(NoVariable::Undefined(name)),)) })
        })
}

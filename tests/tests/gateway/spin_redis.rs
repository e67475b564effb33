//! `spin:redis`, as far as the component uses it: a real Redis behind a connection of each call.

use redis::{Client, Cmd, Value, cmd};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use crate::spin::State;

/// A connection is the address that it leads to.
struct Connection(String);

#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
enum Failure {
    #[component(name = "invalid-address")]
    InvalidAddress,
    #[component(name = "too-many-connections")]
    TooManyConnections,
    #[component(name = "type-error")]
    TypeError,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Parameter {
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Outcome {
    #[component(name = "nil")]
    Nil,
    #[component(name = "status")]
    Status(String),
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut redis = linker.instance("spin:redis/redis@3.0.0")?;
    redis.resource(
        "connection",
        ResourceType::host::<Connection>(),
        |mut store, rep| {
            let connection = Resource::<Connection>::new_own(rep);
            store.data_mut().table.delete(connection)?;
            Ok(())
        },
    )?;
    redis.func_wrap_concurrent("[static]connection.open", |store, (address,): (String,)| {
        Box::pin(async move {
            if Client::open(address.as_str()).is_err() {
                return Ok((Err(Failure::InvalidAddress),));
            }
            let opened = store.with(|mut store| store.get().table.push(Connection(address)))?;
            Ok((Ok::<_, Failure>(opened),))
        })
    })?;
    redis.func_wrap_concurrent(
        "[method]connection.execute",
        |store, (connection, name, parameters): (Resource<Connection>, String, Vec<Parameter>)| {
            Box::pin(async move {
                let address = store.with(|mut store| {
                    let connection = store.get().table.get(&connection);
                    connection.map(|Connection(address)| address.clone())
                })?;
                let mut command = cmd(&name);
                for parameter in parameters {
                    match parameter {
                        Parameter::Int64(number) => command.arg(number),
                        Parameter::Binary(bytes) => command.arg(bytes),
                    };
                }
                let said = execute(&address, &command).await;
                Ok((said.map_err(|why| Failure::Other(why.to_string())),))
            })
        },
    )
}

async fn execute(address: &str, command: &Cmd) -> redis::RedisResult<Vec<Outcome>> {
    let client = Client::open(address)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let said: Value = command.query_async(&mut connection).await?;
    Ok(outcomes(said))
}

/// As Spin tells what Redis says: a list is its parts.
fn outcomes(said: Value) -> Vec<Outcome> {
    vec![match said {
        Value::Nil => Outcome::Nil,
        Value::Int(number) => Outcome::Int64(number),
        Value::BulkString(bytes) => Outcome::Binary(bytes),
        Value::Array(parts) => return parts.into_iter().flat_map(outcomes).collect(),
        other => Outcome::Status(format!("{other:?}")),
    }]
}

//! Apps that charge, clients that people sign in to, and packages of credits.

use std::{fs::File, io::BufReader};

use anyhow::Context;
use origin::{
    apps::{self, NewApp, ServiceKey},
    cli::{AppsTask, ClientsTask, NewClientArgs, PackagesTask},
    config::Database,
    oidc, payments,
};
use serde_json::json;
use shared::{
    api::{AppId, Package},
    credits::Credits,
};
use sqlx::PgConnection;

use super::{Tell, connect};

pub async fn tend_apps(database: &Database, task: AppsTask, tell: Tell) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    let key = ServiceKey::new();
    match task {
        AppsTask::Add {
            id,
            name,
            origins,
            permissions,
            daily_grant_cap,
        } => {
            let app = NewApp {
                name: name.as_deref().unwrap_or(id.as_str()),
                id: &id,
                origins: &origins,
                permissions: &permissions,
                daily_grant_cap,
            };
            apps::add(&mut db, &app, key.hash()).await?;
            show_app(&id, &key, tell)
        }
        AppsTask::Rotate { id } => {
            apps::rotate(&mut db, &id, key.hash()).await?;
            show_app(&id, &key, tell)
        }
        AppsTask::Disable { id } => {
            apps::disable(&mut db, &id).await?;
            tell_disabled("appId", &id, tell)
        }
        AppsTask::List => list_apps(&mut db, tell).await,
    }
}

async fn list_apps(db: &mut PgConnection, tell: Tell) -> anyhow::Result<()> {
    let apps = apps::all(db).await?;
    let cap = |app: &apps::App| Credits::from_thousandths(app.daily_grant_cap).unwrap_or_default();
    let value = |app: &apps::App| {
        let apps::App {
            id,
            name,
            origins,
            permissions,
            created_at,
            disabled_at,
            ..
        } = app;
        json!({
            "appId": id,
            "name": name,
            "origins": origins,
            "permissions": permissions,
            "dailyGrantCap": cap(app),
            "createdAt": created_at,
            "disabledAt": disabled_at,
        })
    };
    let values: Vec<_> = apps.iter().map(value).collect();
    let lines = apps.iter().map(|app| {
        format!(
            "{}  {}  may {}  grants {} a day  {}{}",
            app.id,
            app.name,
            app.permissions.join(", "),
            cap(app),
            app.origins.join(" "),
            disabled(app.disabled_at.is_some()),
        )
    });
    tell.tell(&values, lines)
}

fn tell_disabled(field: &str, id: &AppId, tell: Tell) -> anyhow::Result<()> {
    let id = id.as_str();
    tell.tell(&json!({ field: id }), [format!("{id} is disabled.")])
}

const fn disabled(is_so: bool) -> &'static str {
    if is_so { "  disabled" } else { "" }
}

fn show_app(id: &AppId, key: &ServiceKey, tell: Tell) -> anyhow::Result<()> {
    let (id, key) = (id.as_str(), key.reveal());
    eprintln!("This key is shown once. Its calls carry both headers.");
    tell.tell(
        &json!({"appId": id, "serviceKey": key}),
        [format!("X-App-Id: {id}"), format!("X-Service-Key: {key}")],
    )
}

pub async fn tend_clients(
    database: &Database,
    task: ClientsTask,
    tell: Tell,
) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    match task {
        ClientsTask::Add(new) => add_client(&mut db, &new, tell).await,
        ClientsTask::Rotate { id } => {
            let secret = oidc::Secret::new();
            oidc::rotate(&mut db, &id, secret.hash()).await?;
            show_client(&id, Some(&secret), tell)
        }
        ClientsTask::Disable { id } => {
            oidc::disable(&mut db, &id).await?;
            tell_disabled("clientId", &id, tell)
        }
        ClientsTask::List => list_clients(&mut db, tell).await,
    }
}

async fn list_clients(db: &mut PgConnection, tell: Tell) -> anyhow::Result<()> {
    let clients = oidc::all(db).await?;
    let values = clients.iter().map(|client| {
        json!({
            "clientId": client.id,
            "name": client.name,
            "authMethod": client.auth_method,
            "idTokenAlg": client.id_token_alg,
            "grantTypes": client.grant_types,
            "redirectUris": client.redirect_uris,
            "trusted": client.trusted,
            "disabledAt": client.disabled_at,
        })
    });
    let values: Vec<_> = values.collect();
    let lines = clients.iter().map(|client| {
        format!(
            "{}  {}  {}  {}  {}  {}{}{}",
            client.id,
            client.name,
            client.auth_method,
            client.id_token_alg,
            client.grant_types.join(", "),
            client.redirect_uris.join(" "),
            if client.trusted { "  trusted" } else { "" },
            disabled(client.disabled_at.is_some()),
        )
    });
    tell.tell(&values, lines)
}

async fn add_client(db: &mut PgConnection, new: &NewClientArgs, tell: Tell) -> anyhow::Result<()> {
    let jwks = match &new.jwks {
        Some(file) => {
            let file = File::open(file).with_context(|| format!("opening {}", file.display()))?;
            Some(serde_json::from_reader(BufReader::new(file)).context("reading the key set")?)
        }
        None => None,
    };
    let secret = oidc::Secret::new();
    let client = oidc::NewClient {
        id: &new.id,
        name: new.name.as_deref().unwrap_or(new.id.as_str()),
        public: new.public,
        jwks,
        grant_types: &new.grant_types,
        redirect_uris: &new.redirect_uris,
        post_logout_redirect_uris: &new.post_logout_redirect_uris,
        backchannel_logout_uri: new.backchannel_logout_uri.as_deref(),
        alg: new.alg,
        trusted: new.trusted,
        without_pkce: new.without_pkce,
        matrix_server: new.matrix_server.as_deref(),
    };
    let has_secret = oidc::add(db, &client, secret.hash()).await?;
    show_client(&new.id, has_secret.then_some(&secret), tell)
}

fn show_client(id: &AppId, secret: Option<&oidc::Secret>, tell: Tell) -> anyhow::Result<()> {
    let (id, secret) = (id.as_str(), secret.map(oidc::Secret::reveal));
    if secret.is_some() {
        eprintln!("This secret is shown once.");
    }
    let lines = [format!("client_id: {id}")].into_iter();
    tell.tell(
        &json!({"clientId": id, "clientSecret": secret}),
        lines.chain(secret.map(|secret| format!("client_secret: {secret}"))),
    )
}

pub async fn tend_packages(
    database: &Database,
    task: PackagesTask,
    tell: Tell,
) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    match task {
        PackagesTask::Set {
            id,
            credits,
            price_cents,
            currency,
        } => {
            let id = id.as_str().to_owned();
            let package = Package {
                id,
                credits,
                price_cents,
                currency,
            };
            payments::set_package(&mut db, &package).await?;
        }
        PackagesTask::Remove { id } => payments::remove_package(&mut db, &id).await?,
        PackagesTask::List => {}
    }
    let listed = payments::list_packages(&mut db).await?;
    let values = listed.iter().map(|listed| {
        let Package {
            id,
            credits,
            price_cents,
            currency,
        } = &listed.package;
        json!({
            "id": id,
            "credits": credits,
            "priceCents": price_cents,
            "currency": currency,
            "isActive": listed.is_active,
        })
    });
    let values: Vec<_> = values.collect();
    let lines = listed.iter().map(|listed| {
        let Package {
            id,
            credits,
            price_cents,
            currency,
        } = &listed.package;
        let (credits, removed) = (
            credits.to_string(),
            if listed.is_active { "" } else { "  (removed)" },
        );
        format!("{id:<20}  {credits:>12} credits  {price_cents:>8} cents {currency}{removed}")
    });
    tell.tell(&values, lines)
}

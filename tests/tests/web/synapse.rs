//! Matrix's Synapse: somebody signs in to it by us, and has a Matrix access token in the end.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Answer, Client, free_ports, operator::operate};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::rig::{Person, python, run};

const SERVER: &str = "matrix.example.org";
const START_WITHIN: Duration = Duration::from_mins(1);

/// A Synapse of its own, which ends when this is dropped.
struct Synapse {
    client: Client,
    folder: TempDir,
    _process: Child,
}

impl Synapse {
    async fn start(secret: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [port, _] = free_ports()?;
        let url = format!("http://127.0.0.1:{port}");
        let config = folder.path().join("homeserver.yaml");
        // YAML reads JSON.
        fs::write(
            &config,
            settings(folder.path(), &url, port, secret).to_string(),
        )?;
        let synapse = |argument: Option<&str>| -> Result<Command> {
            let log = fs::File::create(folder.path().join("log"))?;
            let mut command = Command::new(python()?);
            command
                .args(["-m", "synapse.app.homeserver", "--config-path"])
                .arg(&config)
                .args(argument)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true);
            Ok(command)
        };
        let keys = synapse(Some("--generate-keys"))?.status().await?;
        let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        ensure!(keys.success(), "{}", log());
        let process = synapse(None)?.spawn()?;
        let client = Client::new(&url);
        let begun = Instant::now();
        while client.get("/_matrix/client/versions").send().await.is_err() {
            ensure!(begun.elapsed() < START_WITHIN, "{}", log());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            client,
            folder,
            _process: process,
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn settings(folder: &Path, url: &str, port: u16, secret: &str) -> Value {
    json!({
        "server_name": SERVER,
        "public_baseurl": url,
        "report_stats": false,
        "trusted_key_servers": [],
        "signing_key_path": folder.join("signing.key"),
        "media_store_path": folder.join("media"),
        "pid_file": folder.join("pid"),
        "macaroon_secret_key": "of this test",
        "form_secret": "of this test",
        "database": {"name": "sqlite3", "args": {"database": folder.join("synapse.db")}},
        "listeners": [{
            "port": port, "type": "http", "bind_addresses": ["127.0.0.1"], "resources": [{"names": ["client"]}],
        }],
        "oidc_providers": [{
            "idp_id": "tollgate",
            "idp_name": "Tollgate",
            "issuer": Client::of_stack().url(""),
            // We are on loopback, and not by TLS.
            "skip_verification": true,
            "client_id": "synapse",
            "client_secret": secret,
            "scopes": ["openid", "profile", "email"],
            "user_profile_method": "userinfo_endpoint",
            "user_mapping_provider": {"config": {
                "localpart_template": "{{ user.sub }}", "display_name_template": "{{ user.name }}",
            }},
        }],
    })
}

#[tokio::test]
async fn somebody_signs_in_to_synapse_in_a_browser_by_python() -> Result<()> {
    let said = operate(&[
        "clients",
        "add",
        "synapse",
        "--trusted",
        "--matrix-server",
        SERVER,
        "--redirect-uri",
        "http://127.0.0.1/_synapse/client/oidc/callback",
    ])
    .await?;
    let secret = said.split_whitespace().last().context("a secret")?;
    let synapse = Synapse::start(secret).await?;
    let ada = Person::sign_up().await?;
    let [port, _] = free_ports()?;
    let back = format!("http://127.0.0.1:{port}/element");
    let mut start = Url::parse(
        &synapse
            .client
            .url("/_matrix/client/v3/login/sso/redirect/oidc-tollgate"),
    )?;
    start.query_pairs_mut().append_pair("redirectUrl", &back);
    let visited = run("visit.mjs", &ada.visit(start.as_str(), &back, "synapse"))
        .await
        .with_context(|| synapse.log())?;
    let url = Url::parse(visited["url"].as_str().context("a URL")?)?;
    let mut pairs = url.query_pairs();
    let (_, token) = pairs
        .find(|(name, _)| name == "loginToken")
        .context("a token")?;

    let login = json!({"type": "m.login.token", "token": token});
    let login = synapse.client.post("/_matrix/client/v3/login").json(&login);
    let login = Answer::to(login).await?.ok();
    let access = login.body["access_token"].as_str().context("a token")?;
    let who = synapse.client.get("/_matrix/client/v3/account/whoami");
    let who = Answer::to(who.bearer_auth(access)).await?.ok();
    let mxid = format!("@{}:{SERVER}", ada.id);
    assert_eq!(who.body["user_id"], mxid);

    let edge = Client::of_stack();
    let links = edge
        .get("/api/v1/auth/matrix-user-links")
        .bearer_auth(&ada.access);
    let links = Answer::to(links).await?.ok();
    assert_eq!(links.body["links"][0]["matrixUserId"], mxid, "{links:?}");
    Ok(())
}

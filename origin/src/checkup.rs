//! Whether an origin would serve as it is configured: each thing that it needs is asked once, and nothing
//! is changed.

use std::fmt::Display;

use sqlx::{Connection, PgConnection};

use crate::{
    config::Config,
    db::{self, Db, Pooled, Schema},
    keys, limits,
};

/// One thing, and what is good or bad about it.
pub struct Finding {
    /// Which.
    pub what: &'static str,
    /// What is good or bad about it.
    pub outcome: Result<String, String>,
}

/// Asks them all.
pub async fn check_up(config: &Config) -> Vec<Finding> {
    let mut findings = vec![finding(
        "settings",
        config.check().map(|()| "hold together"),
    )];
    let url = &config.database.database_url;
    match PgConnection::connect_with(url).await {
        Ok(mut owner) => findings.extend(look(config, &mut owner).await),
        Err(why) => findings.push(finding("DATABASE_URL", Err::<&str, _>(why))),
    }
    if let Some(pooler) = config.database_pooler_url.clone() {
        let db = Db::new(url.clone(), Some(pooler), 1);
        findings.push(finding("DATABASE_POOLER_URL", pooled(&db).await));
    }
    if let Some(redis) = config.redis_url.clone() {
        let answer = async {
            let mut connection = limits::connect(redis)?;
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
        };
        findings.push(finding("REDIS_URL", answer.await.map(|_| "answers")));
    }
    findings
}

/// At the database, as its owner.
async fn look(config: &Config, owner: &mut PgConnection) -> Vec<Finding> {
    let schema = db::schema(owner).await;
    let has_keys = matches!(schema, Ok(Schema::Current | Schema::Newer));
    let schema = match schema {
        Ok(Schema::Current) => Ok("the schema is the one of this program"),
        Ok(Schema::Older) => Ok("the schema is older, and brought up by `origin serve`"),
        Ok(Schema::Newer) => Err("the schema is newer than this program".to_owned()),
        Err(why) => Err(why.to_string()),
    };
    let mut findings = vec![finding("DATABASE_URL", schema)];
    if has_keys {
        let sealing = &config.sealing.key_encryption_key;
        let opened = match keys::open_with(owner, sealing).await {
            Ok(true) => Ok("opens the key that signs"),
            Ok(false) => Ok("will seal the first key"),
            Err(why) => Err(why),
        };
        findings.push(finding("KEY_ENCRYPTION_KEY", opened));
    }
    findings
}

fn finding(what: &'static str, outcome: Result<impl Display, impl Display>) -> Finding {
    Finding {
        what,
        outcome: match outcome {
            Ok(good) => Ok(good.to_string()),
            Err(bad) => Err(bad.to_string()),
        },
    }
}

async fn pooled(db: &Db) -> Result<&'static str, String> {
    let seen = db::pooled(db.pool()).await.map_err(|why| why.to_string())?;
    match seen {
        Pooled { is_runtime: false, .. } => Err("its role is no member of tollgate_app".to_owned()),
        Pooled { is_more: true, .. } => {
            Err("its role may do more than tollgate_app: it must be no superuser, and pass by no row-level security".to_owned())
        }
        Pooled { has_end: false, .. } => Err("its role lacks a statement_timeout or an idle_in_transaction_session_timeout".to_owned()),
        _ => Ok("its role is the one for requests"),
    }
}

//! Accounts.

use std::{fs::File, io::BufReader, path::Path};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use origin::{
    admin::{Change, Looked, People, Search, operator},
    cli::UsersTask,
    config::{Database, Remembering},
    import_users,
};
use serde_json::json;
use sqlx::PgConnection;

use super::{Tell, connect};

pub async fn tend(database: &Database, task: UsersTask, tell: Tell) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    let (who, change) = match task {
        UsersTask::Import { file, remembering } => {
            return import(&mut db, &file, &remembering, tell).await;
        }
        UsersTask::List {
            search,
            after,
            limit,
        } => {
            let search = Search::new(&search, &after).limit(limit.into());
            return list(&operator::find(&mut db, &search).await?, tell);
        }
        UsersTask::Show { who } => {
            let user = operator::named(&mut db, &who).await?;
            return show(&operator::look(&mut db, user).await?, tell);
        }
        UsersTask::Role { who, role } => (who, Change::Role(role)),
        UsersTask::Ban { who } => (who, Change::Ban),
        UsersTask::Unban { who } => (who, Change::Unban),
        UsersTask::SignOut { who } => (who, Change::SignOut),
    };
    let user = operator::named(&mut db, &who).await?;
    operator::change(&mut db, user, change).await?;
    tell.tell(&json!({"userId": user}), [format!("Done for {user}.")])
}

fn list(people: &People, tell: Tell) -> anyhow::Result<()> {
    let lines = people.found.iter().map(|person| {
        let (role, status) = (person.role.as_str(), &person.status);
        format!("{}  {role:<5}  {status:<6}  {}", person.id, person.email)
    });
    let more = people.next.iter();
    let more = more.map(|next| format!("More with --after {next}"));
    tell.tell(people, lines.chain(more))
}

fn show(looked: &Looked, tell: Tell) -> anyhow::Result<()> {
    let account = &looked.account;
    let mut lines = vec![
        format!("{}  {}", account.id, account.email),
        format!("{}, {}", account.role.as_str(), account.status),
    ];
    for (what, is_so) in [
        ("verified address", account.email_verified),
        ("password", account.has_password),
        ("second factor", account.has_second_factor),
    ] {
        lines.push(format!("{what}: {}", if is_so { "yes" } else { "no" }));
    }
    let linked = looked.linked.iter();
    lines.extend(linked.map(|linked| format!("linked: {}", linked.provider)));
    for session in &looked.sessions {
        let agent = session.user_agent.as_deref().unwrap_or("unknown program");
        let (id, used) = (session.id, session.last_used_at);
        lines.push(format!("session {id}  last used {used}  {agent}"));
    }
    let events = looked.events.iter();
    lines.extend(events.map(|event| format!("{}  {}  {}", event.at, event.r#type, event.outcome)));
    tell.tell(looked, lines)
}

async fn import(
    db: &mut PgConnection,
    file: &Path,
    remembering: &Remembering,
    tell: Tell,
) -> anyhow::Result<()> {
    let opening = || format!("opening {}", file.display());
    let lines = File::open(file).with_context(opening)?;
    let bar = ProgressBar::new(lines.metadata().with_context(opening)?.len());
    bar.set_style(ProgressStyle::with_template(
        "{wide_bar} {bytes} of {total_bytes}, {eta} to go",
    )?);
    let lines = BufReader::new(bar.wrap_read(lines));
    let imported = import_users(db, &remembering.email_hash_key, lines).await?;
    bar.finish_and_clear();
    for (number, why) in &imported.wrong {
        eprintln!("line {number}: {why}");
    }
    let (made, there) = (imported.made, imported.there);
    let wrong = imported.wrong.iter();
    let wrong: Vec<_> = wrong
        .map(|(line, why)| json!({"line": line, "why": why}))
        .collect();
    tell.tell(
        &json!({"imported": made, "there": there, "wrong": wrong}),
        [format!("{made} imported, {there} here already")],
    )?;
    let count = wrong.len();
    anyhow::ensure!(count == 0, "{count} lines are wrong");
    Ok(())
}

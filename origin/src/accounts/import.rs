//! Moving in: accounts of another service, a JSON object a line. A line that is wrong is told by
//! its number, and the others go on. It can be run again: who is here already stays as they are.

use std::io::{BufRead, Read};

use shared::{
    api::{self, Email, Fields, Moment, Name, Refusal, Token},
    ids::UserId,
    problem::Problem,
};
use sqlx::PgConnection;

use crate::{config::Key, rim};

use super::{foreign::Adopted, proof::email_hash, store};

const MAX_LINE_BYTES: u64 = 16 * 1024;

/// What became of the lines.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// Accounts that were made.
    pub made: u64,
    /// Whose address or id was here already.
    pub there: u64,
    /// Lines that are wrong: the number, from 1, and why.
    pub wrong: Vec<(u64, String)>,
}

/// Makes an account of each line: `{"email", "passwordHash", "id"?, "name"?, "emailVerified"?,
/// "createdAt"?}`. Empty lines are passed over.
pub async fn import_users(
    db: &mut PgConnection,
    key: &Key,
    mut lines: impl BufRead,
) -> anyhow::Result<Imported> {
    let mut imported = Imported::default();
    for number in 1.. {
        let mut line = Vec::new();
        if lines
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        if line.len() as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
            lines.skip_until(b'\n')?;
            let why = format!("has more than {MAX_LINE_BYTES} bytes");
            imported.wrong.push((number, why));
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read(&line) {
            Ok((account, hash)) => {
                let normalised = account.email.normalised();
                let row = store::MovedIn {
                    id: account.id.unwrap_or_else(rim::new_id),
                    email: account.email.as_str(),
                    email_normalised: &normalised,
                    email_verified: account.email_verified,
                    name: account.name.as_ref().map(Name::as_str),
                    hash: hash.as_str(),
                    created_at: account.created_at.map_or_else(rim::now, Moment::time),
                    email_hash: &email_hash(key, &normalised),
                };
                if store::import(db, &row).await? {
                    imported.made += 1;
                } else {
                    imported.there += 1;
                }
            }
            Err(why) => imported.wrong.push((number, why)),
        }
    }
    Ok(imported)
}

/// An account as its line has it.
struct Line {
    id: Option<UserId>,
    email: Email,
    hash: Token,
    name: Option<Name>,
    email_verified: bool,
    created_at: Option<Moment>,
}

impl api::Body for Line {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (id, email) = (fields.optional("id"), fields.required("email"));
        let (hash, name) = (fields.required("passwordHash"), fields.optional("name"));
        let verified = fields.optional::<bool>("emailVerified");
        let created_at = fields.optional("createdAt");
        Some(Self {
            id: id?,
            email: email?,
            hash: hash?,
            name: name?,
            email_verified: verified?.unwrap_or(false),
            created_at: created_at?,
        })
    }
}

fn read(line: &[u8]) -> Result<(Line, Adopted), String> {
    let line: Line = api::parse(line).map_err(|refusal: Refusal| match refusal {
        Refusal::Malformed { column, .. } => format!("is not JSON at byte {column}"),
        invalid @ Refusal::Invalid(_) => Problem::from(invalid).detail,
    })?;
    let hash = Adopted::parse(line.hash.as_str()).map_err(|why| format!("passwordHash {why}"))?;
    Ok((line, hash))
}

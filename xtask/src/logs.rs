//! What the tests' stack has logged, in which no secret may be.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use ::tests::shown;

use crate::secrets::{NAMES, Secrets};

/// What passwords of the tests, access tokens, service keys, clients' secrets and Stripe's keys have in them,
/// and no line of a log may. What bears no mark is written down by [`shown`]. Links of mails are not looked for:
/// a developer's `MAIL_DIR` logs them.
const MARKS: [&str; 8] = [
    "horse battery",
    "correct horse",
    "eyJ",
    "tgs_",
    "tgc_",
    "sk_test_",
    "whsec_",
    "otpauth:",
];

/// What the name of a test's database begins with; what follows is random, and may have a mark in it.
const TEST_DATABASE: &str = "_sqlx_test_";

/// Looks at every log of the stack in this folder.
pub fn hold_no_secret(data_dir: &Path, secrets: &Secrets) -> Result<()> {
    let ours = NAMES.iter().map(|name| secrets.get(name));
    let ours: Vec<&str> = ours.collect::<Result<_>>()?;
    let shown = shown::remembered(data_dir)?;
    let mut lines = 0;
    for log in fs::read_dir(data_dir.join("logs"))? {
        let log = log?.path();
        // Wrangler has a folder there, in which it keeps what it says once more.
        if log.is_dir() {
            continue;
        }
        // It may have bytes of others that are no text.
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        for line in text.lines() {
            lines += 1;
            let line = without_names(line);
            let found = MARKS.iter().chain(&ours).find(|mark| line.contains(**mark));
            let found = found.map(|mark| line.replace(mark, "…"));
            ensure!(found.is_none(), "a secret in {}: {found:?}", log.display());
            let found = shown::words(&line).find(|word| shown.contains(*word));
            let found = found.map(|word| line.replace(word, "…"));
            ensure!(
                found.is_none(),
                "what somebody was shown, in {}: {found:?}",
                log.display()
            );
        }
    }
    ensure!(lines > 0, "nothing was logged");
    Ok(())
}

fn without_names(line: &str) -> String {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    let mut parts = line.split(TEST_DATABASE);
    let first = parts.next().unwrap_or_default();
    let others = parts.map(|part| part.trim_start_matches(is_of_name));
    [first].into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_and_the_name_of_a_database_is_none() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let secrets = Secrets::load_or_make(folder.path())?;
        fs::create_dir(folder.path().join("logs"))?;
        let judge = |line: &str| {
            fs::write(folder.path().join("logs/one.log"), line)?;
            hold_no_secret(folder.path(), &secrets)
        };
        judge("db=_sqlx_test_SzeyJBzs user=tollgate_pool")?;
        fs::write(folder.path().join("shown"), "AQIDBAUGBwgJCgsMDQ4PEA\n")?;
        judge("AQIDBAUGBwgJCgsMDQ4PEAA")?;
        for line in [
            "bearer eyJhbGciOiJFZERTQSJ9",
            "db=_sqlx_test_Sz7 token=eyJhbGciOiJFZERTQSJ9",
            r#"{"path":"/oauth2/token","said":"code=AQIDBAUGBwgJCgsMDQ4PEA&x=1"}"#,
            secrets.get("EDGE_PROOF_KEY")?,
        ] {
            assert!(judge(line).is_err(), "{line}");
        }
        assert!(judge("").is_err(), "nothing was logged");
        Ok(())
    }
}

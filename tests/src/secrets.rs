//! The secrets of a local Tollgate: each made once, kept in one file that only its owner reads.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};

/// Their names: those of the origin's and the edge's settings, where they have one.
pub const NAMES: [&str; 5] = [
    "EDGE_PROOF_KEY",
    "EMAIL_HASH_KEY",
    "KEY_ENCRYPTION_KEY",
    "POSTGRES_PASSWORD",
    "REFRESH_TOKEN_KEY",
];

/// Each secret by its name: 32 bytes in base64.
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Reads the secrets of `data_dir`, or makes them.
    pub fn load_or_make(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("secrets.env");
        if !path.exists() {
            let lines: Result<String> = NAMES
                .iter()
                .map(|name| Ok(format!("{name}={}\n", random()?)))
                .collect();
            write_private(&path, &lines?)?;
        }
        let text = fs::read_to_string(&path)?;
        let values = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self(values))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Result<&str> {
        let value = self.0.get(name);
        value
            .map(String::as_str)
            .with_context(|| format!("secrets.env lacks {name}: delete the data folder"))
    }
}

/// Writes a file whole or not at all; nobody else can read it at any time.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(&unfinished)?.write_all(text.as_bytes())?;
    fs::rename(unfinished, path)?;
    Ok(())
}

fn random() -> Result<String> {
    let mut bytes = [0; 32];
    #[expect(
        clippy::disallowed_methods,
        reason = "secrets of a local run are made here"
    )]
    getrandom::fill(&mut bytes)?;
    Ok(Base64::encode_string(&bytes))
}

//! What people were shown that nobody else may learn: tests write it down beside the stack, whose logs are
//! searched for it when they are over.

use std::{
    collections::HashSet,
    env,
    fs::{self, OpenOptions},
    io::{ErrorKind, Result, Write},
    path::Path,
};

use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use serde_json::Value;

const FILE: &str = "shown";
/// Shorter texts are words, such as the type of a token.
const FEWEST_CHARS: usize = 16;

/// Writes down the secrets of an answer.
pub fn remember(headers: &HeaderMap, body: &Value) -> Result<()> {
    let Ok(data_dir) = env::var("DATA_DIR") else {
        return Ok(());
    };
    let mut secrets = Vec::new();
    for cookie in texts(headers, SET_COOKIE.as_str()) {
        let pair = cookie.split(';').next().unwrap_or_default();
        secrets.extend(pair.split_once('=').map(|(_, value)| value.to_owned()));
    }
    for place in texts(headers, LOCATION.as_str()) {
        let query = place.split_once('?').map_or("", |(_, query)| query);
        let codes = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("code="));
        secrets.extend(codes.map(str::to_owned));
    }
    gather(body, false, &mut secrets);
    secrets.retain(|secret| secret.len() >= FEWEST_CHARS);
    if secrets.is_empty() {
        return Ok(());
    }
    // One write each, so that what tests write at once stays apart.
    let mut file = OpenOptions::new();
    let mut file = file
        .create(true)
        .append(true)
        .open(Path::new(&data_dir).join(FILE))?;
    file.write_all((secrets.join("\n") + "\n").as_bytes())
}

/// All that was written down.
pub fn remembered(data_dir: &Path) -> Result<HashSet<String>> {
    match fs::read_to_string(data_dir.join(FILE)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(HashSet::new()),
        Err(why) => Err(why),
    }
}

/// The words of a line, as a secret would be one.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "._~+/-".contains(letter);
    line.split(move |letter| !is_of_word(letter))
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok())
}

/// Every text of an answer whose name says that it is a secret.
fn gather(value: &Value, is_secret: bool, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) if is_secret => secrets.push(text.clone()),
        Value::Array(values) => {
            for value in values {
                gather(value, is_secret, secrets);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                let marks = ["token", "secret", "recoverycodes", "servicekey"];
                gather(value, marks.iter().any(|mark| name.contains(mark)), secrets);
            }
        }
        _ => {}
    }
}

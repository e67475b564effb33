//! `cargo xtask tidy`: the rules of this repository that a program can check. Each finding is a
//! line `path:line: why`, and the reasons are in `docs/ARCHITECTURE.md`.

mod rules;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::tools::root;

/// Something that is against a rule.
#[derive(Debug, Eq, PartialEq)]
struct Finding {
    /// Counted from 1.
    line: usize,
    why: String,
}

/// Checks every file that is, or would be, part of the repository.
pub fn tidy() -> Result<()> {
    let mut count = 0;
    for path in files()? {
        // What is not text has no rules.
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        let mut findings = rules::check(&path, &text);
        findings.extend(dead_links(&path, &text));
        if path == "Cargo.lock" {
            let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
            findings.extend(rules::wasm_bindgen_versions(&text, &manifest));
        }
        count += findings.len();
        for Finding { line, why } in findings {
            eprintln!("{path}:{line}: {why}");
        }
    }
    ensure!(count == 0, "{count} findings");
    Ok(())
}

fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let output = git.current_dir(root()).output().context("cannot run git")?;
    let listed = String::from_utf8(output.stdout)?;
    let files = listed.split_terminator('\0').map(str::to_owned);
    // A file can be deleted and not yet removed from the index.
    Ok(files.filter(|path| root().join(path).is_file()).collect())
}

/// Links of a page to files that are not there.
fn dead_links(path: &str, text: &str) -> Vec<Finding> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let dead = rules::links(path, text).into_iter().filter(|(_, link)| {
        let file = link.split('#').next().unwrap_or_default();
        !root().join(folder).join(file).exists()
    });
    dead.map(|(line, link)| Finding {
        line,
        why: format!("links to {link}, which is not there"),
    })
    .collect()
}

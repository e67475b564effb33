//! The rules, as functions of a file's path and text.

use super::Finding;

const MAX_LINES: usize = 500;
const MAX_ENTRY_LINES: usize = 100;

/// Words that only some files may say in code.
struct Reserved {
    words: &'static [&'static str],
    /// Whether the rule concerns this file at all.
    within: fn(&str) -> bool,
    why: &'static str,
}

const RESERVED: [Reserved; 4] = [
    Reserved {
        words: &["worker::", "web_sys", "wasm_bindgen", "js_sys"],
        within: |path| is_core(path) && path != "edge/src/worker.rs",
        why: "belongs into edge/src/worker.rs: the core knows no platform",
    },
    Reserved {
        words: &["spin_sdk"],
        within: |path| is_core(path) && path != "edge/src/spin.rs",
        why: "belongs into edge/src/spin.rs: the core knows no platform",
    },
    Reserved {
        words: &[
            "Utc::now",
            "SystemTime",
            "Instant",
            "getrandom",
            "new_v4",
            "now_v7",
        ],
        within: |path| path.starts_with("shared/src/") || path == "edge/src/gate.rs",
        why: "is a clock or randomness: take it as a parameter",
    },
    Reserved {
        words: &["sqlx::query"],
        within: |path| {
            let is_sql = ["/store.rs", "/ledger.rs", "/db.rs"];
            path.starts_with("origin/src/") && !is_sql.iter().any(|name| path.ends_with(name))
        },
        why: "belongs into a store.rs or ledger.rs",
    },
];

fn is_core(path: &str) -> bool {
    path.starts_with("edge/src/") || path.starts_with("shared/src/")
}

/// Everything that is wrong with one file by itself.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if extension(path, "rs") {
        findings.extend(reserved_words(path, text));
    }
    if ["rs", "mjs", "sql"]
        .iter()
        .any(|kind| extension(path, kind))
    {
        findings.extend(unfinished(text));
        findings.extend(length(path, text));
    }
    let migrations = path.strip_prefix("migrations/");
    if let Some(name) = migrations.filter(|name| *name != "README.md") {
        findings.extend(migration(name, text));
    }
    findings
}

/// The library that splits the Wasm refuses any other version than the one compiled in.
pub fn wasm_bindgen_versions(lock: &str, manifest: &str) -> Option<Finding> {
    let at = lock.find("name = \"wasm-bindgen\"\nversion = \"")?;
    let locked = lock[at..].split('"').nth(3)?;
    let pin = format!("wasm-bindgen-cli-support = \"={locked}\"");
    (!manifest.contains(&pin)).then(|| Finding {
        line: lock[..at].lines().count() + 1,
        why: format!("wasm-bindgen is {locked}, so Cargo.toml must say `{pin}`"),
    })
}

/// The links of a page to other files of the repository, each with its line.
pub fn links(path: &str, text: &str) -> Vec<(usize, String)> {
    if !extension(path, "md") {
        return Vec::new();
    }
    let links = text.lines().enumerate().flat_map(|(at, line)| {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        targets.map(move |target| (at + 1, target.to_owned()))
    });
    links
        .filter(|(_, target)| !target.contains("://") && !target.starts_with('#'))
        .collect()
}

fn reserved_words(path: &str, text: &str) -> Vec<Finding> {
    let rules = RESERVED.iter().filter(|rule| (rule.within)(path));
    let rules: Vec<_> = rules.collect();
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for rule in &rules {
            let said = rule.words.iter().find(|word| says(code_of(line), word));
            findings.extend(said.map(|word| Finding {
                line: at + 1,
                why: format!("`{word}` {}", rule.why),
            }));
        }
    }
    findings
}

fn unfinished(text: &str) -> Option<Finding> {
    // In halves, so that this file passes its own rule.
    let marks = [
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("db", "g!("),
    ];
    let is_unfinished = |line: &str| marks.iter().any(|mark| line.contains(mark));
    text.lines().position(is_unfinished).map(|at| Finding {
        line: at + 1,
        why: "is unfinished".to_owned(),
    })
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let (most, why) = if path == "edge/entry.mjs" {
        (MAX_ENTRY_LINES, "the entry decides nothing")
    } else {
        (MAX_LINES, "a file is read in one go")
    };
    (text.lines().count() > most).then(|| Finding {
        line: most + 1,
        why: format!("has more than {most} lines: {why}"),
    })
}

fn migration(name: &str, text: &str) -> Vec<Finding> {
    let named = name
        .strip_suffix(".sql")
        .and_then(|name| name.split_once('_'));
    let is_named = named.is_some_and(|(time, why)| {
        time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()) && !why.is_empty()
    });
    let rules = [
        (is_named, "must be named YYYYMMDDHHMMSS_why.sql"),
        (
            text.starts_with("--"),
            "must open with a comment that says why",
        ),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| !holds);
    broken
        .map(|(_, why)| Finding {
            line: 1,
            why: why.to_owned(),
        })
        .collect()
}

/// A line without its comment.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `code` has `word` with nothing before it that would make it another word.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn extension(path: &str, kind: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, extension)| extension == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(path, text)
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn only_the_rim_names_its_platform() {
        let text = "//! Runs under `worker::Env`.\nuse worker::Env;\nuse coworker::Env;\n";
        assert_eq!(lines("edge/src/gateway.rs", text), [2]);
        assert_eq!(lines("edge/src/worker.rs", text), [0; 0]);
        assert_eq!(lines("edge/src/worker.rs", "use spin_sdk::http;"), [1]);
    }

    #[test]
    fn what_is_pure_reads_no_clock() {
        let text = "let now = Utc::now();";
        assert_eq!(lines("shared/src/jwt.rs", text), [1]);
        assert_eq!(lines("edge/src/gate.rs", text), [1]);
        assert_eq!(lines("origin/src/rim.rs", text), [0; 0]);
    }

    #[test]
    fn sql_lives_in_stores() {
        let text = "sqlx::query!(\"SELECT 1\")";
        assert_eq!(lines("origin/src/sessions/routes.rs", text), [1]);
        assert_eq!(lines("origin/src/sessions/store.rs", text), [0; 0]);
    }

    #[test]
    fn migrations_are_dated_and_say_why() {
        let good = "-- Why.\nSELECT 1;";
        assert_eq!(lines("migrations/20261123000100_roles.sql", good), [0; 0]);
        assert_eq!(lines("migrations/20261123_roles.sql", good), [1]);
        assert_eq!(lines("migrations/README.md", "# Migrations"), [0; 0]);
        assert_eq!(
            lines("migrations/20261123000100_roles.sql", "SELECT 1;"),
            [1]
        );
    }

    #[test]
    fn the_entry_is_short() {
        assert_eq!(lines("edge/entry.mjs", &"x\n".repeat(101)), [101]);
        assert_eq!(lines("edge/host.mjs", &"x\n".repeat(101)), [0; 0]);
    }

    #[test]
    fn the_two_wasm_bindgens_agree() {
        let lock = "[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        let pin = |version| format!("wasm-bindgen-cli-support = \"={version}\"");
        assert_eq!(wasm_bindgen_versions(lock, &pin("0.2.130")), None);
        let finding = wasm_bindgen_versions(lock, &pin("0.2.129"));
        assert_eq!(finding.map(|finding| finding.line), Some(2));
    }

    #[test]
    fn links_to_files_are_found() {
        let text = "[a](b.md), [c](https://d.example)\n[e](f/g.md#h) [i](#j)";
        let expected = [(1, "b.md".to_owned()), (2, "f/g.md#h".to_owned())];
        assert_eq!(links("README.md", text), expected);
    }
}

//! A configuration of other providers that cannot be meant is refused at the start, which says
//! where the mistake is.

use clap::Parser;
use origin::cli::{Cli, Task};

use crate::support::SECRET;

/// What a start with these flags says.
pub fn start(flags: &[&str]) -> Result<(), String> {
    let secrets = [
        "key-encryption-key",
        "email-hash-key",
        "edge-proof-key",
        "refresh-token-keys",
    ]
    .map(|name| {
        let id = if name == "refresh-token-keys" {
            "1:"
        } else {
            ""
        };
        format!("--{name}={id}{SECRET}")
    });
    let args = [
        "origin",
        "serve",
        "--database-url=postgres://nowhere",
        "--public-url=http://127.0.0.1:8787",
        "--require-email-verification=false",
    ];
    let name = |flag: &str| flag.split('=').next().map(str::to_owned);
    let args = args
        .into_iter()
        .filter(|default| flags.iter().all(|flag| name(flag) != name(default)))
        .chain(secrets.iter().map(String::as_str))
        .chain(flags.iter().copied());
    match Cli::try_parse_from(args)
        .map_err(|why| why.to_string())?
        .task
    {
        Task::Serve(config) => config.check(),
        _ => panic!("serve was asked for"),
    }
}

#[test]
fn a_list_of_providers_that_cannot_be_meant_is_refused_by_its_name() {
    let good = r#"{"id": "acme", "issuer": "https://id.example", "clientId": "c"}"#;
    assert_eq!(start(&[&format!("--oidc-providers=[{good}]")]), Ok(()));
    let with = |from: &str, to: &str| format!("[{}]", good.replace(from, to));
    for list in [
        "not JSON".to_owned(),
        good.to_owned(),
        format!("[{good}, {good}]"),
        with("acme", "google"),
        with("acme", "Acme"),
        with("acme", ""),
        with(r#""c""#, r#""""#),
        with("clientId", "client"),
        with("https://", "http://"),
        with("id.example", "id.example?a=b"),
        with("https://id.example", "id.example"),
    ] {
        let said = start(&[&format!("--oidc-providers={list}")]).expect_err(&list);
        assert!(said.contains("OIDC_PROVIDERS"), "{list}: {said}");
        assert!(!said.contains(&list), "a client's secret may be in it");
    }
    let on_loopback = with("https://id.example", "http://127.0.0.1:9000");
    assert_eq!(start(&[&format!("--oidc-providers={on_loopback}")]), Ok(()));
}

#[test]
fn what_goes_together_is_refused_when_a_part_is_missing() {
    for (flags, name) in [
        (&["--google-client-id=c"][..], "GOOGLE_CLIENT_SECRET"),
        (&["--google-client-secret=s"], "GOOGLE_CLIENT_ID"),
        (&["--github-client-id=c"], "GITHUB_CLIENT_SECRET"),
        (&["--github-client-secret=s"], "GITHUB_CLIENT_ID"),
        (
            &["--apple-client-id=c", "--apple-team-id=t"],
            "APPLE_PRIVATE_KEY",
        ),
        (&["--apple-private-key=no key"], "APPLE_PRIVATE_KEY"),
        (&["--google-native-audiences=a"], "GOOGLE_CLIENT_ID"),
        (&["--apple-native-audiences=a"], "APPLE_CLIENT_ID"),
        (&["--google-issuer=http://id.example"], "GOOGLE_ISSUER"),
        (&["--apple-issuer=http://id.example"], "APPLE_ISSUER"),
        (&["--github-base=http://id.example"], "GITHUB_BASE"),
        (&["--github-api-base=http://id.example"], "GITHUB_API_BASE"),
    ] {
        let said = start(flags).expect_err(name);
        assert!(said.contains(name), "{flags:?}: {said}");
    }
}

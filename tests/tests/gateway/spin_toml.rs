//! The two deployments, held to the same variables, and the environments of the one.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::root;

fn manifest(name: &str) -> Result<Value> {
    let text = fs::read_to_string(root().join(name))?;
    Ok(serde_json::to_value(text.parse::<toml::Table>()?)?)
}

#[test]
fn spin_toml_has_the_variables_of_wrangler_toml() -> Result<()> {
    let (wrangler, spin) = (manifest("wrangler.toml")?, manifest("spin.toml")?);
    let vars = wrangler["vars"].as_object().context("variables")?;
    for (name, value) in vars {
        assert_eq!(
            spin["variables"][name.to_lowercase()]["default"],
            *value,
            "{name}"
        );
    }
    Ok(())
}

/// Wrangler deploys an environment without them all the same.
#[test]
fn every_environment_of_wrangler_toml_has_what_it_does_not_inherit() -> Result<()> {
    let wrangler = manifest("wrangler.toml")?;
    let all = wrangler["vars"].as_object().context("variables")?;
    let environments = wrangler["env"].as_object().context("environments")?;
    for (name, environment) in environments {
        assert_eq!(
            environment["durable_objects"], wrangler["durable_objects"],
            "{name}"
        );
        let vars = environment["vars"].as_object().context("its variables")?;
        assert!(vars.keys().eq(all.keys()), "{name}: {vars:?}");
        let secrets = &environment["secrets"]["required"];
        assert_eq!(*secrets, serde_json::json!(["EDGE_PROOF_KEY"]), "{name}");
    }
    Ok(())
}

#[test]
fn the_component_is_given_every_variable_by_its_own_name() -> Result<()> {
    let spin = manifest("spin.toml")?;
    let given = spin["component"]["edge"]["variables"]
        .as_object()
        .context("given")?;
    let declared = spin["variables"].as_object().context("declared")?;
    for (name, value) in given {
        assert_eq!(*value, format!("{{{{ {name} }}}}"));
    }
    assert!(given.keys().eq(declared.keys()));
    Ok(())
}

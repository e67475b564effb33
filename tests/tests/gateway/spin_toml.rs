//! The two deployments, held to the same variables.

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

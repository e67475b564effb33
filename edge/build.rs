//! Makes `policy.toml` the JSON that the edge has compiled in.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../policy.toml");
    let policy: toml::Table = fs::read_to_string("../policy.toml")?.parse()?;
    let json = Path::new(&env::var("OUT_DIR")?).join("policy.json");
    fs::write(json, serde_json::to_string(&policy)?)?;
    Ok(())
}

//! What the tests of pages need besides npm's packages: a Chromium, and a Python with relying parties of
//! other people's. A machine that can have one of them not leaves its tests out.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Result;
use tokio::process::Command;

use crate::{
    steps::say,
    tools::{debian, output, root, target_dir},
};

/// The machine's own Chromium, or Debian's.
pub async fn chromium() -> Option<PathBuf> {
    if let Some(program) = env::var_os("CHROMIUM") {
        return Some(program.into());
    }
    if let Some(program) = installed() {
        return Some(program);
    }
    debian("chromium").await;
    installed()
}

fn installed() -> Option<PathBuf> {
    let mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .chain([PathBuf::from(mac)])
        .find(|file| file.is_file())
}

/// A Python that has what `tests/requirements.txt` says.
pub async fn python() -> Option<PathBuf> {
    let folder = target_dir().join("python");
    match install_python(&folder).await {
        Ok(python) => Some(python),
        Err(why) => {
            say(&format!("no Python with relying parties here: {why:#}"));
            None
        }
    }
}

async fn install_python(folder: &Path) -> Result<PathBuf> {
    let wanted = root().join("tests/requirements.txt");
    let wanted_text = std::fs::read(&wanted)?;
    let stamp = folder.join("installed");
    let python = folder.join("bin/python");
    if std::fs::read(&stamp).is_ok_and(|earlier| earlier == wanted_text) {
        return Ok(python);
    }
    say("fetching relying parties in Python for the tests");
    let mut venv = Command::new("python3");
    output(venv.args(["-m", "venv", "--clear"]).arg(folder)).await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--only-binary=:all:"]);
    output(pip.arg("--requirement").arg(wanted)).await?;
    std::fs::write(stamp, wanted_text)?;
    Ok(python)
}

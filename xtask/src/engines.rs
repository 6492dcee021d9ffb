//! What tests need of npm and PyPI: Grafana's types and the compiler that checks them, the compiler of Flux, and
//! DataFusion. Kept beside the servers, and made anew when the versions here change.

use crate::{command, servers};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

const NPM: [&str; 3] =
    ["@grafana/schema@13.2.3", "typescript@5.9.3", "@influxdata/flux-lsp-browser@0.8.40"];
const PYPI: [&str; 2] = ["datafusion==50.1.0", "pyarrow==26.0.1"];

/// Fetches what is not there yet.
pub fn fetch() -> Result<()> {
    let folder = servers::folder();
    keep(&folder.join("npm"), &NPM, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]);
        command::run(npm.arg("--prefix").arg(folder).args(NPM))
    })?;
    keep(&folder.join("datafusion"), &PYPI, |folder| {
        command::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command::run(pip.args(["--only-binary", ":all:"]).args(PYPI))
    })
}

/// Makes a folder, unless it holds these versions.
fn keep(folder: &Path, versions: &[&str], make: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (marker, versions) = (folder.join("versions"), versions.join("\n") + "\n");
    if fs::read_to_string(&marker).is_ok_and(|made| made == versions) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    make(folder).with_context(|| format!("fetching {}", versions.trim().replace('\n', ", ")))?;
    fs::write(&marker, versions).with_context(|| format!("writing {}", marker.display()))
}

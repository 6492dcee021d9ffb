//! Real receivers for the tests of the whole: Debian's InfluxDB, VictoriaMetrics and Prometheus, kept in
//! `.cache/servers` and never installed: installing would start them on the developer's machine.

use crate::apt::Apt;
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// The release whose packages are taken everywhere, so that a test means the same on every machine.
const SUITE: &str = "bookworm";
/// Executables, each with its package. They need libc and libzstd, which every Debian has: dpkg does too.
const EXECUTABLES: [(&str, &str); 5] = [
    ("influxd", "influxdb"),
    ("victoria-metrics", "victoria-metrics"),
    ("vmagent", "victoria-metrics"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
];

/// Where the executables lie; `COLLECTOR_SERVERS` in the environment of tests and benchmarks.
pub fn folder() -> PathBuf {
    workspace::root().join(".cache/servers")
}

/// Fetches the executables that are not there yet.
pub fn fetch() -> Result<()> {
    let mut packages: Vec<_> = EXECUTABLES
        .into_iter()
        .filter(|(name, _)| !folder().join(name).is_file())
        .map(|(_, package)| package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    unpack(&packages).with_context(|| {
        format!(
            "fetching {} of Debian with apt; executables of your own can be put into {} as {}",
            packages.join(" and "),
            folder().display(),
            EXECUTABLES.map(|(name, _)| name).join(", ")
        )
    })
}

fn unpack(packages: &[&str]) -> Result<()> {
    let apt = Apt::of(&[SUITE], &folder())?;
    for package in packages {
        let root = apt.unpack(package)?;
        for (name, _) in EXECUTABLES.iter().filter(|(_, from)| from == package) {
            fs::rename(root.join("usr/bin").join(name), folder().join(name))
                .with_context(|| format!("keeping {name} of {package}"))?;
        }
    }
    Ok(())
}

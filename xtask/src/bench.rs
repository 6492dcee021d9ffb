//! `bench`: the measurements.

use crate::deps::{self, Need};
use crate::{build, command, engines, servers, workspace};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;

/// Builds, then becomes the bench program of the package system-tests.
pub fn verb(args: &[String]) -> Result<()> {
    deps::ensure(Need::Test)?;
    deps::mount_filesystems();
    build::everything()?;
    servers::fetch()?;
    if args.iter().any(|part| part == "dashboards") {
        engines::fetch()?;
    }
    // The plugins that make the load are examples; `run` alone does not build them.
    let mut cargo = command::cargo();
    let package = ["--release", "--package", "system-tests"];
    build::name_no_folders(cargo.arg("build"))?;
    command::run(cargo.args(package).args(["--bins", "--examples"]))?;
    let mut cargo = command::cargo();
    build::name_no_folders(cargo.arg("run"))?;
    cargo.args(package).args(["--bin", "bench", "--"]).args(args);
    cargo.env("COLLECTOR_DIST", workspace::dist()).env("COLLECTOR_SERVERS", servers::folder());
    let failure = cargo.exec();
    Err(failure).context("starting cargo for the bench")
}

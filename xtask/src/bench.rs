//! `bench`: the measurements.

use crate::deps::{self, Need};
use crate::{build, command, workspace};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;

/// Builds, then becomes the bench program of the package system-tests.
pub fn verb(args: &[String]) -> Result<()> {
    deps::ensure(Need::Test)?;
    deps::mount_filesystems();
    build::everything()?;
    let mut cargo = command::cargo();
    cargo.args(["run", "--release", "--package", "system-tests", "--bin", "bench", "--"]);
    let failure = cargo.args(args).env("COLLECTOR_DIST", workspace::dist()).exec();
    Err(failure).context("starting cargo for the bench")
}

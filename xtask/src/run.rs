//! `run`: the collector on this machine.

use crate::deps::{self, Need};
use crate::{build, workspace};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Builds, then becomes the collector: signals, exit code and standard streams are its own.
pub fn verb(flags: &[String]) -> Result<()> {
    deps::ensure(Need::Build)?;
    deps::mount_filesystems();
    build::everything()?;
    let collector = workspace::dist().join("collector");
    let failure = Command::new(&collector).args(flags).exec();
    Err(failure).with_context(|| format!("starting {}", collector.display()))
}

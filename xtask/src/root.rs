//! A fresh Debian, in which the packages are tested: a tar archive in `.cache/roots`, made once.

use crate::apt::Apt;
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The release whose root is taken everywhere, as with the servers.
const SUITE: &str = "bookworm";
/// What an installed Debian has, and what the collector's package depends on: it is installed without a network.
const PACKAGES: &str = "systemd-sysv,init-system-helpers,passwd,libelf1,zlib1g,libgcc-s1";

/// The archive; `COLLECTOR_ROOT` in the environment of tests.
pub fn archive() -> PathBuf {
    workspace::root().join(".cache/roots").join(SUITE).with_extension("tar")
}

/// Makes the archive, unless it is there.
pub fn fetch() -> Result<()> {
    let archive = archive();
    if archive.exists() {
        return Ok(());
    }
    let folder = archive.parent().context("a folder for the root")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let source = Apt::of(&[SUITE], folder)?.source(SUITE)?;
    let fresh = folder.join(format!("new-{}.tar", std::process::id()));
    eprintln!("making a root of Debian {SUITE}");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(&fresh).arg(source.trim());
    command::run(&mut mmdebstrap)?;
    fs::rename(&fresh, &archive).with_context(|| format!("keeping {}", archive.display()))
}

//! The tar archive: for distributions without packages of their own. `tar -C / -xf` installs it.

use super::{Package, VERSION};
use crate::command;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

pub fn make(package: &Package) -> Result<PathBuf> {
    let machine = std::env::consts::ARCH;
    let path = package.folder.join(format!("collector-{VERSION}-{machine}.tar"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--owner=root:0", "--group=root:0"]);
    tar.arg(format!("--mtime=@{}", package.epoch.0)).arg("--file").arg(&path);
    // Folders that every machine has are left as they are there.
    let mut files: Vec<PathBuf> = package.files()?;
    files.sort();
    command::run(tar.arg("-C").arg(package.root).args(&files))?;
    // One thread and one level: the same bytes on every machine.
    command::run(Command::new("xz").args(["-3", "--threads=1", "--force"]).arg(&path))?;
    path.to_str().map(|path| format!("{path}.xz").into()).context("a path that is no text")
}

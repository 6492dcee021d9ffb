//! Formats and lints: what needs no test executable.

use super::stage::Stage;
use super::todo;
use crate::{command, workspace};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Formats of the whole workspace.
pub fn format() -> Stage {
    let mut stage = Stage::begin("format");
    stage.check("cargo fmt", command::run(command::cargo().args(["fmt", "--all", "--check"])));
    let folders =
        ["collector/tests", "plugin-api", "plugin-bpf/bpf", "plugins", "tests", "xtask/src/arm64"];
    stage.check("clang-format", clang_format(&folders));
    stage.end()
}

/// Lints of the whole workspace, and of the documentation that plugin authors read.
pub fn lint() -> Stage {
    let mut stage = Stage::begin("lints");
    stage.check("clippy", clippy(&["--workspace"]));
    let mut doc = command::cargo();
    doc.args(["doc", "--no-deps", "--package", "plugin-api", "--package", "plugin-bpf"]);
    doc.args(["--package", "plugin-testing"]);
    stage.check("cargo doc", command::run(doc.env("RUSTDOCFLAGS", "-Dwarnings")));
    stage.end()
}

/// Format and lints of one plugin.
pub fn plugin(name: &str) -> Stage {
    let mut stage = Stage::begin("format and lints");
    let fmt = &mut command::cargo();
    stage.check("cargo fmt", command::run(fmt.args(["fmt", "--package", name, "--check"])));
    stage.check("clang-format", clang_format(&[&format!("plugins/{name}")]));
    stage.check("clippy", clippy(&["--package", name]));
    stage.end()
}

/// Format of one plugin in C; the compilers' warnings are errors when it is built.
pub fn c_plugin(name: &str) -> Stage {
    let mut stage = Stage::begin("format");
    stage.check("clang-format", clang_format(&[&format!("plugins/{name}")]));
    stage.end()
}

/// That the authors of plugins have written what the template leaves to them.
pub fn written(plugins: &[String]) -> Stage {
    let mut stage = Stage::begin("no TODO");
    plugins.iter().for_each(|name| _ = stage.check(&format!("plugins/{name}"), todo::none(name)));
    stage.end()
}

fn clippy(packages: &[&str]) -> Result<()> {
    let mut clippy = command::cargo();
    clippy.arg("clippy").args(packages).args(["--all-targets", "--", "-Dwarnings"]);
    command::run(&mut clippy)
}

fn clang_format(folders: &[&str]) -> Result<()> {
    let mut sources: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let files = workspace::files(&workspace::root().join(folder))?;
        sources.extend(files.into_iter().filter(|file| is_c(file)));
    }
    if sources.is_empty() {
        return Ok(());
    }
    command::run(Command::new("clang-format").args(["--dry-run", "-Werror"]).args(sources))
}

/// Not bpftool's vmlinux.h, and not a template, whose names are no C yet.
fn is_c(file: &Path) -> bool {
    let name = workspace::file_name(file);
    (name.ends_with(".c") || name.ends_with(".h"))
        && !name.contains('{')
        && !file.ends_with("plugin-api/include/vmlinux.h")
}

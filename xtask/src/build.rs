//! `build`: release binaries, installed into target/dist.

use crate::deps::{self, Need};
use crate::{artifacts, command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

pub fn verb(only: &[String]) -> Result<()> {
    deps::ensure(Need::Build)?;
    if only.is_empty() { everything() } else { plugins(only) }
}

/// The whole install tree; what no longer belongs there goes.
pub fn everything() -> Result<()> {
    let mut packages = workspace::plugins()?;
    packages.push("collector".to_owned());
    let mut tree = compile(&packages)?;
    let etc = workspace::root().join("etc");
    for file in workspace::files(&etc)? {
        tree.push((Path::new("etc").join(file.strip_prefix(&etc)?), file));
    }
    install(&tree)?;
    for file in workspace::files(&workspace::dist())? {
        let place = file.strip_prefix(workspace::dist())?;
        if !tree.iter().any(|(known, _)| known == place) {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

fn plugins(names: &[String]) -> Result<()> {
    names.iter().try_for_each(|name| workspace::check_plugin(name))?;
    install(&compile(names)?)
}

/// Compiles packages; each binary and plugin with its place in the install tree.
fn compile(packages: &[String]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release"]);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    let mut tree = Vec::new();
    for artifact in artifacts::of(&mut cargo)? {
        if !artifact.package.starts_with(workspace::root()) {
            continue;
        }
        if let Some(file) = artifact.executable {
            tree.push((workspace::file_name(&file).into(), file));
        } else if artifact.kinds.iter().any(|kind| kind == "cdylib") {
            let libraries =
                artifact.files.into_iter().filter(|f| f.extension() == Some("so".as_ref()));
            tree.extend(
                libraries.map(|f| (Path::new("plugins").join(workspace::file_name(&f)), f)),
            );
        }
    }
    Ok(tree)
}

/// Puts files into the install tree. A file is never written in place: a collector that has it
/// mapped would die. One that did not change stays as it is.
fn install(tree: &[(PathBuf, PathBuf)]) -> Result<()> {
    let dist = workspace::dist();
    let fresh = dist.join(".new");
    for (place, source) in tree {
        let target = dist.join(place);
        let content = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        if fs::read(&target).is_ok_and(|old| old == content) {
            continue;
        }
        let swap = || {
            fs::create_dir_all(target.parent().unwrap_or(&dist))?;
            fs::copy(source, &fresh)?;
            fs::rename(&fresh, &target)
        };
        swap().with_context(|| format!("installing {}", target.display()))?;
    }
    Ok(())
}

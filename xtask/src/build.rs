//! `build`: release binaries, installed into target/dist.

use crate::deps::{self, Need};
use crate::{artifacts, command, sdk, workspace};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Places in the install tree, and the files that belong there.
type Tree = Vec<(PathBuf, PathBuf)>;

pub fn verb(only: &[String]) -> Result<()> {
    deps::ensure(Need::Build)?;
    if only.is_empty() { everything() } else { plugins(only) }
}

/// The whole install tree; what no longer belongs there goes.
pub fn everything() -> Result<()> {
    let mut packages = workspace::plugins()?;
    packages.push("collector".to_owned());
    let (mut tree, libbpf) = compile(&packages)?;
    tree.extend(sdk::files(workspace::root(), &libbpf).context("the headers for C plugins")?);
    let etc = workspace::root().join("etc");
    for file in workspace::files(&etc)? {
        tree.push((Path::new("etc").join(file.strip_prefix(&etc)?), file));
    }
    let bpfso = tree.iter_mut().find(|(place, _)| place == Path::new("etc/bpfso.mk"));
    bpfso.context("etc/bpfso.mk")?.1 = bpfso_mk()?;
    install(&tree)?;
    let in_c = compile_c(&workspace::c_plugins()?)?;
    install(&in_c)?;
    tree.extend(in_c);
    for file in workspace::files(&workspace::dist())? {
        let place = file.strip_prefix(workspace::dist())?;
        if !tree.iter().any(|(known, _)| known == place) {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

fn plugins(names: &[String]) -> Result<()> {
    let (mut packages, mut in_c) = (Vec::new(), Vec::new());
    for name in names {
        let of_kind = if workspace::is_c_plugin(name)? { &mut in_c } else { &mut packages };
        of_kind.push(name.clone());
    }
    if !in_c.is_empty() {
        // They are made with the headers of the install tree.
        return everything();
    }
    install(&compile(&packages)?.0)
}

/// bpfso.mk for the install tree.
fn bpfso_mk() -> Result<PathBuf> {
    let source = workspace::root().join("etc/bpfso.mk");
    let text = fs::read_to_string(&source).context("reading etc/bpfso.mk")?;
    let made = workspace::root().join("target/bpfso.mk");
    fs::write(&made, sdk::bpfso_mk(&text, &workspace::dist()))
        .with_context(|| format!("writing {}", made.display()))?;
    Ok(made)
}

/// Makes plugins in C, with the installed headers, as their authors do.
fn compile_c(names: &[String]) -> Result<Tree> {
    let mut tree = Vec::new();
    for name in names {
        let library = format!("lib{name}.so");
        let objects = workspace::root().join("target/c").join(name);
        let so = objects.join(&library);
        let mut make = Command::new("make");
        make.arg("-C").arg(workspace::root().join("plugins").join(name));
        make.arg(format!("so={}", so.display())).arg(format!("objdir={}", objects.display()));
        make.arg("CFLAGS=-Wextra -Werror").arg("BPFFLAGS=-Werror");
        command::run(make.env("COLLECTOR_DIST", workspace::dist()))?;
        tree.push((Path::new("plugins").join(library), so));
    }
    Ok(tree)
}

/// The program that writes manual pages and completions. It is compiled beside all the others, so that nothing which
/// they share is compiled twice.
pub fn pages() -> Result<PathBuf> {
    let mut packages = workspace::plugins()?;
    packages.extend(["collector", "pages"].map(str::to_owned));
    let (tree, _) = compile(&packages)?;
    let mut found = tree.into_iter().filter(|(place, _)| place == Path::new("pages"));
    Ok(found.next().context("no program `pages` was compiled")?.1)
}

/// Folders of this machine are in no release binary: what is built elsewhere of the same sources is the same. Every
/// release build has to be told, or cargo would compile everything again for the next one.
pub fn name_no_folders(cargo: &mut Command) -> Result<()> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let flags = [(workspace::root(), "/usr/src/collector"), (home.as_path(), "/usr/src/cargo")];
    let flags = flags.map(|(here, there)| {
        serde_json::Value::from(format!("--remap-path-prefix={}={there}", here.display()))
    });
    // A list of texts is the same in JSON and TOML.
    cargo
        .arg("--config")
        .arg(format!("build.rustflags={}", serde_json::Value::from(flags.to_vec())));
    Ok(())
}

/// Compiles packages: each binary and plugin with its place in the install tree, and the folder of libbpf.
fn compile(packages: &[String]) -> Result<(Tree, PathBuf)> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release"]);
    name_no_folders(&mut cargo)?;
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    let mut tree = Vec::new();
    let made = artifacts::made(&mut cargo)?;
    let mut libbpf = made.out_dirs.into_iter().filter(|(id, _)| id.contains("libbpf-sys"));
    let (_, libbpf) = libbpf.next_back().context("no package that uses libbpf was compiled")?;
    for artifact in made.artifacts {
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
    Ok((tree, libbpf))
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

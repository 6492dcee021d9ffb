//! Where things lie in the workspace.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fs, io};

/// The folder that holds the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    // That which cargo runs it for: a copy of the repository that shares its compiled crates has the same program.
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let run = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = run.filter(|package| package.ends_with("xtask"));
        let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        package.parent().expect("xtask lies inside the workspace").to_owned()
    });
    &ROOT
}

/// The install tree.
pub fn dist() -> PathBuf {
    root().join("target/dist")
}

/// The plugins' names: every folder of plugins/ that is a package, sorted.
pub fn plugins() -> Result<Vec<String>> {
    let folder = root().join("plugins");
    let mut names = Vec::new();
    for entry in list(&folder)? {
        if entry.join("Cargo.toml").exists() {
            names.push(file_name(&entry));
        }
    }
    Ok(names)
}

/// The plugins in C: every folder of plugins/ that has a Makefile and is no package, sorted.
pub fn c_plugins() -> Result<Vec<String>> {
    let folders = list(&root().join("plugins"))?.into_iter();
    let in_c = |path: &PathBuf| path.join("Makefile").exists() && !path.join("Cargo.toml").exists();
    Ok(folders.filter(in_c).map(|path| file_name(&path)).collect())
}

/// Whether a plugin is one in C. Fails, with the names that exist, when there is none of that name.
pub fn is_c_plugin(name: &str) -> Result<bool> {
    if c_plugins()?.iter().any(|known| known == name) {
        return Ok(true);
    }
    check_plugin(name)?;
    Ok(false)
}

/// Fails, with the names that exist, when a plugin in Rust does not.
pub fn check_plugin(name: &str) -> Result<()> {
    let known = plugins()?;
    if !known.iter().any(|k| k == name) {
        bail!("there is no plugin {name} in plugins/; the plugins are: {}", known.join(", "));
    }
    Ok(())
}

/// All files below a folder, sorted; none when the folder does not exist.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for path in list(folder)? {
            if path.is_dir() {
                found.extend(files(&path)?);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// A folder's entries, sorted.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = read().with_context(|| format!("listing {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// The last part of a path as text.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

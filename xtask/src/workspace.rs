//! Where things lie in the workspace.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The folder that holds the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace")
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

/// Fails, with the names that exist, when a plugin does not.
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

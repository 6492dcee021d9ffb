//! Which plugins folder, and which plugins of it.

use crate::cli::{Settings, Usage};
use crate::load::{self, Folder, Plugin};
use crate::nearest::{did_you_mean, nearest};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Where a package puts the plugins.
const INSTALLED: &str = "/usr/lib/collector/plugins";

/// The folder that is named, else the first one that exists.
///
/// # Errors
/// None exists.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = named {
        if !dir.is_dir() {
            let what = if dir.exists() { "is a file: name the folder" } else { "does not exist" };
            bail!(Usage(format!("the plugins folder {} {what}", dir.display())));
        }
        return Ok(dir.to_owned());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("plugins")));
    let dirs: Vec<PathBuf> =
        beside.into_iter().chain(["plugins".into(), INSTALLED.into()]).collect();
    match dirs.iter().find(|dir| dir.is_dir()) {
        Some(dir) => Ok(dir.clone()),
        None => {
            let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            bail!("no plugins folder: looked for {}; name one by --plugins DIR", dirs.join(", "))
        }
    }
}

/// Opens the settings' plugins folder.
///
/// # Errors
/// It does not exist or cannot be read.
pub fn open(settings: &Settings) -> Result<Folder> {
    load::folder(&find(settings.config.plugins.as_deref())?)
}

/// Makes sure that every name is that of a plugin in the folder.
///
/// # Errors
/// One is not: why its file was refused, or the nearest name and all that there are.
pub fn check_names<'a>(folder: &Folder, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for name in names {
        if folder.plugins.iter().any(|plugin| plugin.description.name == name) {
            continue;
        }
        if let Some(refused) = folder.refused.iter().find(|refused| refused.name() == name) {
            bail!("{} is no plugin: {}", refused.path.display(), refused.reason);
        }
        let known: Vec<&str> = folder.plugins.iter().map(|p| p.description.name.as_str()).collect();
        let near = did_you_mean(nearest(name, known.iter().copied()));
        match &*known {
            [] => bail!(Usage(format!("no plugin `{name}`: the folder holds none"))),
            known => {
                bail!(Usage(format!("no plugin `{name}`{near}: there are {}", known.join(", "))))
            }
        }
    }
    Ok(())
}

/// The plugin of a name.
///
/// # Errors
/// As [`check_names`].
pub fn one(mut folder: Folder, name: &str) -> Result<Plugin> {
    check_names(&folder, [name])?;
    folder.plugins.retain(|plugin| plugin.description.name == name);
    Ok(folder.plugins.remove(0))
}

//! Which plugins folder, and which plugins of it.

use crate::capabilities::CapabilitySet;
use crate::load::{self, Contents, NoPlugin, Plugin, Rules};
use crate::nearest::{did_you_mean, nearest};
use crate::settings::{Settings, Usage};
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

/// Opens the settings' plugins folder, and in it the files whose names are wanted.
///
/// # Errors
/// It does not exist or cannot be read.
pub fn open(settings: &Settings, wanted: &dyn Fn(&str) -> bool) -> Result<Contents> {
    let rules = Rules {
        allowed: settings.config.plugins_sha256.as_ref(),
        configured: &|name| wanted(name).then(|| settings.plugin(name)),
    };
    load::folder(&find(settings.config.plugins.as_deref())?, rules)
}

/// Makes sure that every name is that of a plugin in the folder.
///
/// # Errors
/// One is not: why its file was refused, or the nearest name and all that there are.
pub fn check_names<'a>(folder: &Contents, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for name in names {
        if folder.plugins.iter().any(|plugin| plugin.description.name == name)
            || folder.unopened.iter().any(|unopened| unopened == name)
        {
            continue;
        }
        if let Some(refused) = folder.refused.iter().find(|refused| refused.name() == name) {
            bail!("{} is no plugin: {}", refused.path.display(), refused.reason);
        }
        let mut known: Vec<&str> =
            folder.plugins.iter().map(|p| p.description.name.as_str()).collect();
        known.extend(folder.unopened.iter().map(String::as_str));
        known.sort_unstable();
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

/// A section for a plugin that is not there is likely a slip; the plugin may also come later.
pub fn warn_of_sections_without_plugin(settings: &Settings, folder: &Contents) {
    let mut names: Vec<String> = folder.unopened.clone();
    names.extend(folder.plugins.iter().map(|plugin| plugin.description.name.clone()));
    names.extend(folder.refused.iter().map(NoPlugin::name));
    for section in settings.config.sections.keys() {
        if !names.contains(section) {
            let near = did_you_mean(nearest(section, names.iter().map(String::as_str)));
            log::warn!("[plugin.{section}] is configured, but no such plugin is there{near}");
        }
    }
}

/// The plugin of a name; no other file is opened.
///
/// # Errors
/// As [`check_names`].
pub fn one(settings: &Settings, name: &str) -> Result<Plugin> {
    let mut folder = open(settings, &|other| other == name)?;
    check_names(&folder, [name])?;
    Ok(folder.plugins.remove(0))
}

/// What plugins ask for with their options, beside what every plugin gets.
#[must_use]
pub fn asked(settings: &Settings, plugins: &[&Plugin]) -> CapabilitySet {
    let asked = plugins.iter().map(|it| it.asked(&settings.plugin(&it.description.name).options));
    asked.fold(CapabilitySet::empty(), |all, asked| all | asked)
}
